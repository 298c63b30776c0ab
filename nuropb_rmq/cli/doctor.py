"""`doctor`: what is wrong with a deployment, and what repairs it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..printable import printable
from .conventions import URL_VARIABLE, CommandError, counted
from .subject import Target, config_of
from .verbs import At, ManagementUrl, verb

if TYPE_CHECKING:
    from ..doctor.checklist import Found, Report
    from .output import Output

FOUND: Final = 3
"""Exit status when an error or a warning was found."""
_LINES: Final = 3
"""Facts that are not seen and get a line each."""
_NAMES: Final = 5
"""Checks that are named in one line."""
_STYLES: Final = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "doctor", epilog=_EXIT)(doctor)


_EXIT: Final = "Exit status: 0 nothing but notes; 3 errors or warnings; 1, 2 and 130 as ever."


async def doctor(
    at: At,
    target: Target = "",
    *,
    client: Annotated[
        bool, typer.Option("--client", help="SERVICE is a client: it serves nothing.")
    ] = False,
    management_url: ManagementUrl = None,
) -> int:
    """Look for what is wrong: broker, permissions, queues, dead letters. Nothing is changed.

    nuropb-rmq doctor orders

    Best with the URL that the service uses, for its permissions are looked at, and with the
    management API's of a user who may see all (--management-url; tags monitoring and policymaker,
    permissions '^$' '^$' '^$').
    """
    from ..doctor.checklist import examine  # noqa: PLC0415 - loads the library
    from ..doctor.facts import Subject  # noqa: PLC0415

    config = config_of(at, target)
    if client and not target:
        raise CommandError("--client: name the client")
    if client:
        config = dataclasses.replace(config, client_only=True)
    subject = Subject(
        config=config, target=target, declared=":" in target, api_url=management_url or None
    )
    report = await examine(subject)
    if at.json:
        at.out.data(_document(report, str(config.broker)))
    else:
        show(at.out, report, url_given=bool(at.url))
    return 0 if report.first is None else FOUND


def _document(report: Report, broker: str) -> dict[str, Any]:
    first = report.first
    return {
        "broker": broker,
        "findings": [
            {
                "check": each.check,
                "area": each.area.value,
                "level": each.finding.level.value,
                "text": each.finding.text,
                "fix": list(each.finding.fix),
            }
            for each in report.findings
        ],
        "done": list(report.done),
        "left_out": dict(report.left_out),
        "unseen": dict(report.unseen),
        "first": None if first is None else first.check,
    }


def show(out: Output, report: Report, *, url_given: bool = False) -> None:
    """Print a report for people; `url_given`: --url is not there when its commands are run."""
    area = None
    for each in report.findings:
        if each.area is not area:
            out.line(each.area.value, "bold")
            area = each.area
        _print_finding(out, each)
    if url_given and any(
        fix.startswith("nuropb-rmq") for each in report.findings for fix in each.finding.fix
    ):
        out.line(f"The commands above take the broker from {URL_VARIABLE}.", "dim")
    for line in _left_out(report):
        out.line(_whole(line), "dim")
    # Not wrapped by us, as the commands.
    out.console.print(_whole(_ending(report)), style="bold", soft_wrap=True)


def _print_finding(out: Output, found: Found) -> None:
    from rich.padding import Padding  # noqa: PLC0415 - takes a while to load
    from rich.text import Text  # noqa: PLC0415

    level = found.finding.level.value
    head = Text.assemble((level, _STYLES[level]), f" {found.check}: ")
    out.console.print(Padding(head.append(printable(found.finding.text)), (0, 0, 0, 2)))
    for fix in found.finding.fix:
        # Not wrapped by us, so that it can be copied as one line.
        out.console.print(Text(f"    $ {_whole(fix)}", style="green"), soft_wrap=True)


def _ending(report: Report) -> str:
    """Return the last line: what to do first."""
    from ..doctor.finding import Level  # noqa: PLC0415 - loads the library

    left = f", {counted(len(report.left_out), 'check')} left out" if report.left_out else ""
    first = report.first
    if first is None:
        told = "Nothing was found in what could be seen" if left else "Nothing is wrong"
        return f"{told}: {counted(len(report.done), 'check')}{left}."
    counts = [(report.count(level), level.value) for level in (Level.ERROR, Level.WARNING)]
    told = ", ".join(counted(n, name) for n, name in counts if n)
    return f"{told}{left}. First: {_first_step(first)}"


def _left_out(report: Report) -> list[str]:
    """Return the checks that were left out, and the reason: a line for each fact, or one for all.

    Where many facts are not seen, the findings say why.
    """
    from ..doctor.facts import label  # noqa: PLC0415 - loads the library

    by_fact: dict[str, list[str]] = {}
    for check, fact in report.left_out.items():
        by_fact.setdefault(fact, []).append(check)
    if len(by_fact) > _LINES:
        facts = ", ".join(map(label, by_fact))
        return [f"Left out: {_some([*report.left_out])}; not seen: {facts}."]
    why = {fact: f" ({told})" for fact, told in report.unseen.items()}
    return [
        f"Left out: {_some(checks)}; not seen: {label(fact)}{why.get(fact, '')}."
        for fact, checks in by_fact.items()
    ]


def _some(names: list[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _first_step(first: Found) -> str:
    """Return the command to begin with, or in words what to do, or to know before it is run."""
    found = first.finding
    return (
        found.fix[0] if found.fix and not found.do else f"{first.check}: {found.do or found.text}"
    )


def _whole(command: str) -> str:
    """Return a command that can be shown: never shortened, for half of one may do harm."""
    return printable(command, len(command))
