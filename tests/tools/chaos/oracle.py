"""The checks at the end: what must be true, and how long everything took to work again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from nuropb_rmq.transport.transport import DEFAULT_GRACE

from .ledger import ANSWERED, CONFIRMED, Call, Ledger
from .plan import Kind

GRACE = 2.0
"""Seconds behind its timeout by which every call must have ended."""
STOP_WITHIN = DEFAULT_GRACE + 5.0
"""Seconds that a stop() may take, in a black hole too."""
TWO_AT_ONCE = "two at once"
NEVER_SENT = ("NuropbNotSentError", "NuropbNotDeliveredError", "OutboxFullError")
"""Ends which say that nobody will ever handle it."""
EXPECTED = {
    "request": {
        ANSWERED, "NuropbNotSentError", "NuropbTimeoutError", "NuropbOutcomeUnknownError",
        "OutboxFullError",
    },
    "command": {
        CONFIRMED, "NuropbNotSentError", "NuropbOutcomeUnknownError", "OutboxFullError",
    },
}  # fmt: skip
EXPECTED["event"] = EXPECTED["command"]
BOUNDS: Mapping[str, tuple[float | None, float]] = {
    Kind.RESET.value: (2.0, 5.0),
    Kind.FIN.value: (2.0, 5.0),
    Kind.KILL_BROKER.value: (5.0, 10.0),
    Kind.RESTART_BROKER.value: (5.0, 10.0),
    Kind.BLACK_HOLE.value: (35.0, 40.0),
    Kind.CUT.value: (2.0, 5.0),
    Kind.CLOSE_CHANNEL.value: (None, 5.0),
    Kind.CLOSE_CONNECTION.value: (None, 5.0),
    Kind.DELETE_QUEUE.value: (None, 10.0),
    Kind.MEMORY_ALARM.value: (None, 2.0),
}
"""Seconds until all works again: median and worst."""


@dataclass(frozen=True, slots=True)
class Inflicted:
    """A fault as it was inflicted.

    From `since` on it was there; it is over for us when, after `ref`, a request of every client
    has been answered (by the service `asks`, if it is about that one), and every program in `hit`
    has become ready after it was not.
    """

    name: str
    since: float
    ref: float
    hit: frozenset[str] = frozenset()
    asks: str | None = None

    def with_another(self, other: Inflicted) -> Inflicted:
        """Both of them, as one fault that is over when both are."""
        return Inflicted(
            TWO_AT_ONCE,
            min(self.since, other.since),
            max(self.ref, other.ref),
            self.hit | other.hit,
            self.asks or other.asks,
        )

    def over(self, ledger: Ledger, programs: Sequence[str], clients: Sequence[str]) -> float | None:
        """When it was; None when it is not."""
        times = [ledger.works_since(each, self.ref, self.asks) for each in clients]
        times += [ledger.ready_since(each, self.since) for each in self.hit if each in programs]
        known = [each for each in times if each is not None]
        if len(known) < len(times) or not all(ledger.is_ready(each) for each in programs):
            return None
        return max(known)

    def missing(self, ledger: Ledger, programs: Sequence[str], clients: Sequence[str]) -> list[str]:
        """Why it is not over yet."""
        asked = f" by {self.asks}" if self.asks else ""
        return [
            *(
                f"no request of {each} was answered{asked}"
                for each in clients
                if ledger.works_since(each, self.ref, self.asks) is None
            ),
            *(
                f"{each} is {ledger.states[each][-1:]}, or has not noticed"
                for each in programs
                if not ledger.is_ready(each)
                or (each in self.hit and ledger.ready_since(each, self.since) is None)
            ),
        ]


@dataclass(slots=True)
class Run:
    """The facts of a run that the conductor knows and no log contains."""

    recoveries: dict[str, list[float]] = field(default_factory=dict)
    """Name of a fault → seconds until all worked again, each time."""
    stuck: list[str] = field(default_factory=list)
    """Faults after which not all worked again."""
    killed: set[str] = field(default_factory=set)
    """Programs that were killed by us, with their calls."""
    holed: set[str] = field(default_factory=set)
    """Programs that were told to stop while their connections were black holes."""
    broken: list[str] = field(default_factory=list)
    """Other failures: a program that ended by itself, a queue that was not drained."""
    subscribers: Sequence[str] = ()
    """Services that every event must reach."""
    mortal: frozenset[str] = frozenset()
    """Services whose queue is deleted now and then."""

    def recovered(self, name: str, seconds: float) -> None:
        """A fault is over."""
        self.recoveries.setdefault(name, []).append(seconds)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the comparison. All but `duplicates` must be empty."""

    hung: Sequence[str]
    late: Sequence[str]
    wrong: Sequence[str]
    lost_commands: Sequence[str]
    lost_events: Sequence[str]
    undead: Sequence[str]
    """Handled although its sender was told that it was never sent."""
    unexpected: Sequence[str]
    duplicates: int
    over_bounds: Sequence[str]
    slow_stops: Sequence[str]
    left: Sequence[str]
    broken: Sequence[str]

    def failures(self) -> list[str]:
        """One line for each thing that must not be."""
        found = []
        for what, cases in (
            ("calls that never ended", self.hung),
            (f"calls that ended later than timeout + {GRACE:g} s", self.late),
            ("wrong answers, and content that was damaged", self.wrong),
            ("confirmed commands that were lost", self.lost_commands),
            ("confirmed events that were lost", self.lost_events),
            ("messages handled although they were reported as never sent", self.undead),
            ("unexpected outcomes", self.unexpected),
            ("recoveries over their bound", self.over_bounds),
            (f"stops that took longer than {STOP_WITHIN:g} s", self.slow_stops),
            ("left behind by a client", self.left),
            ("broken", self.broken),
        ):
            if cases:
                found.append(f"{len(cases)} {what}: {', '.join(cases[:5])}")
        return found


