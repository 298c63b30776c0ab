"""Which faults are inflicted, in which order, on whom, and for how long: by the seed alone.

Faults are dealt like cards. A deck has each kind at least once, so that none is missing in a run of
ten minutes, and is shuffled anew each time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kinds of faults."""

    KILL_BROKER = "broker killed with -9, restarted"
    RESTART_BROKER = "broker restarted in order"
    HANG_BROKER = "broker stopped (SIGSTOP), continued"
    RESET = "TCP reset"
    FIN = "TCP FIN"
    BLACK_HOLE = "black hole"
    CUT = "connection cut within a frame"
    AWAY = "network away, and back"
    SLOW = "slow wire"
    CLOSE_CHANNEL = "channel closed by the broker (406)"
    CLOSE_CONNECTION = "connection closed by an operator"
    DELETE_QUEUE = "queue deleted"
    MEMORY_ALARM = "memory alarm"
    KILL_SERVICE = "service killed with -9"
    HANG_SERVICE = "service stopped (SIGSTOP), continued"
    STOP_SERVICE = "service told to stop"
    STOP_IN_HOLE = "service told to stop in a black hole"
    KILL_CLIENT = "client killed with -9"

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return self.name.lower().replace("_", "-")


QUICK = (Kind.RESET, Kind.FIN, Kind.CLOSE_CHANNEL, Kind.CLOSE_CONNECTION, Kind.KILL_SERVICE)
"""Faults that may happen on top of another one."""
DECK = (
    *[Kind.KILL_BROKER] * 8,
    *[Kind.RESET] * 2,
    *(kind for kind in Kind if kind not in (Kind.KILL_BROKER, Kind.RESET)),
)
SECONDS = {
    Kind.KILL_BROKER: (0.0, 2.0),
    Kind.HANG_BROKER: (1.0, 8.0),
    Kind.AWAY: (2.0, 15.0),
    Kind.SLOW: (4.0, 8.0),
    Kind.MEMORY_ALARM: (2.0, 8.0),
    Kind.KILL_SERVICE: (0.0, 1.0),
    Kind.HANG_SERVICE: (1.0, 6.0),
}
LONG = 45.0
"""Seconds: more than it takes both ends, at heartbeat 10, to give each other up."""
SELDOM = 0.2
"""The probability of a hang that long, and of two faults at once."""
PAUSE = (1.0, 4.0)
"""Seconds between the end of a fault and the next."""


class Ways(Enum):
    """The directions in which a black hole swallows."""

    BOTH = "both ways"
    UP = "to the broker"
    DOWN = "from the broker"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    `seconds` is how long it lasts, where it has a length; `share` the share of the wires that it
    is about (one at least, all of them with 1); `choice` picks one of what it may be done to.
    `also` comes on top of it, `delay` seconds later.
    """

    kind: Kind
    seconds: float
    share: float
    choice: int
    ways: Ways
    pause: float
    also: Fault | None = None
    delay: float = 0.0

    def __str__(self) -> str:
        text = self.kind.value
        if self.kind is Kind.BLACK_HOLE:
            text += f", {self.ways.value}"
        if self.seconds:
            text += f", for {self.seconds:.1f} s"
        if self.also is not None:
            text += f"; {self.delay:.1f} s later: {self.also}"
        return text


def plan(seed: int, only: Sequence[Kind] = ()) -> Iterator[Fault]:
    """The faults of a seed, without end; the same for the same seed.

    With `only`, those kinds, one at a time: then it is known which fault did what.
    """
    dice = random.Random(seed)
    while True:
        deck = list(only or DECK)
        dice.shuffle(deck)
        for kind in deck:
            yield _draw(dice, kind, alone=bool(only))


def _draw(dice: random.Random, kind: Kind, *, alone: bool = False) -> Fault:
    """Everything is drawn for each fault, needed or not: then one kind's needs shift no other."""
    length, seldom = dice.uniform(*SECONDS.get(kind, (0.0, 0.0))), dice.random()
    if kind in (Kind.HANG_BROKER, Kind.HANG_SERVICE) and seldom < SELDOM:
        length = LONG
    share = dice.choice((0.0, 0.5, 1.0))
    choice = dice.randrange(2**16)
    ways = dice.choice(list(Ways))
    pause, delay = dice.uniform(*PAUSE), dice.uniform(0.0, 3.0)
    companion, together = dice.choice(QUICK), dice.random() < SELDOM
    also = None
    if together and not alone:
        also = _draw(dice, companion, alone=True)
    return Fault(kind, length, share, choice, ways, pause, also, delay if also else 0.0)
