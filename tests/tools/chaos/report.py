"""The text for people who watch a run: its progress, and the table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TextIO

from .journal import now
from .ledger import CONFIRMED, Ledger
from .oracle import BOUNDS, STOP_WITHIN, TWO_AT_ONCE, Run, Verdict, destinations
from .plan import Fault, Kind

EVERY = 10.0
"""Seconds between two lines about the calls."""
KINDS = ("request", "command", "event")


class Report:
    """Writes to whoever watches."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began = now()
        self.told = now()
        self._faults = 0

    def say(self, text: str) -> None:
        """A line, with the time since the beginning."""
        minutes, seconds = divmod(now() - self._began, 60)
        print(f"{minutes:02.0f}:{seconds:04.1f}  {text}", file=self._out, flush=True)

    def begin(self, version: str, seed: int, seconds: float, programs: int) -> None:
        """Announce the run."""
        self.say(
            f"RabbitMQ {version}, seed {seed}, {seconds / 60:g} min, {programs} programs, "
            "a proxy in front of each"
        )

    def progress(self, ledger: Ledger) -> None:
        """Now and then: how many calls there were, and how they ended."""
        if now() - self.told < EVERY:
            return
        self.told = now()
        totals: Counter[str] = Counter()
        for outcomes in ledger.outcomes.values():
            totals.update(outcomes)
        ends = ", ".join(f"{count:,} {how}" for how, count in totals.most_common())
        self.say(f"          {len(ledger.calls):,} calls: {ends}")

    def inflicting(self, fault: Fault) -> None:
        """A fault is about to come."""
        self._faults += 1
        self.say(f"fault {self._faults}: {fault}")

    def recovered(self, seconds: float) -> None:
        """All works again."""
        self.say(f"          works again after {seconds:.2f} s")

    def stuck(self, missing: Sequence[str]) -> None:
        """Not all works again."""
        self.say(f"          FAILED: not all works again: {'; '.join(missing)}")


def table(ledger: Ledger, run: Run, verdict: Verdict) -> Iterator[str]:
    """The lines of the table."""
    yield f"{'calls':<42}{'requests':>12}{'commands':>12}{'events':>12}"
    yield _row("sent", [Counter(each.kind for each in ledger.calls.values())[k] for k in KINDS])
    for how in sorted({how for outcomes in ledger.outcomes.values() for how in outcomes}):
        yield _row(f"  {how}", [ledger.outcomes[kind][how] for kind in KINDS])
    callers = Counter(
        each.kind
        for each in ledger.calls.values()
        if each.ended is None and each.client in run.killed
    )
    yield _row("  their caller was killed", [callers[kind] for kind in KINDS])
    yield ""
    yield _count("calls that never ended", verdict.hung)
    yield _count("ended later than timeout + 2 s", verdict.late)
    yield _count("wrong answers", verdict.wrong)
    yield _count("confirmed commands lost", verdict.lost_commands)
    yield _count("confirmed events lost", verdict.lost_events)
    yield _count("handled, though reported as never sent", verdict.undead)
    yield _count("unexpected outcomes", verdict.unexpected)
    yield _count("stops that took too long", verdict.slow_stops)
    yield _count("left behind by a program", verdict.left)
    yield f"{'handled more than once':<42}{verdict.duplicates:>12,}"
    clients = {each.client for each in ledger.calls.values()}
    lost_confirms = _handled_without_confirm(ledger, run)
    yield f"{'outcome unknown, and handled':<42}{lost_confirms:>12,}"
    pauses = [ledger.ends[each]["pause"] for each in ledger.ends.keys() & clients]
    yield f"{'longest pause of an event loop, clients':<42}{max(pauses, default=0.0):>10.2f} s"
    yield ""
    yield f"{'works again after, in seconds':<42}{'times':>12}{'median':>12}{'worst':>12}  at most"
    for name in (*(kind.value for kind in Kind), TWO_AT_ONCE):
        seconds = run.recoveries.get(name)
        if seconds:
            yield _times(name, seconds, *BOUNDS.get(name, (None, None)))
    faults = sum(map(len, run.recoveries.values())) + len(run.stuck)
    yield f"{'all faults':<42}{faults:>12}"
    yield ""
    yield f"{'stop() took, in seconds':<42}{'times':>12}{'median':>12}{'worst':>12}  at most"
    stops = {program: record["stop"] for program, record in ledger.ends.items()}
    for name, took in (
        ("in order", [each for program, each in stops.items() if program not in run.holed]),
        ("in a black hole", [each for program, each in stops.items() if program in run.holed]),
    ):
        if took:
            yield _times(name, took, None, STOP_WITHIN)
    yield ""
    yield from _figures(ledger, run, faults)


def _times(name: str, seconds: Sequence[float], usual: float | None, worst: float | None) -> str:
    """Return a row: number, median and worst of the times, and whether they keep the bounds."""
    line = f"{name:<42}{len(seconds):>12}{median(seconds):>12.2f}{max(seconds):>12.2f}"
    if worst is None:
        return line
    kept = max(seconds) <= worst and (usual is None or len(seconds) < 3 or median(seconds) <= usual)
    bounds = f"{worst:g}" if usual is None else f"{usual:g} / {worst:g}"
    return f"{line}  {bounds:<8} {'kept' if kept else 'MISSED'}"


def _figures(ledger: Ledger, run: Run, faults: int) -> Iterator[str]:
    """Yield the size of the run, beside the size that is needed to show that promises are kept."""
    kills = len(run.recoveries.get(Kind.KILL_BROKER.value, ()))
    yield f"{'size of the run':<42}{'reached':>12}{'to reach':>12}"
    for name, reached, wanted in (
        ("calls", len(ledger.calls), 20_000),
        ("mixed faults", faults, 60),
        ("confirmed commands", ledger.outcomes["command"][CONFIRMED], 20_000),
        ("kills of the broker alone", kills, 20),
    ):
        yield f"{name:<42}{reached:>12,}{wanted:>12,}  {'reached' if reached >= wanted else 'not'}"


def _row(name: str, counts: Sequence[int]) -> str:
    return f"{name:<42}" + "".join(f"{count:>12,}" for count in counts)


def _count(name: str, cases: Sequence[str]) -> str:
    return f"{name:<42}{len(cases):>12,}" + (f"  {', '.join(cases[:3])}" if cases else "")


def _handled_without_confirm(ledger: Ledger, run: Run) -> int:
    return sum(
        call.outcome == "NuropbOutcomeUnknownError"
        and all(ledger.effects[call.id, to] for to in destinations(run, call))
        for call in ledger.calls.values()
    )
