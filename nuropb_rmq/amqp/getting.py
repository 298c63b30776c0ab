"""Basic.Get: messages that are asked for one by one, packed and read; no I/O.

AMQP 0-9-1, sections 1.8.3.10 to 1.8.3.12. The answer to each is the next message of the queue, or
that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from . import frames
from .frames import Content

BASIC_GET: Final = 60 << 16 | 70
BASIC_GET_OK: Final = 60 << 16 | 71
BASIC_GET_EMPTY: Final = 60 << 16 | 72

_COUNT = Struct(">I")


@dataclass(slots=True)
class Got(Content):
    """A message that was asked for; `left` messages are ready behind it. Tag 0: there was none."""

    left: int = 0


def pack_get(channel: int, queue: str) -> bytes:
    """Pack Basic.Get of a message that will be settled."""
    payload = frames.METHOD_ID.pack(BASIC_GET) + b"\x00\x00" + frames.shortstr(queue) + b"\x00"
    start = frames.FRAME_START.pack(frames.FRAME_METHOD, channel, len(payload))
    return b"%b%b%c" % (start, payload, frames.FRAME_END)


def read_get(payload: bytes) -> str:
    """Return the queue's name of a Basic.Get."""
    return frames.read_shortstr(payload, 6)[0]


def read_get_ok(payload: bytes) -> Got:
    """Read Basic.GetOk."""
    (tag,) = frames.DELIVERY_TAG.unpack_from(payload, 4)
    exchange_end = 14 + payload[13]
    end = exchange_end + 1 + payload[exchange_end]
    if end + _COUNT.size != len(payload):
        raise IndexError("Basic.GetOk does not fill its frame")
    (left,) = _COUNT.unpack_from(payload, end)
    return Got(tag, payload[12] & 1 == 1, payload[13:end], left=left)


def nothing() -> Got:
    """Return what stands for Basic.GetEmpty."""
    return Got(0, False, b"\x00\x00")
