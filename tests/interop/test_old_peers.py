"""Hold docs/guides/migration.md against nuropb 0.1.8 itself, where both run side by side."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from nuropb_rmq import Message, NuropbCallAgain, Transport, TransportConfig

from .conftest import Peers, start_caller
from .orders import Orders
from .process import PeerError
from .sides import SERVICE, Answer, execute, until


async def test_a_lost_connection_is_the_end_and_it_says_that_it_is_connected(
    old_peers: Peers,
) -> None:
    proxy = await old_peers.proxy()
    async with contextlib.AsyncExitStack() as started:
        server = await old_peers.server(url=proxy.url)
        caller = await start_caller("Transport", old_peers, started)
        assert (await caller.request("echo", text="?")).error is None
        proxy.reset()

        async def log() -> str:
            return server.peer.log()

        await until(log, lambda text: "has no attribute 'reply_code'" in text)
        answer = await caller.request("echo", text="?", ttl=1500)
        assert answer.error == "NuropbTimeoutError"
        assert await server.peer.do("connected") is True
        assert proxy.accepted == 1
        await server.peer.kill()  # it cannot disconnect any more


async def test_a_coroutine_that_handles_events_is_never_run(old_peers: Peers) -> None:
    server = await old_peers.server(what="WithCoroutine")
    caller = await old_peers.caller()
    await caller.event("orders.created", {"id": 1}, {})

    async def log() -> str:
        return server.peer.log()

    await until(log, lambda text: "was never awaited" in text)
    assert await server.calls() == []


async def test_annotations_that_are_text_make_a_service_undescribable(old_peers: Peers) -> None:
    await old_peers.server(what="WithTextAnnotations")
    caller = await old_peers.caller()
    answer = await caller.request("nuropb_describe")
    assert answer.error == "NuropbException"
    assert "'str' object has no attribute '__name__'" in answer.description


async def test_a_method_that_requires_encryption_is_served_in_plain_text(old_peers: Peers) -> None:
    await old_peers.server()
    caller = await old_peers.caller()
    assert await caller.request("pay", card="1") == Answer("paid with 1")


async def test_errors_are_raised_as_one_class(old_peers: Peers) -> None:
    await old_peers.server()
    caller = await old_peers.caller()
    call: dict[str, Any] = {"service": SERVICE, "method": "fail_later", "params": {"text": "no"}}
    with pytest.raises(PeerError) as raised:
        await caller.peer.do("request", context={}, **call)
    assert (raised.value.error, raised.value.text) == ("NuropbMessageError", "no")


async def test_a_response_queue_of_another_name_must_be_admitted(old_peers: Peers) -> None:
    """We answer to names that match reply_to_pattern only."""
    caller = await old_peers.caller(settings={"response_queue": "shop-answers"})
    for pattern in ("nuropb-.*-rq", "shop-answers"):
        orders = Orders(NuropbCallAgain)
        config = TransportConfig(
            amqp_url=old_peers.url, service_name=SERVICE, reply_to_pattern=pattern
        )

        async def handle(message: Message, orders: Orders = orders) -> Any:
            return await execute(orders, message.kind, message.payload)

        async with Transport(config, handle):
            answer = await caller.request("echo", text="?", ttl=1000)
        assert len(orders._calls) == 1
        assert answer.error == (None if pattern == "shop-answers" else "TimeoutError")
