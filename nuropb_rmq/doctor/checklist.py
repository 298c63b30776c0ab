"""All checks, and the loop over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .checks import broker, exchanges, instances, letters, others, queue, sight, way
from .facts import DoesNotApply, Facts, Subject, Unseen
from .finding import Area, Check, Finding, Level
from .looking import look

CHECKS: Final[Mapping[Area, Sequence[Check]]] = {
    Area.WAY: (*way.CHECKS, *sight.CHECKS),
    Area.BROKER: broker.CHECKS,
    Area.EXCHANGES: exchanges.CHECKS,
    Area.QUEUE: queue.CHECKS,
    Area.INSTANCES: instances.CHECKS,
    Area.LETTERS: letters.CHECKS,
    Area.OTHERS: others.CHECKS,
}
_WORST_FIRST: Final = tuple(Level)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding, and the check that made it."""

    area: Area
    check: str
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of all checks."""

    findings: tuple[Found, ...]
    done: tuple[str, ...]
    """Checks that saw all they look at."""
    left_out: Mapping[str, str]
    """Checks that did not, and the fact that cannot be seen."""
    unseen: Mapping[str, str]
    """Why these facts cannot be seen, as far as it is known."""

    @property
    def first(self) -> Found | None:
        """The finding to begin with: the first of the worst. None: there are only notes."""
        for level in (Level.ERROR, Level.WARNING):
            for each in self.findings:
                if each.finding.level is level:
                    return each
        return None

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(each.finding.level is level for each in self.findings)


async def examine(subject: Subject) -> Report:
    """Look at a deployment; see `look` for what is raised."""
    return judge(await look(subject))


def judge(facts: Facts) -> Report:
    """Run all checks on the facts."""
    findings: list[Found] = []
    done: list[str] = []
    left_out: dict[str, str] = {}
    for area, checks in CHECKS.items():
        for check in checks:
            try:
                for finding in check.look(facts):
                    findings.append(Found(area, check.name, finding))
            except DoesNotApply:
                continue
            except Unseen as e:
                left_out[check.name] = e.fact
            else:
                done.append(check.name)
    order = {area: place for place, area in enumerate(CHECKS)}
    findings.sort(key=lambda each: (order[each.area], _WORST_FIRST.index(each.finding.level)))
    return Report(
        findings=tuple(findings), done=tuple(done), left_out=left_out, unseen=facts.unseen
    )
