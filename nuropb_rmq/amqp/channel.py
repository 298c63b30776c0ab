"""One channel's share of the byte stream: the frames that are kept from aiormq, and writing.

The router cuts frames and hands those of a registered channel to its port; the port puts messages
together and calls its listener.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..exceptions import AMQPProtocolError, ConnectionLostError
from ..printable import printable
from . import frames, getting
from .deliveries import Deliveries
from .frames import Content

_HEADER_DUE = -1
"""The value of `_remaining` until the content header says how large the body is."""


class ChannelListener(Protocol):
    """Receives the events of a registered channel; calls are synchronous and must not raise."""

    def on_content(self, content: Content) -> None:
        """Take a complete delivery or return; or a Got, what a Basic.Get asked for."""

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Note that the broker confirmed (or refused) a message, or all up to it (`multiple`)."""

    def on_cancelled(self, by_broker: bool) -> None:
        """Note the consumer's end: the broker cancelled it, or answered our Basic.Cancel."""

    def on_writable(self) -> None:
        """Write again: there is room, after `writable` was False."""

    def on_unsent(self, count: int) -> None:
        """Note that the last `count` messages were never written; on_closed follows."""

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Note the channel's end, with or without its connection. This is the last call."""


class PortOwner(Protocol):
    """The part of `FrameRouter` that a port uses."""

    frame_max: int

    writable: bool
    """True while there is room to write."""

    def write(self, data: bytes, /) -> None:
        """Queue whole frames for writing."""

    def write_now(self, data: bytes, /) -> None:
        """Write whole frames at once, unless others wait to be written."""

    def at_flush(self, call: Callable[[], None], /) -> None:
        """Make this call just before this tick's frames are written."""

    def end(self, port: ChannelPort, reason: ConnectionLostError) -> None:
        """Write all queued frames, then end the registration."""


def _refusing(number: int) -> Callable[[bytes], None]:
    """Return the `write` of a channel that has ended; it keeps nothing of the channel alive."""

    def write(_: bytes) -> None:
        raise ConnectionLostError(f"channel {number} has ended")

    return write


