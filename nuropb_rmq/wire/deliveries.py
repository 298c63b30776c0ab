"""Deliveries that are here as a whole, read one after the other in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from . import frames
from .frames import Content

_SMALLEST_HEADER = 14
"""Bytes of a content header without properties."""
_UP_TO_HEADER = Struct(">4sIIQ")
"""The end octet, and the header frame up to its properties."""
_TO_BODY = Struct(">4sI")
_BETWEEN = _UP_TO_HEADER.size + _TO_BODY.size


class Deliveries:
    """The deliveries of one channel.

    A channel of ours has one consumer, so the consumer tag, too, is the same in each: what does not
    change is compared, not read.
    """

    __slots__ = ("_method", "_route_at", "_start", "_to_body", "_to_header", "_up_to_route")

    def __init__(self, channel: int, payload: bytes) -> None:
        """`payload` is that of a Basic.Deliver of this channel."""
        tag_at = 5 + payload[4]
        up_to_route = Struct(f">3sI{tag_at}sQB")
        self._up_to_route = up_to_route.unpack_from
        self._route_at = up_to_route.size
        number = channel.to_bytes(2, "big")
        self._start = b"%c%b" % (frames.FRAME_METHOD, number)
        self._method = payload[:tag_at]
        self._to_header = b"%c%c%b" % (frames.FRAME_END, frames.FRAME_HEADER, number)
        self._to_body = b"%c%c%b" % (frames.FRAME_END, frames.FRAME_BODY, number)

    def read(self, data: bytes, at: int, end: int, most: int) -> Iterator[tuple[Content, int]]:
        """Each delivery from `at` on that is whole before `end`, and the offset behind it.

        It ends with the first that is anything else: incomplete, without a body or with several
        body frames, larger than `most` bytes, or a mistake, which this does not judge. (A route may
        run past the end: IndexError.)
        """
        up_to_route, up_to_header = self._up_to_route, _UP_TO_HEADER.unpack_from
        to_body, route_at = _TO_BODY.unpack_from, self._route_at
        latest = end - _BETWEEN
        while at + route_at < latest:
            start, size, method, tag, redelivered = up_to_route(data, at)
            header = at + 7 + size
            if start != self._start or method != self._method or header > latest:
                return
            mark, size, _, body_size = up_to_header(data, header)
            body = header + 8 + size
            if mark != self._to_header or not _SMALLEST_HEADER <= size <= most or body + 8 > end:
                return
            mark, size = to_body(data, body)
            last = body + 8 + size
            if mark != self._to_body or not 0 < size == body_size <= most or last >= end:
                return
            route = at + route_at
            key = route + 1 + data[route]
            if key + 1 + data[key] != header or data[last] != frames.FRAME_END:
                return
            at = last + 1
            yield (
                Content(
                    tag,
                    redelivered & 1 == 1,
                    data[route:header],
                    0,
                    "",
                    data[header + 20 : body],
                    size,
                    data[body + 8 : last],
                ),
                at,
            )
