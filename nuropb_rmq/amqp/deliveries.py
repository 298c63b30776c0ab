"""Complete deliveries, read one after the other in one pass.

Why: docs/decisions/001-a-data-plane-of-our-own.md
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from . import frames
from .frames import Content

_SIZE = Struct(">I")
_TO_PROPERTIES = 20
"""Bytes from the method frame's end octet to the properties in the header frame."""
_SMALLEST_HEADER = 14
"""Bytes of a content header without properties."""
_MOST_LAYOUTS = 256
_TOO_LITTLE = b"", 0, 0, b"", b"", 0, b"", b"", 0
"""The fields of a layout, where there are too few bytes to unpack; no layout matches it."""


class _Layout:
    """The positions of the parts of deliveries whose routes and properties have the same length."""

    __slots__ = ("size", "start", "to_header", "unpack")

    def __init__(self, start: bytes, to_header: bytes, route: int, properties: int) -> None:
        self.start = start
        """The method frame up to the delivery tag."""
        self.to_header = to_header
        """The method frame's end octet, and the header frame up to the body's size."""
        layout = Struct(f">{len(start)}sQB{route}s{len(to_header)}sQ{properties}s4sI")
        self.unpack = layout.unpack_from
        self.size = layout.size


class Deliveries:
    """Reads the deliveries of one channel.

    A channel of ours has one consumer, so its deliveries share a consumer tag, and most routes and
    properties are as long as those before: constant bytes are compared, not parsed.
    """

    __slots__ = ("_header", "_layouts", "_like", "_method", "_start", "_to_body")

    def __init__(self, channel: int, payload: bytes) -> None:
        """Take the constant bytes from `payload`, of a Basic.Deliver of this channel."""
        number = channel.to_bytes(2, "big")
        self._start = b"%c%b" % (frames.FRAME_METHOD, number)
        self._method = payload[: 5 + payload[4]]
        self._header = b"%c%c%b" % (frames.FRAME_END, frames.FRAME_HEADER, number)
        self._to_body = b"%c%c%b" % (frames.FRAME_END, frames.FRAME_BODY, number)
        self._layouts: dict[tuple[int, int], _Layout] = {}
        self._like: _Layout | None = None
        """The layout of the latest delivery."""

    def read(self, data: bytes, at: int, end: int, most: int) -> Iterator[tuple[Content, int]]:
        """Yield complete deliveries between `at` and `end`, with the offset after each.

        Ends before the first that is incomplete, has no body or several body frames, is larger than
        `most` bytes, or is malformed: the port judges those. Raises IndexError for a route that
        runs past its end.
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
        """Return the layout of the delivery at `at`; None when there is none, or not enough of it.

        The layout fits these bytes up to the properties.
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