def judge(ledger: Ledger, run: Run) -> Verdict:
    """Compare the logs, by correlation id."""
    calls = ledger.calls.values()
    ended = [(each, each.ended) for each in calls if each.ended is not None]
    return Verdict(
        hung=[each.id for each in calls if each.ended is None and each.client not in run.killed],
        late=[
            f"{each.id} ({at - each.begun - each.timeout:+.1f} s)"
            for each, at in ended
            if at - each.begun > each.timeout + GRACE
        ],
        wrong=[*_wrong(ledger), *ledger.damaged, *ledger.twice],
        lost_commands=[*_lost(ledger, run, "command")],
        lost_events=[*_lost(ledger, run, "event")],
        undead=[each.id for each, _ in ended if _is_undead(ledger, run, each)],
        unexpected=[
            f"{each.id} ({each.outcome})" for each, _ in ended if not _is_expected(run, each)
        ],
        duplicates=sum(count - 1 for count in ledger.effects.values()),
        over_bounds=[*_over_bounds(run)],
        slow_stops=[
            f"{program}: {record['stop']:.1f} s"
            for program, record in ledger.ends.items()
            if record["stop"] > STOP_WITHIN
        ],
        left=[*_left(ledger)],
        broken=[*run.broken, *(f"not all worked again: {each}" for each in run.stuck)],
    )


def destinations(run: Run, call: Call) -> Sequence[str]:
    """The services that a call must reach."""
    return run.subscribers if call.kind == "event" else (call.to,)


def _wrong(ledger: Ledger) -> Iterator[str]:
    for call in ledger.calls.values():
        if call.outcome == ANSWERED and call.answer != [call.id, call.digest]:
            yield call.id


def _lost(ledger: Ledger, run: Run, kind: str) -> Iterator[str]:
    for call in ledger.calls.values():
        if call.kind == kind and call.outcome == CONFIRMED:
            for to in destinations(run, call):
                if not (ledger.letters[call.id] if call.fails else ledger.effects[call.id, to]):
                    yield f"{call.id} at {to}{' (dead letter)' if call.fails else ''}"


def _is_undead(ledger: Ledger, run: Run, call: Call) -> bool:
    return call.outcome in NEVER_SENT and any(
        ledger.effects[call.id, to] for to in destinations(run, call)
    )


def _is_expected(run: Run, call: Call) -> bool:
    if call.outcome == "NuropbNotDeliveredError":
        return call.to in run.mortal
    return call.outcome in EXPECTED[call.kind]


def _over_bounds(run: Run) -> Iterator[str]:
    for name, seconds in run.recoveries.items():
        usual, worst = BOUNDS.get(name, (None, None))
        if worst is not None and max(seconds) > worst:
            yield f"{name}: {max(seconds):.1f} s, at most {worst:g} s"
        if usual is not None and len(seconds) >= 3 and median(seconds) > usual:
            yield f"{name}: {median(seconds):.1f} s in the median, at most {usual:g} s"


def _left(ledger: Ledger) -> Iterator[str]:
    for program, record in ledger.ends.items():
        for what in ("tasks", "pending", "keys"):
            if record[what]:
                yield f"{program}: {record[what]} {what}"
