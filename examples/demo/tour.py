"""A program that calls the orders service in every way there is, and reports what came of it.

    python -m examples.demo.tour URL PUBLIC_KEY_FILE [--suppliers]

One call of each kind; then one call after the other until it has lived through a loss of the
broker; then it waits for SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nuropb_rmq import Encryptor, NuropbException, State, Transport, TransportConfig

from .client import Orders, RemoteError, Service, Suppliers
from .runtime import report, run, until_stopped

CARD = "4000 1234 5678 9010"
EVERY = 0.02  # seconds between two calls
PATIENCE = (2.0, 20.0)  # seconds: every second call is patient
ENOUGH = 50  # answers in a row that show that calls work
GIVE_UP = 40.0  # seconds after the loss


async def tour(url: str, public_key: bytes, *, suppliers: bool) -> None:
    """Every kind of call; the service suppliers is called when it runs."""
    encryptor = Encryptor()
    encryptor.add_public_key("orders", public_key)
    config = TransportConfig(
        amqp_url=url,
        service_name="shop",
        client_only=True,
        unknown_outcome_after=1.0,  # give up soon on an answer that was lost with its connection
    )
    async with Transport(config, encryptor=encryptor) as transport:
        report("ready")
        orders = Orders(transport)
        await tell("request", orders.total, "A-1001")
        await tell("remote error", orders.total, "B-2002")
        await tell("undeliverable", orders.invoice, "A-1001")
        await tell("timeout", orders.pack, "A-1001", 1.0, 0.4)
        await tell("command", orders.restock, "D-7", "lamp", 5)
        await tell("event", orders.shipped, "A-1001")
        await tell("event with an answer", orders.place, "chair", 1)
        await tell("encrypted", orders.pay, "A-1001", CARD)
        await tell("plain text", orders.pay_in_plain_text, "A-1001", CARD)
        if suppliers:
            await tell("old service", Suppliers(transport).offer, "lamp", 20)
        await Calls(transport, orders).keep_calling()
        await tell("stock", orders.stock, "lamp")
        await tell("stop", orders.pack, "A-1001", 0.5, 5.0)
        await until_stopped(transport)


async def tell(about: str, method: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
    """Call, and report what was asked, what came back, and how long it took."""
    service = getattr(method, "__self__", None)
    assert isinstance(service, Service)
    asked = f"{service.name}.{method.__name__}({', '.join(map(repr, arguments))})"
    outcome: dict[str, Any]
    began = time.monotonic()
    try:
        outcome = {"answer": await method(*arguments)}
    except (RemoteError, NuropbException) as e:
        outcome = {"error": type(e).__name__, "text": str(e)}
    report(about, asked=asked, began=began, seconds=time.monotonic() - began, **outcome)


class Calls:
    """Calls that go on whatever happens to the broker, and what became of each."""

    def __init__(self, transport: Transport, orders: Orders) -> None:
        self._transport = transport
        self._orders = orders
        self._ended: list[tuple[float, float, str]] = []  # began, ended, how
        self._in_a_row = 0
        self._states: list[State] = []
        self._lost_at: float | None = None

    async def keep_calling(self) -> None:
        """Begin a call every 20 ms, and report when all is well again after a loss."""
        forget = self._transport.on_state_change(lambda state, _: self._changed(state))
        number = 0
        async with asyncio.TaskGroup() as calls:
            while not self._well_again():
                calls.create_task(self._call(number, PATIENCE[number % len(PATIENCE)]))
                number += 1
                await asyncio.sleep(EVERY)
        forget()
        states = [state.name for state in self._states]
        report("outage", begun=number, calls=self._ended, states=states)

    async def _call(self, number: int, timeout: float) -> None:
        began = time.monotonic()
        try:
            answer = await self._orders.quote(number, timeout)
            how = "answered" if answer == number else "wrong answer"
        except (RemoteError, NuropbException) as e:
            how = type(e).__name__
        self._ended.append((began, time.monotonic(), how))
        self._in_a_row = self._in_a_row + 1 if how == "answered" else 0
        if len(self._ended) == ENOUGH:
            report("calling")  # now the broker may go

    def _changed(self, state: State) -> None:
        self._states.append(state)
        if state is State.RECOVERING:
            self._in_a_row = 0
            self._lost_at = self._lost_at or time.monotonic()

    def _well_again(self) -> bool:
        if self._lost_at is None:
            return False
        works = self._states[-1] is State.READY and self._in_a_row >= ENOUGH
        return works or time.monotonic() - self._lost_at > GIVE_UP


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="calls the demo's orders service in every way")
    parser.add_argument("url", help="the broker: amqp://user:password@host:port/vhost")
    parser.add_argument("public_key_file", type=Path, help="the public key of orders, as PEM")
    parser.add_argument("--suppliers", action="store_true", help="suppliers runs: call it too")
    given = parser.parse_args()
    public_key = given.public_key_file.read_bytes()
    run(tour(given.url, public_key, suppliers=given.suppliers))
