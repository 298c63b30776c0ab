"""The core, end to end: two transports over a real broker."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from nuropb_rmq import (
    Completion,
    Message,
    MessageType,
    NuropbCallAgain,
    NuropbSuccess,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
    Outcome,
    State,
    TransportClosedError,
)

from ..seams import confirmations, replies_of
from ..support import Recorder, Transports, command, event, eventually, request, result_of


async def test_request_and_response(mesh: Transports) -> None:
    recorder = Recorder()
    await mesh.service(recorder)
    client = await mesh.client()
    response = await client.request(
        {**request(order="A-1"), "trace_id": "trace-1", "context": {"user": "u1"}}
    )
    assert result_of(response) == {"order": "A-1"}
    assert response["trace_id"] == "trace-1"
    assert response["context"] == {"user": "u1"}
    (seen,) = recorder.seen
    assert seen.kind is MessageType.REQUEST
    assert seen.ttl == 30_000
    assert seen.correlation_id == response["correlation_id"]
    assert not seen.encrypted
    assert not seen.redelivered


async def test_a_handler_that_raises_is_a_remote_error(mesh: Transports) -> None:
    async def fail(_: Message) -> None:
        raise LookupError("no such order")

    await mesh.service(fail)
    client = await mesh.client()
    response = await client.request(request())
    assert response["result"] is None
    assert response["error"] == {"error": "LookupError", "description": "no such order"}


async def test_a_handler_that_raises_cancelled_error_is_a_remote_error(mesh: Transports) -> None:
    async def fail(_: Message) -> None:
        raise asyncio.CancelledError("not mine")

    await mesh.service(fail)
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] is not None
    assert response["error"]["error"] == "CancelledError"


async def test_a_handler_past_its_deadline_is_a_remote_error(mesh: Transports) -> None:
    async def never(_: Message) -> None:
        await asyncio.Event().wait()

    await mesh.service(never, handler_timeout=0.2)
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] is not None
    assert response["error"]["error"] == "NuropbHandlingError"
    assert "handler_timeout" in response["error"]["description"]


async def test_a_result_that_json_cannot_carry_is_a_remote_error(mesh: Transports) -> None:
    async def answer(_: Message) -> Any:
        return {("a", "tuple"): 1}

    await mesh.service(answer)
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] is not None
    assert response["error"]["error"] == "NuropbSerializationError"


async def test_commands_and_events_are_handled(mesh: Transports) -> None:
    recorder = Recorder()
    await mesh.service(recorder, event_bindings=["orders.#"])
    client = await mesh.client()
    await client.send(command(day="2026-01-02"))
    await client.send(event("orders.created.eu", {"id": 1}))
    await client.send(event("invoices.created", {"id": 2}))  # bound by nobody: no error
    await eventually(lambda: len(recorder.seen) == 2)
    assert [each.kind for each in recorder.seen] == [MessageType.COMMAND, MessageType.EVENT]
    assert recorder.seen[1].payload["event"] == {"id": 1}


async def test_an_event_reaches_every_subscriber_once(mesh: Transports) -> None:
    first, second = Recorder(), Recorder()
    await mesh.service(first, "mail", event_bindings=["orders.*"])
    await mesh.service(second, "audit", event_bindings=["#"])
    await mesh.service(second, "audit", event_bindings=["#"])  # a second instance shares the queue
    client = await mesh.client()
    for number in range(20):
        await client.send(event("orders.created", number))
    await eventually(lambda: len(first.seen) == 20 and len(second.seen) == 20)
    assert sorted(each.payload["event"] for each in second.seen) == list(range(20))


async def test_call_again_once_and_once_only(mesh: Transports) -> None:
    counts = []

    async def again(message: Message) -> str:
        counts.append(message.call_again_count)
        if message.payload["method"] == "twice" or message.call_again_count == 0:
            raise NuropbCallAgain("not yet")
        return "done"

    await mesh.service(again)
    client = await mesh.client()
    assert result_of(await client.request(request("once"))) == "done"
    assert counts == [0, 1]
    response = await client.request(request("twice"))
    assert response["error"] is not None
    assert response["error"]["error"] == "NuropbCallAgainReject"
    assert counts == [0, 1, 0, 1]


async def test_success_with_events_publishes_them(mesh: Transports) -> None:
    recorder = Recorder()

    async def act(_: Message) -> None:
        raise NuropbSuccess("ok", events=[{"topic": "orders.done", "payload": {"id": 1}}])

    await mesh.service(act)
    await mesh.service(recorder, "audit", event_bindings=["orders.done"])
    client = await mesh.client()
    assert result_of(await client.request(request())) == "ok"
    await eventually(lambda: recorder.seen)
    assert recorder.seen[0].payload["event"] == {"id": 1}


async def test_a_completion_decides_everything(mesh: Transports) -> None:
    async def refuse(_: Message) -> Completion:
        return Completion(Outcome.FAILED)

    await mesh.service(refuse)
    client = await mesh.client()
    with pytest.raises(NuropbTimeoutError):
        await client.request(request(), timeout=0.3)


async def test_a_service_calls_another_service(mesh: Transports) -> None:
    async def price(message: Message) -> int:
        return len(message.payload["params"]["order"])

    await mesh.service(price, "prices")

    async def order(message: Message) -> Any:
        return result_of(
            await orders.request(
                request("price", service="prices", order=message.payload["params"]["order"])
            )
        )

    orders = await mesh.service(order)
    client = await mesh.client()
    assert result_of(await client.request(request(order="A-17"))) == 4


async def test_large_bodies_and_many_at_once(mesh: Transports) -> None:
    await mesh.service(Recorder())
    client = await mesh.client()
    text = "é" * 600_000
    assert result_of(await client.request(request(text=text))) == {"text": text}
    answers = await asyncio.gather(
        *(client.request(request(number=number)) for number in range(500))
    )
    assert [result_of(each)["number"] for each in answers] == list(range(500))


async def test_state_is_told(mesh: Transports) -> None:
    service = mesh.transport("orders", Recorder())
    states = []
    service.on_state_change(lambda state, _: states.append(state))
    await service.start()
    assert await service.wait_for(State.READY, timeout=1) is State.READY
    with pytest.raises(NuropbTimeoutError, match="state is READY, not FAILED"):
        await service.wait_for(State.FAILED, timeout=0.05)
    with pytest.raises(NuropbTransportError, match="READY already"):
        await service.start()
    await service.stop()
    await service.stop()
    assert states == [State.CONNECTING, State.READY, State.DRAINING, State.STOPPED]
    with pytest.raises(TransportClosedError):
        await service.request(request())


async def test_a_handler_may_send_before_start_has_returned(mesh: Transports) -> None:
    """A service has two connections: messages may come by one before the other can publish."""
    recorder = Recorder()
    await mesh.service(recorder, "audit", event_bindings=["orders.#"])
    await (await mesh.service(recorder)).stop()  # its queue stays
    client = await mesh.client()
    for n in range(5):
        await client.send(command(n=n))
    failed: list[Exception] = []

    async def handle(message: Message) -> None:
        try:
            await service.send(event("orders.noted", message.payload["params"]))
        except Exception as e:
            failed.append(e)
            raise

    service = mesh.transport("orders", handle)
    await service.start()
    await eventually(lambda: len(recorder.seen) == 5 or failed)
    assert failed == []


async def test_a_transport_can_be_started_again(mesh: Transports) -> None:
    service = await mesh.service(Recorder())
    client = await mesh.client()
    for number in range(3):
        assert result_of(await client.request(request(number=number))) == {"number": number}
        await service.stop()
        await service.start()


async def test_stop_finishes_what_is_in_hand(mesh: Transports) -> None:
    begun = asyncio.Event()

    async def slow(_: Message) -> str:
        begun.set()
        await asyncio.sleep(0.3)
        return "finished"

    service = await mesh.service(slow)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await begun.wait()
    await service.stop(grace=5)
    assert result_of(await call) == "finished"


async def test_stop_gives_back_what_is_not_finished(mesh: Transports) -> None:
    begun = asyncio.Event()

    async def stuck(_: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    service = await mesh.service(stuck)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await begun.wait()
    await service.stop(grace=0.1)
    recorder = Recorder()
    await mesh.service(recorder)
    assert result_of(await call) == {}
    assert recorder.seen[0].redelivered


async def test_cancelling_a_request_forgets_it(mesh: Transports) -> None:
    begun = asyncio.Event()

    async def stuck(_: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    await mesh.service(stuck)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await begun.wait()
    assert client.pending == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert client.pending == 0


async def test_a_request_that_fails_in_the_moment_of_its_cancellation(mesh: Transports) -> None:
    """asyncio does not complain of an exception that nobody took: the fixtures listen."""
    client = await mesh.client()
    await mesh.service(Recorder())
    call = asyncio.create_task(client.request({**request(), "correlation_id": "c-1"}))
    send = asyncio.create_task(client.send(command()))
    await asyncio.sleep(0)
    pending = replies_of(client).waiting("c-1")
    assert pending is not None
    pending.fail(NuropbTimeoutError("now"))
    (confirmation,) = confirmations(client)
    confirmation.settle(NuropbTimeoutError("now"))
    call.cancel()
    send.cancel()
    ended = await asyncio.gather(call, send, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
    del pending, confirmation, ended, call, send
    gc.collect()
    assert client.pending == 0


async def test_the_same_correlation_id_twice_is_refused(mesh: Transports) -> None:
    release = asyncio.Event()

    async def wait(_: Message) -> None:
        await release.wait()

    await mesh.service(wait)
    client = await mesh.client()
    payload = {**request(), "correlation_id": "c-1"}
    first = asyncio.create_task(client.request(payload))
    await eventually(lambda: client.pending == 1)
    with pytest.raises(NuropbValidationError, match="correlation_id"):
        await client.request(payload)
    release.set()
    assert result_of(await first) is None
