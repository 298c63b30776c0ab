"""Join what one turn of the event loop writes to a socket.

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
"""Bytes that are written before their tick ends: the broker begins while we pack what follows."""
_PUBLISH: Final = frames.METHOD_ID.pack(frames.BASIC_PUBLISH)
_TURNS: Final = 2
"""Of the event loop, in which it reads what has arrived before the first of them began."""


class Outflow:
    """Frames in line for a socket. Each piece that is written is one method, with its content."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, liveness: Liveness, clock: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._liveness = liveness
        self._clock = clock
        self._frames: list[bytes] = []
        self._size = 0
        self._at_flush: list[Callable[[], None]] = []
        self._due = False
        self._turns_left = 0
        self._ended = False
        self.transport: asyncio.Transport | None = None

    @property
    def size(self) -> int:
        """Bytes in line."""
        return self._size

    def write(self, data: bytes) -> None:
        """Put whole frames in line; what one tick brings leaves in one write, or in a few."""
        self._frames.append(data)
        self._size += len(data)
        if self._size > WRITE_SIZE:
            self._write_out()
        elif not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def at_flush(self, call: Callable[[], None]) -> None:
        """Call it when this tick's frames are about to leave."""
        self._at_flush.append(call)
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is in line."""
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
            # RuntimeError: aiormq, cancelled in the same turn, has said that nothing more comes
            # (write_eof()), so nobody reads this any more.
            with suppress(RuntimeError):
                self.transport.write(data)

    def _look_first(self) -> None:
        """The loop stood still: read what has arrived, the end of the connection perhaps.

        Not here: whoever writes has not noted yet that it did.
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
        """Take out what is of a channel that has ended; how many messages of it never left."""
        if not self._frames:
            return 0
        dropped = [each for each in self._frames if int.from_bytes(each[1:3]) == channel]
        self._frames = [each for each in self._frames if int.from_bytes(each[1:3]) != channel]
        self._size = sum(map(len, self._frames))
        return sum(each[7:11] == _PUBLISH for each in dropped)

    def end(self) -> Mapping[int, int]:
        """Write nothing more; return how many published messages never left, by channel."""
        self._ended = True
        unsent = Counter(
            int.from_bytes(each[1:3]) for each in self._frames if each[7:11] == _PUBLISH
        )
        self._frames.clear()
        self._at_flush.clear()
        self._size = 0
        return unsent
