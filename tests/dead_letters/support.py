"""A dead-letter queue with letters in it, and what is there afterwards."""

from __future__ import annotations

import json
from typing import Any

from pamqp import encode

from nuropb_rmq import ConnectionLostError, DeadLetters, TransportConfig
from nuropb_rmq.amqp import frames, getting
from nuropb_rmq.amqp.frames import Content, Properties
from nuropb_rmq.amqp.getting import Got
from nuropb_rmq.broker.connecting import Connection
from nuropb_rmq.broker.topology import Queue

from ..conformance.brokers import becomes
from ..support import eventually

SERVICE_QUEUE = "nuropb-orders-sq"
DL_QUEUE = "nuropb-orders-dlq"
DEAD = "nuropb-dl-exchange"
RPC = "nuropb-rpc-exchange"
SAID = {"nuropb_protocol": "0.1.1", "nuropb_version": "x", "encrypted": "", "trace_id": "t"}


def command(number: int, method: str = "place") -> bytes:
    """The body of a command."""
    call = {"tag": "command", "service": "orders", "method": method, "params": {"n": number}}
    return json.dumps(call).encode()


def number_of(content: Content) -> int:
    """The number that a command carries."""
    return int(json.loads(content.body)["params"]["n"])


def died(queue: str = SERVICE_QUEUE, reason: str = "rejected", **more: Any) -> dict[str, Any]:
    """Headers of a message that the broker gave up itself."""
    death = {"queue": queue, "reason": reason, "count": 1, "exchange": RPC}
    return {
        "x-death": [{**death, "routing-keys": ["orders"], **more}],
        "x-first-death-queue": queue,
        "x-first-death-reason": reason,
        "x-last-death-queue": queue,
    }


def copied(number: int, queue: str = SERVICE_QUEUE, **more: Any) -> dict[str, Any]:
    """Headers of a copy that a service published."""
    return {
        "nuropb_dead_letter_of": queue,
        "nuropb_failure_id": f"failure-{number}",
        "nuropb_error": "ValueError",
        "nuropb_error_text": f"order {number} is not known",
        "nuropb_traceback": "Traceback: …",
        "nuropb_failed_method": "place",
        "nuropb_failed_instance": "one",
        "nuropb_failed_at": "2026-01-02T03:04:05+00:00",
        "nuropb_attempts": 3,
        "nuropb_original_exchange": RPC,
        "nuropb_original_routing_key": "orders",
        "nuropb_message_id": f"message-{number}",
        **more,
    }


