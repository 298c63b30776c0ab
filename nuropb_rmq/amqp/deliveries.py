"""Deliveries that are here as a whole, read one after the other in one pass.

Why: docs/decisions/001-a-data-plane-of-our-own.md
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from . import frames
from .frames import Content

_SIZE = Struct(">I")
_TO_PROPERTIES = 20
"""Bytes of the method frame's end, and of a header frame up to its properties."""
_SMALLEST_HEADER = 14
"""Bytes of a content header without properties."""
_MOST_LAYOUTS = 256
_TOO_LITTLE = b"", 0, 0, b"", b"", 0, b"", b"", 0
"""What is read where there is not enough: it is like nothing."""


class _Layout:
    """Where the parts are of deliveries whose route, and whose properties, have one length."""

    __slots__ = ("size", "start", "to_header", "unpack")

    def __init__(self, start: bytes, to_header: bytes, route: int, properties: int) -> None:
        self.start = start
        """The method frame up to the delivery tag."""
        self.to_header = to_header
        """The method frame's end, and the header frame up to the body's size."""
        layout = Struct(f">{len(start)}sQB{route}s{len(to_header)}sQ{properties}s4sI")
        self.unpack = layout.unpack_from
        self.size = layout.size


class Deliveries:
    """The deliveries of one channel.

    A channel of ours has one consumer, so the consumer tag, too, is the same in each, and most
    routes and properties are as long as those before: what does not change is compared, not read.
    """

    __slots__ = ("_header", "_layouts", "_like", "_method", "_start", "_to_body")

    def __init__(self, channel: int, payload: bytes) -> None:
        """`payload` is that of a Basic.Deliver of this channel."""
        number = channel.to_bytes(2, "big")
        self._start = b"%c%b" % (frames.FRAME_METHOD, number)
        self._method = payload[: 5 + payload[4]]
        self._header = b"%c%c%b" % (frames.FRAME_END, frames.FRAME_HEADER, number)
        self._to_body = b"%c%c%b" % (frames.FRAME_END, frames.FRAME_BODY, number)
        self._layouts: dict[tuple[int, int], _Layout] = {}
        self._like: _Layout | None = None
        """That of the delivery before."""

    def read(self, data: bytes, at: int, end: int, most: int) -> Iterator[tuple[Content, int]]:
        """Each delivery from `at` on that is whole before `end`, and the offset behind it.

        It ends with the first that is anything else: incomplete, without a body or with several
        body frames, larger than `most` bytes, or a mistake, which this does not judge. (A route may
        run past the end: IndexError.)
        """
        like = self._like or self._find(data, at, end, most)
        while like is not None:
            body = at + like.size
            start, tag, redelivered, route, to_header, body_size, properties, to_body, size = (
                like.unpack(data, at) if body < end else _TOO_LITTLE
            )
            if start != like.start or to_header != like.to_header:
                before, like = like, self._find(data, at, end, most)
                if like is before:
                    return
                continue
            last = body + size
            if to_body != self._to_body or not 0 < size == body_size <= most or last >= end:
                return
            if 2 + route[0] + route[1 + route[0]] != len(route) or data[last] != frames.FRAME_END:
                return
            at = last + 1
            yield (
                Content(tag, redelivered & 1 == 1, route, 0, "", properties, size, data[body:last]),
                at,
            )

    def _find(self, data: bytes, at: int, end: int, most: int) -> _Layout | None:
        """The layout of the delivery at this place; None when there is none, or not enough of it.

        It fits what `data` has here, up to the properties.
        """
        tag_at = at + 7 + len(self._method)
        route_at = tag_at + 9
        if end - at < 7:
            return None
        header = at + 7 + _SIZE.unpack_from(data, at + 3)[0]
        if header < route_at + 2 or end - header < _TO_PROPERTIES:
            return None
        ours = data[at : at + 3] == self._start and data[at + 7 : tag_at] == self._method
        (size,) = _SIZE.unpack_from(data, header + 4)
        if not (ours and data[header : header + 4] == self._header):
            return None
        if not _SMALLEST_HEADER <= size <= most:
            return None
        key = header - route_at, size - 12
        like = self._layouts.get(key)
        if like is None or like.to_header != data[header : header + 12]:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            like = _Layout(data[at:tag_at], data[header : header + 12], *key)
            self._layouts[key] = like
        self._like = like
        return like
