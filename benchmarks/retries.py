"""Measure what failing messages cost: retries, and dead letters that say why.

    python -m benchmarks.retries [--messages 2000] [--rounds 5] [--waiting 10000]

On a private broker, one case after the other in each round: commands that succeed, that come back
once, that are rejected without a reason, and that leave a copy with it. Prints the medians of a
message's CPU in this process (client and service) and in the broker. Then so many messages wait
for an hour, and one that comes back after a second is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from nuropb_rmq import Message, RetryLater, Settlement, Transport, TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode
from nuropb_rmq.transport.delivery import Delivery
from nuropb_rmq.transport.hooks import Hooks

from .process import cpu_of

DELAY = 1.0
HOUR = 3600.0
UNDER_WAY = 64
"""Commands that are sent and not confirmed."""


class Run:
    """A service and a client in this process."""

    def __init__(self, node: RabbitMQNode, config: TransportConfig) -> None:
        self._node = node
        self._config = config
        self._ended = 0
        self._over = asyncio.Event()
        self._count = 0

    async def cost(
        self, count: int, handler: Callable[[Message], Awaitable[None]], hooks: Hooks | None
    ) -> tuple[float, float]:
        """Handle so many commands; return microseconds of CPU for each, here and in the broker."""
        self._ended, self._count = 0, count
        self._over.clear()

        async def handle(message: Message) -> None:
            try:
                await handler(message)
            except RetryLater:
                raise
            except LookupError:
                self._note()
                raise
            self._note()

        config = self._config
        async with Transport(config, handle, hooks=hooks) as service:
            only = replace(config, client_only=True, retry_delays=())
            async with Transport(only) as client:
                cpu, broker = time.process_time(), cpu_of(self._node.pid)
                await _send(client, count)
                await self._over.wait()
                while service.stats().deliveries_unsettled:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
                cpu, broker = time.process_time() - cpu, cpu_of(self._node.pid) - broker
        return cpu / count * 1e6, broker / count * 1e6

    def _note(self) -> None:
        self._ended += 1
        if self._ended == self._count:
            self._over.set()


async def _send(client: Transport, count: int, method: str = "work") -> None:
    room = asyncio.Semaphore(UNDER_WAY)

    async def one(number: int) -> None:
        async with room:
            await client.send(command(method, number))

    await asyncio.gather(*(one(number) for number in range(count)))


def command(method: str, number: int) -> dict[str, object]:
    """A command of some 200 bytes."""
    params = {"number": number, "text": "x" * 100}
    return {"tag": "command", "service": "orders", "method": method, "params": params}


async def succeed(_: Message) -> None:
    """Do nothing."""


async def come_back(message: Message) -> None:
    """Fail once."""
    if message.attempts == 1:
        raise RetryLater("not yet", after=DELAY)


async def fail(_: Message) -> None:
    """Fail."""
    raise LookupError("no such order: 4711")


async def lateness(config: TransportConfig, waiting: int) -> float:
    """Seconds until a retry of DELAY is back, behind so many that wait for an hour."""
    back = asyncio.Event()
    began = 0.0

    async def handle(message: Message) -> None:
        nonlocal began
        if message.payload["method"] == "hour":
            raise RetryLater("in an hour", after=HOUR)
        if message.attempts == 1:
            began = time.monotonic()
            raise RetryLater("in a second", after=DELAY)
        back.set()

    hours = replace(config, retry_delays=(DELAY, HOUR))
    only = replace(config, client_only=True, retry_delays=())
    async with Transport(hours, handle) as service, Transport(only) as client:
        await _send(client, waiting, "hour")
        while service.stats().retries < waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        await client.send(command("second", 0))
        await back.wait()
        return time.monotonic() - began


def rejecting() -> Hooks:
    """Hooks with which every failed message is rejected: no copy, no reason."""

    def settle(work: Delivery, settlement: Settlement) -> None:
        work.write(settlement)

    return Hooks(settler=settle)


async def measure(node: RabbitMQNode, messages: int, rounds: int, waiting: int) -> None:
    """Measure and print, on classic and quorum queues."""
    for queue_type in ("classic", "quorum"):
        name = f"retries-{queue_type}"
        node.api("PUT", f"/api/vhosts/{name}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        node.api("PUT", f"/api/permissions/{name}/guest", everything)
        config = TransportConfig(
            amqp_url=node.amqp_url + name,
            service_name="orders",
            queue_type=queue_type,
            retry_delays=(DELAY,),
        )
        await configure(config)
        run = Run(node, config)
        figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
        cases = {
            "succeeds": (succeed, None),
            "comes back once": (come_back, None),
            "rejected": (fail, rejecting()),
            "dead letter": (fail, None),
        }
        for _ in range(rounds):
            for case, (handler, hooks) in cases.items():
                print(".", end="", flush=True)
                figures[case].append(await run.cost(messages, handler, hooks))
                node.api("DELETE", f"/api/queues/{name}/nuropb-orders-dlq/contents")
        print()
        medians = {
            case: [round(statistics.median(each)) for each in zip(*pairs, strict=True)]
            for case, pairs in figures.items()
        }
        late = await lateness(config, waiting)
        print(json.dumps({"queue": queue_type, "µs here, broker": medians, "back after": late}))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="benchmarks.retries", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--waiting", type=int, default=10_000)
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # a line for each failure
    with RabbitMQNode() as node:
        asyncio.run(measure(node, options.messages, options.rounds, options.waiting))


if __name__ == "__main__":
    main()