class Hand:
    """A channel that publishes and takes by thousands."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.published = self.confirmed = self.answered = 0
        self.got: list[Got] = []
        self._port = connection.router.register(number, self, max_body=2**30)

    def put(self, queue: str, body: bytes, headers: dict[str, Any] | None, **more: Any) -> None:
        """Publish to a queue."""
        table = None if headers is None else encode.field_table(headers)[4:]
        packed = frames.encode_properties(Properties(headers=table, **more))
        self.put_packed(queue, body, packed)

    def put_packed(self, queue: str, body: bytes, properties: bytes) -> None:
        """Publish with properties that may be no properties."""
        port, method = self._port, frames.publish_method("", queue, mandatory=False)
        port.write(frames.pack_content(port.number, method, properties, body, port.frame_max))
        self.published += 1

    async def settled(self) -> None:
        """Wait until all that was published is confirmed."""
        await eventually(lambda: self.confirmed >= self.published, within=60)

    async def take_all(self, queue: str) -> list[Got]:
        """Take what is in a queue."""
        await self._ask(queue, 1)
        first = self.got[0]
        if first.tag:
            await self._ask(queue, first.left)
        taken, self.got = [each for each in self.got if each.tag], []
        if taken:
            self._port.write(frames.pack_ack(self._port.number, 0, multiple=True))
        return taken

    async def depth(self, queue: str) -> int:
        """Look at the first message of a queue: how many there are. The channel ends."""
        await self._ask(queue, 1)
        (first,) = self.got
        self._port.write(frames.pack_nack(self._port.number, 0, requeue=True, multiple=True))
        self._port.unregister("seen")
        return first.left + 1 if first.tag else 0

    async def _ask(self, queue: str, count: int) -> None:
        expected = self.answered + count
        for _ in range(count):
            self._port.write(getting.pack_get(self._port.number, queue))
        await eventually(lambda: self.answered >= expected, within=60)

    # -- as the listener of its channel -----------------------------------------------------

    def on_content(self, content: Content) -> None:
        """Keep what was asked for."""
        assert isinstance(content, Got)
        self.answered += 1
        self.got.append(content)

    def on_confirm(self, tag: int, multiple: bool, acked: bool) -> None:
        """Count: the broker may confirm one by one, in any order."""
        self.confirmed = max(self.confirmed, tag) if multiple else self.confirmed + 1

    def on_cancelled(self, by_broker: bool) -> None:
        """Do nothing."""

    def on_writable(self) -> None:
        """Do nothing."""

    def on_unsent(self, count: int) -> None:
        """Do nothing."""

    def on_closed(self, reason: ConnectionLostError) -> None:
        """Do nothing."""


class Yard:
    """The queues of `orders` on one broker."""

    def __init__(
        self, config: TransportConfig, api_url: str | None, connection: Connection, hand: Hand
    ) -> None:
        self.config = config
        self.url = str(config.amqp_url)
        self.api_url = api_url
        self.hand = hand
        self._connection = connection

    def dead_letters(self, **options: Any) -> DeadLetters:
        """The dead letters of orders."""
        return DeadLetters(self.config, api_url=self.api_url, **options)

    async def put(
        self,
        headers: dict[str, Any] | None = None,
        body: bytes = b"{}",
        kind: str | None = "command",
        **properties: Any,
    ) -> None:
        """Put a letter into the dead-letter queue."""
        said = {**SAID, **({} if kind is None else {"nuropb_type": kind}), **(headers or {})}
        properties.setdefault("correlation_id", "c")
        self.hand.put(DL_QUEUE, body, said, **properties)
        await self.hand.settled()

    async def fill(self, own: int, foreign: int = 0, *, start: int = 0) -> None:
        """Put own letters into the queue, numbered, and foreign ones evenly between them."""
        said = {**SAID, "nuropb_type": "command"}
        common: dict[str, Any] = {"delivery_mode": 2, "correlation_id": "c"}
        for number in range(own):
            own_headers = {**said, **copied(start + number)}
            self.hand.put(DL_QUEUE, command(start + number), own_headers, **common)
            for each in range(number * foreign // own, (number + 1) * foreign // own):
                other = {**said, **died("nuropb-billing-sq")}
                self.hand.put(DL_QUEUE, command(each), other, **common)
        await self.hand.settled()

    async def declare(self, queue: str = SERVICE_QUEUE, **arguments: Any) -> None:
        """A queue of the service's type; names with x_ are arguments."""
        declared = {"x-queue-type": self.config.queue_type}
        declared |= {name.replace("_", "-"): value for name, value in arguments.items()}
        channel = self._connection.new_channel()
        await channel.open()
        await channel.declare_queue(Queue(queue, durable=True, arguments=declared))
        await channel.close()

    async def holds(self, count: int, queue: str = DL_QUEUE) -> None:
        """Wait until a queue holds so many messages; those of a quorum queue change their order."""

        async def depth() -> int:
            channel = self._connection.new_channel()
            await channel.open()
            hand = Hand(self._connection, channel.number)
            return await hand.depth(queue)

        await becomes(depth, count)

    async def ready(self, queue: str) -> int:
        """Ask how many messages of a queue are in nobody's hand."""
        channel = self._connection.new_channel()
        await channel.open()
        ready = await channel.ready(queue)
        await channel.close()
        return ready

    async def left(self) -> list[int]:
        """Take all dead letters: the numbers of their commands."""
        return [number_of(each) for each in await self.hand.take_all(DL_QUEUE)]

    async def replayed(self) -> list[int]:
        """Take all from the service queue: the numbers of their commands."""
        return [number_of(each) for each in await self.hand.take_all(SERVICE_QUEUE)]
