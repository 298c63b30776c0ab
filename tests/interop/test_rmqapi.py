"""nuropb's own RMQAPI on our RMQTransport: nothing that goes wrong is silent any more.

No transport of nuropb's takes part, so this runs on RabbitMQ 4.3 too, where that cannot start.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

import pytest

from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import SECRET
from ..faults.proxy import Wire
from .conftest import Peers
from .process import PeerError
from .sides import Answer, PeerCaller, PeerServer, called, until

OURS = "nuropb_rmq"


async def server_of(peers: Peers) -> PeerServer:
    """A service."""
    return await peers.server(transport=OURS)


async def caller_of(peers: Peers, url: str = "") -> PeerCaller:
    """A client."""
    return await peers.caller(transport=OURS, url=url)


async def test_it_is_our_transport(peers: Peers) -> None:
    caller = await caller_of(peers)
    assert "nuropb_rmq.compat.rmq_transport" in await caller.peer.do("transport")
    assert "nuropb.rmq_transport" not in await caller.peer.do("transport")


async def test_both_ends(peers: Peers) -> None:
    server, caller = await server_of(peers), await caller_of(peers)
    assert await caller.request("echo_later", text="é", number=1) == Answer(
        {"text": "é", "number": 1}
    )
    assert (await caller.request("fail_later", text="no")).error == "LookupError"
    assert await caller.request("again_later", key="a", times=1) == Answer("done at call 2")
    refused = await caller.request("again_later", key="b", times=2)
    assert refused.error == "NuropbCallAgainReject"
    await caller.describe()
    assert await caller.request("pay", encrypted=True, card=SECRET) == Answer(f"paid with {SECRET}")
    await caller.command("echo", text="a command")
    await caller.event("orders.created", {"id": 1}, {})
    await until(server.calls, lambda calls: calls[-1].get("topic") == "orders.created")
    params = [{"text": "n", "number": number} for number in range(200)]
    assert await caller.requests("echo", params) == params
    assert await caller.peer.do("keys") == 0 == await server.peer.do("keys")


async def test_a_request_that_is_returned(peers: Peers) -> None:
    caller = await caller_of(peers)
    async with asyncio.timeout(2):
        with pytest.raises(PeerError, match="nobody") as raised:
            await ask(caller, service="nobody")
    assert raised.value.error == "NuropbMessageError"  # as nuropb raises what a response tells
    answer = await caller.request("echo", service="nobody", text="?")
    assert answer.error == "NuropbNotDeliveredError"
    assert await caller.peer.do("unanswered") == 0


async def test_a_command_that_is_returned_is_logged(peers: Peers) -> None:
    caller = await caller_of(peers)
    await caller.peer.do("command", service="nobody", method="echo", params={}, context={})

    async def log() -> str:
        return caller.peer.log()

    told = await until(log, lambda text: "was it ever started here?" in text)
    assert told.count("was it ever started here?") == 1
    assert "Traceback" not in told


async def test_a_request_that_is_nacked(peers: Peers, request: pytest.FixtureRequest) -> None:
    """The service's queue is full, and a policy says that more is refused."""
    server, caller = await server_of(peers), await caller_of(peers)
    await server.stop()
    await refuse_more_than_one(peers.url, request)
    await caller.command("echo", text="fills the queue")
    answer = await caller.request("echo", text="too much")
    assert answer.error == "PublishNackedError"
    with pytest.raises(PeerError, match="refused the message") as raised:
        await ask(caller)
    assert raised.value.error == "NuropbMessageError"
    assert await caller.peer.do("unanswered") == 0


async def test_a_request_whose_connection_is_cut(peers: Peers) -> None:
    """Written, and neither confirmed nor answered: it may or may not have been done."""
    server = await server_of(peers)
    proxy = await peers.proxy()
    caller = await caller_of(peers, proxy.url)
    proxy.set(Wire.HOLE)
    call = asyncio.create_task(caller.request("echo", text="lost"))
    await until(lambda: caller.peer.do("unanswered"), lambda count: count == 1)
    proxy.reset()
    proxy.set(Wire.PASS)
    answer = await call
    assert answer.error == "NuropbOutcomeUnknownError", answer
    assert await caller.request("echo", text="after") == Answer({"text": "after", "number": 0})
    assert await caller.peer.do("unanswered") == 0
    assert [each["text"] for each in await server.calls()] == ["after"]


async def test_a_service_whose_connection_is_cut_answers_all_the_same(peers: Peers) -> None:
    proxy = await peers.proxy()
    server = await peers.server(transport=OURS, url=proxy.url)
    caller = await caller_of(peers)
    call = asyncio.create_task(caller.request("hold", text="here it is"))
    await called(server, 1)
    proxy.reset()
    await server.release()
    assert await call == Answer("here it is")


@pytest.mark.parametrize("end", ["disconnect", "the ttl"])
async def test_a_request_that_gets_no_answer(peers: Peers, end: str) -> None:
    """nuropb's own transport leaves it waiting for ever in both cases."""
    server, caller = await server_of(peers), await caller_of(peers)
    ttl = 20_000 if end == "disconnect" else 500
    call = asyncio.create_task(ask(caller, method="hold", ttl=ttl, params={"text": "?"}))
    await called(server, 1)
    if end == "disconnect":
        await caller.peer.do("disconnect")
    with pytest.raises(PeerError) as raised:
        await call
    told = "stopped" if end == "disconnect" else "no response within 0.5 s"
    assert told in raised.value.text
    await server.release()


async def test_before_it_is_connected(peers: Peers) -> None:
    """connect() raises, and a request does too."""
    peer = await peers.process("shop", transport=OURS)
    parts = urlsplit(peers.url)
    nowhere = parts._replace(netloc=f"guest:guest@{parts.hostname}:1").geturl()
    with pytest.raises(PeerError) as raised:
        await peer.do("connect", url=nowhere)
    assert raised.value.error == "BrokerUnreachableError"
    with pytest.raises(PeerError) as raised:
        await ask(PeerCaller(peer))
    assert raised.value.error == "TransportClosedError"


async def ask(caller: PeerCaller, **how: Any) -> object:
    """A request whose error is raised, as most programs of nuropb have it."""
    call = {"service": "orders", "method": "echo", "params": {"text": "?"}, "context": {}}
    return await caller.peer.do("request", **{**call, **how})


async def refuse_more_than_one(url: str, request: pytest.FixtureRequest) -> None:
    """A policy for the service queue, in force on return."""
    if os.environ.get("NUROPB_RMQ_TEST_URL"):
        pytest.skip("policies are set on a node of our own only")
    node: RabbitMQNode = request.getfixturevalue("rabbitmq_node")
    vhost = urlsplit(url).path[1:]
    queue = f"/api/queues/{vhost}/nuropb-orders-sq"
    policy = {
        "pattern": "^nuropb-orders-sq$",
        "apply-to": "queues",
        "definition": {"max-length": 1, "overflow": "reject-publish"},
    }
    await asyncio.to_thread(node.api, "PUT", f"/api/policies/{vhost}/full", policy)

    async def look() -> object:
        return (await asyncio.to_thread(node.api, "GET", queue)).get("policy")

    await until(look, lambda name: name == "full")
