"""The contents of the logs: every call with its end, every effect, every change of state."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from .journal import Record

READY = "READY"
CONFIRMED = "confirmed"
ANSWERED = "answered"


@dataclass(slots=True)
class Call:
    """A request, a command or an event that a client has sent."""

    id: str
    client: str
    kind: str
    to: str
    begun: float
    timeout: float
    digest: int
    fails: bool = False
    """It is to end as a dead letter."""
    ended: float | None = None
    outcome: str | None = None
    answer: Any = None


@dataclass(slots=True)
class Answered:
    """A request that was answered."""

    begun: float
    ended: float
    to: str


@dataclass(slots=True)
class Ledger:
    """All that was logged until now."""

    calls: dict[str, Call] = field(default_factory=dict)
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Kind of call → how often it ended how."""
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(id, service) → how often it was handled there."""
    letters: Counter[str] = field(default_factory=Counter)
    """id → how many dead letters of it there are at the end."""
    damaged: list[str] = field(default_factory=list)
    """Handled with other content than was sent."""
    twice: list[str] = field(default_factory=list)
    """Ended more than once, or never begun."""
    answered: dict[str, list[Answered]] = field(default_factory=lambda: defaultdict(list))
    states: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, Record] = field(default_factory=dict)

    def feed(self, program: str, kind: str, record: Record) -> None:
        """Enter one record of a log."""
        match kind:
            case "sent":
                call = Call(
                    record["id"],
                    program,
                    record["kind"],
                    record["to"],
                    record["at"],
                    record["timeout"],
                    record["digest"],
                    record.get("fails", False),
                )
                self.calls[call.id] = call
            case "confirmed":
                self._end(record, CONFIRMED)
            case "reply":
                self._end(record, record["outcome"])
            case "effect":
                self._effect(record)
            case "state":
                self.states[program].append((record["at"], record["state"]))
            case "end":
                self.ends[program] = record
            case _:
                raise ValueError(f"{program}: no such log: {kind}")

    def _end(self, record: Record, outcome: str) -> None:
        call = self.calls.get(record["id"])
        if call is None or call.ended is not None:
            self.twice.append(record["id"])
            return
        call.ended, call.outcome, call.answer = record["at"], outcome, record.get("answer")
        self.outcomes[call.kind][outcome] += 1
        if outcome == ANSWERED:
            self.answered[call.client].append(Answered(call.begun, call.ended, call.to))

    def _effect(self, record: Record) -> None:
        call = self.calls.get(record["id"])
        self.effects[record["id"], record["to"]] += 1
        if call is None or call.digest != record["digest"]:
            self.damaged.append(record["id"])

    def open_calls(self, client: str) -> list[Call]:
        """Those of this client that have not ended."""
        return [each for each in self.calls.values() if each.client == client and not each.ended]

    def ready_since(self, program: str, at: float) -> float | None:
        """When a program became ready after it had left that state, or begun, after `at`.

        None when it has not yet left it, or is not ready.
        """
        states = self.states[program]
        if not states or states[-1][1] != READY or states[-1][0] < at:
            return None
        return states[-1][0]

    def is_ready(self, program: str) -> bool:
        """Return whether READY is its latest state."""
        states = self.states[program]
        return bool(states) and states[-1][1] == READY

    def works_since(self, client: str, ref: float, to: str | None) -> float | None:
        """When the first of this client's requests that were begun after `ref` was answered."""
        first = None
        for each in reversed(self.answered[client]):
            if each.ended < ref:
                break
            if each.begun >= ref and to in (None, each.to):
                first = each.ended
        return first
