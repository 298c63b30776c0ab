"""The drop-in, end to end: messages in and out, as programs of nuropb have them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pika import BasicProperties

from nuropb_rmq import NUROPB_VERSION, Message, MessageCompleteFunction, TransportServicePayload

from ..encrypting import Tap, calling, response, serving, tapping
from ..seams import callbacks_of, keys_of, tasks_of
from ..support import Transports, command, event, eventually, request, result_of
from .programs import Callback, Programs, answer, echo


async def test_a_request_is_answered_and_the_answer_reaches_the_callback(
    programs: Programs,
) -> None:
    service, client = Callback(echo), Callback()
    await programs.service(service)
    transport = await programs.client(client)
    payload = {
        **request(order="A-1"),
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "context": {"user": "u1"},
    }
    sent = transport.send_message(payload, expiry=60_000)
    await sent
    await eventually(lambda: client.messages)
    (asked,), (told,) = service.messages, client.messages
    assert asked == {
        "nuropb_protocol": "0.1.1",
        "nuropb_type": "request",
        "nuropb_payload": payload,
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "ttl": 60_000,
    }
    assert told["nuropb_type"] == "response"
    assert told["correlation_id"] == "c-1"
    assert told["trace_id"] == "t-1"
    assert told["nuropb_payload"]["result"] == {"order": "A-1"}
    assert told["nuropb_payload"]["context"] == {"user": "u1"}
    assert told["nuropb_payload"]["error"] is None
    assert payload["context"] == {"user": "u1"}  # what is sent is not changed
    assert transport.core.pending == 0


async def test_metadata_has_what_nuropb_has(programs: Programs) -> None:
    service, client = Callback(echo), Callback()
    (await programs.service(service)).is_leader = False
    transport = await programs.client(client)
    transport.send_message({**request(), "correlation_id": "c-1", "trace_id": "t-1"})
    await eventually(lambda: client.messages)
    (asked,) = service.metadata
    started = asked.pop("start_time")
    assert isinstance(started, float)
    assert asked == {
        "service_name": "orders",
        "instance_id": "one",
        "is_leader": False,
        "client_only": False,
        "nuropb_type": "request",
        "nuropb_version": NUROPB_VERSION,
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "encrypted": False,
    }
    assert client.metadata[0]["nuropb_type"] == "response"
    assert client.metadata[0]["client_only"] is True


async def test_commands_and_events_reach_the_callback(programs: Programs) -> None:
    service = Callback(echo)
    await programs.service(service, event_bindings=["orders.#"])
    transport = await programs.client()
    await transport.send_message(command(day="2026-01-02"), expiry=5_000)
    await transport.send_message(event("orders.created.eu", {"id": 1}))
    await eventually(lambda: len(service.messages) == 2)
    assert [each["nuropb_type"] for each in service.messages] == ["command", "event"]
    assert [each["ttl"] for each in service.messages] == [5_000, None]
    assert service.payloads[1]["event"] == {"id": 1}


async def test_default_ttl_is_in_milliseconds(programs: Programs) -> None:
    service = Callback(echo)
    await programs.service(service, default_ttl=7_000)
    brief = await programs.client(default_ttl=5_000)
    plain = await programs.client(instance_id="two")
    await brief.send_message(command())
    await plain.send_message(command(), expiry=0)  # nuropb takes 0 for none
    await eventually(lambda: len(service.messages) == 2)
    assert [each["ttl"] for each in service.messages] == [5_000, 12 * 60 * 60 * 1000]


async def test_both_sides_talk_with_transport_itself(programs: Programs, mesh: Transports) -> None:
    async def handle(message: Message) -> Any:
        return message.payload["params"]

    await mesh.service(handle, "new")
    await programs.service(echo)
    answers = Callback()
    old = await programs.client(answers)
    new = await mesh.client("newer")
    assert result_of(await new.request(request(n=1))) == {"n": 1}
    await old.send_message(request(service="new", n=2))
    await eventually(lambda: answers.messages)
    assert answers.payloads[0]["result"] == {"n": 2}


async def test_a_service_sends_requests_too(programs: Programs) -> None:
    await programs.service(echo, service_name="prices")

    def act(
        message: TransportServicePayload, complete: MessageCompleteFunction, _: dict[str, Any]
    ) -> None:
        if message["nuropb_type"] == "response":
            asked, finish = waiting.pop(message["correlation_id"])
            finish([answer(asked, message["nuropb_payload"]["result"])], "ack")
            return
        waiting["price"] = (message, complete)
        service.send_message({**request(service="prices", order=7), "correlation_id": "price"})

    waiting: dict[str, tuple[TransportServicePayload, MessageCompleteFunction]] = {}
    service = await programs.service(act)
    answers = Callback()
    client = await programs.client(answers)
    client.send_message(request())
    await eventually(lambda: answers.messages)
    assert answers.payloads[0]["result"] == {"order": 7}


async def test_responses_to_what_was_never_asked_are_dropped(
    programs: Programs, mesh: Transports
) -> None:
    """Anybody may send them, and so many; nor are they opened, though there is a key for that."""
    answers = Callback()
    ours = serving("client")
    client = await programs.client(answers, encryptor=ours)
    stranger = calling("client")

    def flood(tap: Tap) -> None:
        for number in range(100):
            identity = f"never asked {number}"
            payload = {"tag": "response", "result": 5, "error": None, "correlation_id": identity}
            asked = BasicProperties(correlation_id=identity, reply_to=client.response_queue)
            plain = json.dumps(payload).encode()
            sealed = stranger.encrypt_payload(plain, identity, "client")
            tap.answer(asked, plain, encrypted=False)
            tap.answer(asked, sealed, encrypted=True)

    async with tapping(mesh) as tap:
        await asyncio.to_thread(flood, tap)
    await eventually(lambda: client.core.dropped == {"unclaimed": 200})
    assert answers.messages == []
    assert not keys_of(ours).unwrapped
    assert ours.calls_remembered == 0


async def test_responses_can_be_sent_by_hand(programs: Programs, mesh: Transports) -> None:
    answers = Callback()
    client = await programs.client(answers)
    other = await programs.client(service_name="other")
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.bind, "orders")
        await client.send_message({**request(), "correlation_id": "asked"})
    await other.send_message(
        {
            "tag": "response",
            "result": 5,
            "error": None,
            "correlation_id": "asked",
            "context": {},
            "trace_id": None,
            "warning": None,
            "reply_to": client.response_queue,
        }
    )
    await eventually(lambda: answers.messages)
    assert answers.messages[0]["correlation_id"] == "asked"
    assert answers.payloads[0]["result"] == 5


async def test_further_responses_are_handed_on_until_the_time_of_their_request_is_over(
    programs: Programs, mesh: Transports
) -> None:
    answers = Callback()
    client = await programs.client(answers)
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.bind, "orders")
        client.send_message({**request(), "correlation_id": "c-1"}, expiry=1000)
        ((asked, _),) = await asyncio.to_thread(tap.take)

        def answer_it() -> None:
            tap.answer(asked, response(asked, "an answer"), encrypted=False)

        while not client.core.dropped:
            await asyncio.to_thread(answer_it)
    assert len(answers.payloads) > 1
    assert {each["result"] for each in answers.payloads} == {"an answer"}


async def test_every_response_reaches_the_callback_and_nothing_else_does(
    programs: Programs, mesh: Transports
) -> None:
    answers = Callback()
    client = await programs.client(answers)
    stranger = await mesh.client("stranger")
    async with tapping(mesh) as tap:
        await asyncio.to_thread(tap.bind, "orders")
        client.send_message({**request(), "correlation_id": "c-1"})
        ((asked, _),) = await asyncio.to_thread(tap.take)
        for result in ("first", "second"):  # an old peer sends two when a request failed
            await stranger.send(
                {
                    "tag": "response",
                    "result": result,
                    "error": None,
                    "correlation_id": asked.correlation_id,
                    "reply_to": asked.reply_to,
                }
            )
        body = b'{"tag": "command", "service": "client", "method": "evil", "params": {}}'
        await asyncio.to_thread(tap.publish, client.response_queue, body, "command")
        await asyncio.to_thread(tap.publish, client.response_queue, b"{", "response")
    await eventually(lambda: sum(client.core.dropped.values()) == 2)
    assert [each["result"] for each in answers.payloads] == ["first", "second"]


async def test_a_coroutine_function_is_a_callback_too(programs: Programs) -> None:
    async def handle(
        message: TransportServicePayload, complete: MessageCompleteFunction, _: dict[str, Any]
    ) -> None:
        await asyncio.sleep(0)
        complete([answer(message, "slept")], "ack")

    got: list[Any] = []

    async def take(
        message: TransportServicePayload, complete: MessageCompleteFunction, _: dict[str, Any]
    ) -> None:
        await asyncio.sleep(0)
        got.append(message["nuropb_payload"]["result"])
        complete([], "ack")

    await programs.service(handle)
    client = await programs.client(take)
    for _ in range(3):
        client.send_message(request())
    await eventually(lambda: len(got) == 3)
    assert got == ["slept"] * 3
    await eventually(lambda: not tasks_of(callbacks_of(client)))


async def test_many_messages_at_once(programs: Programs) -> None:
    await programs.service(echo, prefetch_count=50)
    answers = Callback()
    client = await programs.client(answers)
    sent = [client.send_message(request(number=number)) for number in range(1000)]
    await asyncio.gather(*sent)
    await eventually(lambda: len(answers.messages) == 1000)
    assert [each["result"]["number"] for each in answers.payloads] == list(range(1000))
    assert client.core.pending == 0


async def test_one_message_at_a_time_unless_told_otherwise(
    programs: Programs, mesh: Transports
) -> None:
    service = Callback()
    await programs.service(service)
    client = await mesh.client()
    for number in range(3):
        await client.send(command(number=number))
    async with tapping(mesh) as tap:
        for done in range(3):
            await eventually(lambda: len(service.messages) == done + 1)  # noqa: B023
            assert await asyncio.to_thread(tap.depth, "nuropb-orders-sq") == 2 - done
            service.complete([], of=done)
    assert [each["params"]["number"] for each in service.payloads] == [0, 1, 2]


@pytest.mark.parametrize("settings", [{"prefetch_count": 0}, {"prefetch_count": 3}])
async def test_more_with_a_prefetch_count(programs: Programs, settings: dict[str, Any]) -> None:
    service = Callback()
    await programs.service(service, **settings)
    client = await programs.client()
    for _ in range(3):
        client.send_message(command())
    await eventually(lambda: len(service.messages) == 3)
    for number in range(3):
        service.complete([], of=number)
