"""Join the frames that one turn of the event loop writes to a socket.

Why: docs/decisions/001-a-data-plane-of-our-own.md
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from . import frames
from .heartbeat import Liveness

WRITE_SIZE = 64 * 1024
"""Bytes that are written before their tick ends: the broker begins while we pack the rest."""
_PUBLISH: Final = frames.METHOD_ID.pack(frames.BASIC_PUBLISH)
_TURNS: Final = 2
"""Turns in which the event loop reads all that had arrived before the first of them."""


class Outflow:
    """Frames queued for a socket; each write() adds one method, with its content."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, liveness: Liveness, clock: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._liveness = liveness
        self._clock = clock
        self._frames: list[bytes] = []
        self._size = 0
        self._at_flush: list[Callable[[], None]] = []
        # A flush is scheduled for the end of this tick.
        self._due = False
        # Turns of the loop until a late writer may write; 0: none is waiting.
        self._turns_left = 0
        self._ended = False
        self.transport: asyncio.Transport | None = None

    @property
    def size(self) -> int:
        """Bytes queued."""
        return self._size

    def write(self, data: bytes) -> None:
        """Queue whole frames; those of one tick leave in one write, or in a few."""
        self._frames.append(data)
        self._size += len(data)
        if self._size > WRITE_SIZE:
            self._write_out()
        elif not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def write_now(self, data: bytes) -> None:
        """Write frames at once, unless others wait: a flush costs a turn of the loop.

        For a message that no other one would join.
        """
        if self._due:
            self.write(data)
        else:
            self._frames.append(data)
            self._size += len(data)
            self._write_out()

    def at_flush(self, call: Callable[[], None]) -> None:
        """Make this call just before this tick's frames are written."""
        self._at_flush.append(call)
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write all queued frames."""
        while self._at_flush:
            self._at_flush.pop()()
        self._due = False
        if self._frames:
            self._write_out()

    def _write_out(self) -> None:
        if self._clock() > self._liveness.doubt_from and not self._ended:
            self._look_first()
            return
        data = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        if self.transport is not None and not self._ended:
            # RuntimeError: aiormq, cancelled in the same turn, has called write_eof(): nobody
            # reads this any more.
            with suppress(RuntimeError):
                self.transport.write(data)

    def _look_first(self) -> None:
        """Read what arrived while the loop stood still, perhaps the end of the connection.

        Reads in later turns: the writer has not yet noted that it wrote.
        """
        if not self._turns_left:
            self._turns_left = _TURNS
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._turns_left -= 1
        if self._turns_left:
            self._loop.call_soon(self._look)
        elif not self._ended and not self._liveness.stood_still():
            self._liveness.looked()
            self.flush()

    def drop(self, channel: int) -> int:
        """Drop the frames of a channel that has ended; return how many messages never left."""
        if not self._frames:
            return 0
        dropped = [frame for frame in self._frames if int.from_bytes(frame[1:3]) == channel]
        self._frames = [frame for frame in self._frames if int.from_bytes(frame[1:3]) != channel]
        self._size = sum(map(len, self._frames))
        return sum(frame[7:11] == _PUBLISH for frame in dropped)

    def end(self) -> Mapping[int, int]:
        """Write nothing more; return how many published messages never left, by channel."""
        self._ended = True
        unsent = Counter(
            int.from_bytes(frame[1:3]) for frame in self._frames if frame[7:11] == _PUBLISH
        )
        self._frames.clear()
        self._at_flush.clear()
        self._size = 0
        return unsent