class ChannelPort:
    """The data plane of one channel: written to by its owner, ended by the router."""

    __slots__ = (
        "_cancelling", "_chunks", "_content", "_deliveries", "_max_body", "_owner", "_remaining",
        "listener", "number", "open", "write", "write_now",
    )  # fmt: skip

    def __init__(
        self, owner: PortOwner, number: int, listener: ChannelListener, max_body: int
    ) -> None:
        self._owner = owner
        self.number: int = number
        self.listener: ChannelListener = listener
        self._max_body = max_body
        self.open: bool = True
        self._cancelling = False
        self._content: Content | None = None
        self._remaining = 0
        self._chunks: list[bytes] = []
        self._deliveries: Deliveries | None = None
        self.write: Callable[[bytes], None] = owner.write
        """Write whole frames of this channel, in this tick or with the next.

        Raises ConnectionLostError when the channel has ended.
        """
        self.write_now: Callable[[bytes], None] = owner.write_now
        """Write them at once, unless others wait. Raises ConnectionLostError."""

    # -- for the channel's owner ------------------------------------------------------------

    @property
    def frame_max(self) -> int:
        """Bytes of the largest frame that may be sent."""
        return self._owner.frame_max

    @property
    def writable(self) -> bool:
        """False while buffers are full, the broker blocks, or the channel has ended."""
        return self.open and self._owner.writable

    def at_flush(self, call: Callable[[], None]) -> None:
        """Make this call, once, just before this tick's frames are written; it may add frames."""
        self._owner.at_flush(call)

    def cancel(self, consumer_tag: str) -> None:
        """Send Basic.Cancel; `on_cancelled(by_broker=False)` follows the broker's answer."""
        self._cancelling = True
        self.write(frames.pack_cancel(self.number, consumer_tag))

    def unregister(self, reason: str) -> None:
        """End the registration before the channel is closed from our side.

        Queued frames are written first; content that still arrives is dropped.
        """
        if self.open:
            self._owner.end(self, ConnectionLostError(reason))

    # -- for the router ---------------------------------------------------------------------

    def tell_writable(self) -> None:
        """Tell the listener that there is room to write again."""
        self.listener.on_writable()

    def tell_unsent(self, count: int) -> None:
        """Tell the listener that the last `count` messages were never written."""
        self.listener.on_unsent(count)

    def tell_closed(self, reason: ConnectionLostError) -> None:
        """End the port, and tell its listener why."""
        self.open = False
        self.write = self.write_now = _refusing(self.number)
        self.listener.on_closed(reason)

    def take(self, kind: int, data: bytes, at: int, stop: int, end: int) -> int:
        """Take a frame; return the offset after what was taken, or 0 to leave it to aiormq.

        Its payload begins at `at`, the next frame at `stop`, and the data ends at `end`. Complete
        deliveries that follow in the data are taken in the same call. Raises AMQPProtocolError,
        IndexError or struct.error for a frame that breaks the protocol.
        """
        if kind == frames.FRAME_METHOD:
            if self._deliveries is not None and self._content is None:
                behind = self._take_deliveries(self._deliveries, data, at - 7, end)
                if behind >= stop:
                    return behind
            return stop if self._take_method(data[at : stop - 1]) else 0
        if kind == frames.FRAME_BODY:
            self._take_body(data[at : stop - 1])
        elif kind == frames.FRAME_HEADER:
            self._take_header(data[at : stop - 1])
        else:
            raise AMQPProtocolError(f"frame of unknown type {kind} on channel {self.number}")
        return stop

    def _take_deliveries(self, deliveries: Deliveries, data: bytes, at: int, end: int) -> int:
        """Take consecutive complete deliveries; return the offset after the last one."""
        on_content = self.listener.on_content
        most = min(self._max_body, self._owner.frame_max - frames.FRAME_OVERHEAD)
        for content, behind in deliveries.read(data, at, end, most):
            at = behind
            on_content(content)
            if not self.open:
                break
        return at

    def _take_method(self, payload: bytes) -> bool:
        (method,) = frames.METHOD_ID.unpack_from(payload)
        kept = True
        match method:
            case frames.BASIC_DELIVER:
                self._begin(frames.read_deliver, payload)
                if self._deliveries is None:
                    self._deliveries = Deliveries(self.number, payload)
            case frames.BASIC_ACK | frames.BASIC_NACK:
                (tag,) = frames.DELIVERY_TAG.unpack_from(payload, 4)
                multiple = payload[12] & 1 == 1
                self.listener.on_confirm(tag, multiple, method == frames.BASIC_ACK)
            case frames.BASIC_RETURN:
                self._begin(frames.read_return, payload)
            case getting.BASIC_GET_OK:
                self._begin(getting.read_get_ok, payload)
            case getting.BASIC_GET_EMPTY:
                self.listener.on_content(getting.nothing())
            case frames.BASIC_CANCEL_OK if self._cancelling:
                self._cancelling = False
                self.listener.on_cancelled(False)
            case frames.BASIC_CANCEL:
                kept = False
                self.listener.on_cancelled(True)
            case frames.CHANNEL_CLOSE:
                kept = False
                code, text = frames.read_close(payload)
                text = printable(text)
                problem = f"the broker closed the channel: {code} {text}"
                self._owner.end(self, ConnectionLostError(problem, code, text))
            case frames.CHANNEL_CLOSE_OK:
                kept = False
                problem = f"channel {self.number} was closed"
                self._owner.end(self, ConnectionLostError(problem))
            case _:
                kept = False
        return kept

    def _begin(self, read: Callable[[bytes], Content], payload: bytes) -> None:
        if self._content is not None:
            raise AMQPProtocolError(f"a message within a message on channel {self.number}")
        self._content = read(payload)
        self._remaining = _HEADER_DUE

    def _take_header(self, payload: bytes) -> None:
        content = self._content
        if content is None or self._remaining != _HEADER_DUE:
            raise AMQPProtocolError(f"content header without a method on channel {self.number}")
        _, _, size = frames.CONTENT_HEADER.unpack_from(payload)
        content.body_size = size
        content.raw_properties = payload[12:]
        self._remaining = size
        if not size:
            self._content = None
            self.listener.on_content(content)

    def _take_body(self, payload: bytes) -> None:
        content = self._content
        self._remaining -= len(payload)
        if content is None or self._remaining < 0:
            raise AMQPProtocolError(f"more body than announced on channel {self.number}")
        fits = content.body_size <= self._max_body
        if self._remaining:
            if fits:
                self._chunks.append(payload)
            return
        if self._chunks:
            payload = b"".join((*self._chunks, payload))
            self._chunks.clear()
        content.body = payload if fits else b""
        self._content = None
        self.listener.on_content(content)
