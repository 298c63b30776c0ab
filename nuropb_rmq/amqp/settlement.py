"""How a delivery ends for the broker."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Settlement(Enum):
    """The end of a delivery, as the broker is told it."""

    ACK = auto()
    REJECT = auto()
    """Basic.Reject without requeue: to the dead-letter exchange."""
    CALL_AGAIN = auto()
    """Published to the service queue once more, then acknowledged."""
    REQUEUE = auto()
    """Given back as it is: it was not handled."""


# For what every message passes: an enum's member takes up to 0.25 µs to look up (CPython 3.11).
ACK: Final = Settlement.ACK
REJECT: Final = Settlement.REJECT
CALL_AGAIN: Final = Settlement.CALL_AGAIN
