"""A plain AMQP channel of either broker: what a transport would not show, or never say.

It stands on the library's own connection, so that one piece of code speaks to both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pamqp import encode

from nuropb_rmq import ConnectionLostError, TransportConfig
from nuropb_rmq.amqp import frames
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.frames import Content, Properties
from nuropb_rmq.broker.connecting import Connection, new_connection
from nuropb_rmq.broker.control_channel import ControlChannel
from nuropb_rmq.broker.topology import Binding, Exchange, Queue

from ..support import eventually

Confirm = tuple[int, bool]


class RawChannel:
    """One channel with publisher confirms and at most one consumer."""

    def __init__(self, connection: Connection, control: ControlChannel) -> None:
        self.control = control
        self.contents: list[Content] = []
        """Deliveries and returns, in their order."""
        self.confirms: list[Confirm] = []
        """Each message once: its number, and whether it was taken."""
        self.cancelled: bool | None = None
        """True when the broker cancelled the consumer; False when we did."""
        self.closed: ConnectionLostError | None = None
        self.published = 0
        self._confirmed = 0
        self.port: ChannelPort = connection.router.register(
            control.number, self, max_body=64 * 2**20
        )

    # -- as the listener of its port --------------------------------------------------------

    def on_content(self, content: Content) -> None:
        """Keep a delivery or a return."""
        self.contents.append(content)

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Note the confirms one by one: brokers differ in how many they put into one."""
        known = {number for number, _ in self.confirms}
        first = 1 if multiple else tag
        for number in range(first, (tag or self.published) + 1):
            if number not in known:
                self.confirms.append((number, acked))

    def on_cancelled(self, by_broker: bool) -> None:
        """Note the consumer's end."""
        self.cancelled = by_broker

    def on_writable(self) -> None:
        """Do nothing."""

    def on_unsent(self, count: int) -> None:
        """Do nothing."""

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Note the channel's end."""
        self.closed = reason

    # -- requests ---------------------------------------------------------------------------

    async def exchange(self, name: str, kind: str, *, durable: bool = True) -> None:
        """Declare an exchange."""
        await self.control.declare_exchange(Exchange(name, kind, durable))

    async def queue(self, name: str, /, *bindings: tuple[str, str], **options: Any) -> None:
        """Declare a queue, and bind it: (exchange, key). Names with x_ are arguments."""
        arguments = {
            key.replace("_", "-"): value for key, value in options.items() if key[:2] == "x_"
        }
        others = {key: value for key, value in options.items() if key[:2] != "x_"}
        await self.control.declare_queue(
            Queue(name, **{"durable": True, **others}, arguments=arguments)
        )
        if bindings:
            await self.control.bind([Binding(name, *binding) for binding in bindings])

    async def consume(self, queue: str, *, prefetch: int = 0, no_ack: bool = False) -> None:
        """Begin to consume."""
        await self.control.consume(queue, f"raw-{queue}", no_ack=no_ack, prefetch=prefetch)

    def cancel(self, queue: str) -> None:
        """Cancel the consumer."""
        self.port.cancel(f"raw-{queue}")

    def put(
        self,
        queue: str,
        body: bytes = b"",
        *,
        exchange: str = "",
        mandatory: bool = False,
        headers: Mapping[str, Any] | None = None,
        **properties: Any,
    ) -> int:
        """Publish, by default to a queue; return the message's number among the confirms."""
        method = frames.publish_method(exchange, queue, mandatory=mandatory)
        if headers is not None:
            properties["headers"] = encode.field_table(dict(headers))[4:]
        packed = frames.encode_properties(Properties(**properties))
        port = self.port
        self.published += 1
        port.write(frames.pack_content(port.number, method, packed, body, port.frame_max))
        return self.published

    async def publish(self, queue: str, body: bytes = b"", **options: Any) -> bool:
        """Publish, and wait for the confirm; False when the broker did not take it."""
        number = self.put(queue, body, **options)
        await eventually(lambda: number in dict(self.confirms) or self.closed)
        return dict(self.confirms).get(number, False)

    def ack(self, content: Content, *, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        self.port.write(frames.pack_ack(self.port.number, content.tag, multiple=multiple))

    def nack(self, content: Content, *, requeue: bool, multiple: bool = False) -> None:
        """Basic.Nack."""
        self.port.write(
            frames.pack_nack(self.port.number, content.tag, requeue=requeue, multiple=multiple)
        )

    def reject(self, content: Content, *, requeue: bool) -> None:
        """Basic.Reject."""
        self.port.write(frames.pack_reject(self.port.number, content.tag, requeue=requeue))

    async def taken(self, count: int) -> list[Content]:
        """Wait for so many deliveries, and forget them."""
        await eventually(
            lambda: len(self.contents) >= count,
            describe=lambda: f"{len(self.contents)} of {count} deliveries",
        )
        taken, self.contents = self.contents[:count], self.contents[count:]
        return taken

    async def bodies(self, count: int) -> list[bytes]:
        """Wait for so many deliveries; return their bodies."""
        return [content.body for content in await self.taken(count)]

    async def close(self) -> None:
        """Close the channel."""
        self.port.unregister("closed by the test")
        await self.control.close()


class Raw:
    """A connection; its channels are closed with it."""

    def __init__(self, url: str) -> None:
        self.lost: ConnectionLostError | None = None
        self._connection = new_connection(
            TransportConfig(amqp_url=url, service_name="raw", client_only=True),
            purpose="raw",
            instance_id="raw",
            on_blocked=lambda _: None,
            on_lost=self._note,
        )

    def _note(self, lost: ConnectionLostError) -> None:
        self.lost = lost

    async def open(self) -> None:
        """Connect."""
        await self._connection.open()

    async def channel(self) -> RawChannel:
        """Open a channel."""
        control = self._connection.new_channel(confirms=True)
        await control.open()
        return RawChannel(self._connection, control)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.shut(2)


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Raw]:
    """Connect for as long as the context lasts."""
    made = Raw(url)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def properties_of(content: Content) -> Properties:
    """The properties of a delivery."""
    return frames.decode_properties(content.raw_properties)


def headers_of(content: Content) -> dict[str, Any]:
    """The headers of a delivery."""
    return frames.decode_table(properties_of(content).headers or b"")
