"""message_complete: at once or later, from anywhere, once; and whatever it is given, an end."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nuropb_rmq import (
    MessageCompleteFunction,
    NuropbCallAgain,
    NuropbHandlingError,
    TransportServicePayload,
)

from ..encrypting import DL_QUEUE, Tap, tapping
from ..seams import callbacks_of, tasks_of
from ..support import Recorder, Transports, command, event, eventually, request, result_of
from .programs import Callback, Programs, answer, echo, raised, respond

Message = TransportServicePayload
Complete = MessageCompleteFunction


@pytest.fixture
async def tap(mesh: Transports) -> AsyncIterator[Tap]:
    """A plain AMQP client."""
    async with tapping(mesh) as made:
        yield made


async def dead_letters(tap: Tap, count: int = 1) -> list[dict[str, Any]]:
    """The bodies of what was dead-lettered."""
    taken = await asyncio.to_thread(tap.take, DL_QUEUE, count)
    return [json.loads(body) for _, body in taken]


async def waiting(tap: Tap, queue: str = "nuropb-orders-sq") -> int:
    """Messages that are ready in a queue."""
    return await asyncio.to_thread(tap.depth, queue)


def logged(caplog: pytest.LogCaptureFixture, text: str) -> int:
    """Count the records of level WARNING and above that contain this text."""
    return sum(
        text in record.getMessage() for record in caplog.records if record.levelno > logging.INFO
    )


def join(threads: list[threading.Thread]) -> None:
    """Wait until all have ended."""
    for thread in threads:
        thread.join()


# -- when, and from where -------------------------------------------------------------------


async def test_later(programs: Programs, mesh: Transports) -> None:
    service = Callback()
    await programs.service(service)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request(n=1)))
    await eventually(lambda: service.messages)
    assert not call.done()
    asyncio.get_running_loop().call_later(
        0.05, service.complete, [answer(service.messages[0], "later")]
    )
    assert result_of(await call) == "later"


async def test_from_another_thread(programs: Programs, mesh: Transports) -> None:
    threads = []

    def act(message: Message, complete: Complete, _: Any) -> None:
        thread = threading.Thread(target=complete, args=([answer(message, "threaded")], "ack"))
        threads.append(thread)
        thread.start()

    await programs.service(act, prefetch_count=10)
    client = await mesh.client()
    responses = await asyncio.gather(*(client.request(request(n=n)) for n in range(50)))
    assert [result_of(each) for each in responses] == ["threaded"] * 50
    for thread in threads:
        thread.join()


async def test_from_many_threads_it_counts_once(
    programs: Programs, mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    threads = []

    def act(message: Message, complete: Complete, _: Any) -> None:
        for n in range(8):
            thread = threading.Thread(target=complete, args=([answer(message, n)], "ack"))
            threads.append(thread)
            thread.start()

    await programs.service(act)
    client = await mesh.client()
    assert result_of(await client.request(request())) in range(8)
    await asyncio.to_thread(join, threads)
    await eventually(lambda: logged(caplog, "was called again; ignored") == 7)
    assert result_of(await client.request(request())) in range(8)  # nothing is in the way
    await asyncio.to_thread(join, threads)
    await eventually(lambda: logged(caplog, "was called again; ignored") == 14)


async def test_a_coroutine_may_complete_and_go_on(programs: Programs, mesh: Transports) -> None:
    """The answer does not wait for what comes behind it; stop() does."""
    go_on = asyncio.Event()
    ended = []

    async def act(message: Message, complete: Complete, _: Any) -> None:
        complete([answer(message, "early")], "ack")
        await go_on.wait()
        ended.append(message)

    service = await programs.service(act)
    client = await mesh.client()
    assert result_of(await client.request(request())) == "early"
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    assert not ended
    go_on.set()
    await stopping
    assert len(ended) == 1


async def test_a_coroutine_that_goes_on_too_long_keeps_its_answer(
    programs: Programs, mesh: Transports, tap: Tap
) -> None:
    ended = asyncio.Event()

    async def act(message: Message, complete: Complete, _: Any) -> None:
        complete([answer(message, "early")], "ack")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await programs.service(act, core={"handler_timeout": 0.2})
    client = await mesh.client()
    assert result_of(await client.request(request())) == "early"
    await asyncio.wait_for(ended.wait(), 5)
    assert result_of(await client.request(request())) == "early"
    assert await waiting(tap, DL_QUEUE) == 0


async def test_a_coroutine_that_completes_later_by_other_means(
    programs: Programs, mesh: Transports
) -> None:
    async def act(message: Message, complete: Complete, _: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, complete, [answer(message, "after its end")], "ack")

    await programs.service(act)
    client = await mesh.client()
    assert result_of(await client.request(request())) == "after its end"


async def test_a_second_call_is_refused_and_logged(
    programs: Programs, mesh: Transports, tap: Tap, caplog: pytest.LogCaptureFixture
) -> None:
    def act(message: Message, complete: Complete, _: Any) -> None:
        complete([answer(message, "first")], "ack")
        complete([answer(message, "second")], "reject")

    await programs.service(act)
    client = await mesh.client()
    assert result_of(await client.request(request())) == "first"
    assert logged(caplog, "message_complete of request") == 1
    assert await waiting(tap, DL_QUEUE) == 0
    assert await waiting(tap) == 0


async def test_never_called(programs: Programs, mesh: Transports, tap: Tap) -> None:
    service = Callback()
    await programs.service(service, core={"handler_timeout": 0.3})
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] is not None
    assert "handler_timeout" in response["error"]["description"]
    assert [each["tag"] for each in await dead_letters(tap)] == ["request"]
    echo(service.messages[0], service.completes[0], {})  # too late, and harmless


async def test_settling_after_stop_is_harmless(
    programs: Programs, mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    service = Callback()
    transport = await programs.service(service)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await eventually(lambda: service.messages)
    await transport.core.stop(grace=0.05)
    service.complete([answer(service.messages[0], "late")])
    await asyncio.to_thread(service.complete, [], "reject")
    await eventually(lambda: logged(caplog, "too late") == 2)
    recorder = Recorder()
    await mesh.service(recorder)  # it went back to the queue
    assert result_of(await call) == {}
    assert recorder.seen[0].redelivered


async def test_stop_waits_for_what_is_in_hand(programs: Programs, mesh: Transports) -> None:
    service = Callback()
    transport = await programs.service(service)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await eventually(lambda: service.messages)
    stopping = asyncio.create_task(transport.stop())
    await eventually(lambda: not transport.connected)
    service.complete([answer(service.messages[0], "in time")])
    await stopping
    assert result_of(await call) == "in time"


def test_completing_after_the_loop_is_closed(
    mesh_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        programs = Programs(mesh_url)
        programs.make(service).configure_rabbitmq()
        transport = await programs.service(service)
        client = await programs.client()
        await client.send_message(command())
        await eventually(lambda: service.messages)
        await transport.core.stop(grace=0.05)
        await programs.stop()

    service = Callback()
    asyncio.run(scenario())
    thread = threading.Thread(target=service.complete, args=([],))
    thread.start()
    thread.join()
    assert logged(caplog, "the event loop is closed") == 1


# -- call again -----------------------------------------------------------------------------


async def test_nack_calls_again_once_and_once_only(
    programs: Programs, mesh: Transports, tap: Tap
) -> None:
    def act(message: Message, complete: Complete, _: Any) -> None:
        method = message["nuropb_payload"]["method"]
        if method == "twice" or len(service.messages) % 2:
            complete([answer(message, None)], "nack")  # nuropb gives a response here, unsent
        else:
            complete([answer(message, "done")], "ack")

    service = Callback(act)
    await programs.service(service)
    client = await mesh.client()
    assert result_of(await client.request(request("once"))) == "done"
    assert len(service.messages) == 2
    response = await client.request(request("twice"))
    assert response["error"] is not None
    assert response["error"]["error"] == "NuropbCallAgainReject"
    assert len(service.messages) == 4
    assert [each["method"] for each in await dead_letters(tap)] == ["twice"]
    await client.send(command("twice"))
    await eventually(lambda: len(service.messages) == 6)
    assert [each["tag"] for each in await dead_letters(tap)] == ["command"]
    assert await waiting(tap) == 0


async def test_an_event_is_not_called_again(programs: Programs, mesh: Transports, tap: Tap) -> None:
    service = Callback(lambda _, complete, __: complete([], "nack"))
    await programs.service(service, event_bindings=["a"])
    client = await mesh.client()
    await client.send(event("a", 1))
    await eventually(lambda: service.messages)
    await client.send(event("a", 2))
    await eventually(lambda: len(service.messages) == 2)
    assert [each["event"] for each in service.payloads] == [1, 2]
    assert await waiting(tap, DL_QUEUE) == 0


# -- what it is given -----------------------------------------------------------------------


async def test_events_are_published_with_the_answer(programs: Programs, mesh: Transports) -> None:
    def act(message: Message, complete: Complete, _: Any) -> None:
        action: Any = message["nuropb_payload"]["params"]["action"]
        events = [
            raised(message, "orders.done", action),
            raised(message, "orders.done", "other ids", correlation_id=None, trace_id=None),
        ]
        if message["nuropb_type"] == "request":
            events.insert(1, answer(message, "ok"))
        complete(events, action)

    recorder = Recorder()
    await mesh.service(recorder, "audit", event_bindings=["orders.done"])
    await programs.service(act)
    client = await mesh.client()
    payload = {**request(action="ack"), "correlation_id": "c-1", "trace_id": "t-1"}
    assert result_of(await client.request(payload)) == "ok"
    await client.request(request(action="reject"))
    await client.send(command(action="ack"))
    await eventually(lambda: len(recorder.seen) == 6)
    assert [each.payload["event"] for each in recorder.seen][::2] == ["ack", "reject", "ack"]
    assert [each.correlation_id for each in recorder.seen][:2] == ["c-1", "c-1"]
    assert [each.trace_id for each in recorder.seen][:2] == ["t-1", "t-1"]


async def test_a_request_has_one_answer(programs: Programs, mesh: Transports) -> None:
    """nuropb's RMQAPI gives two when a method fails: the error, and a worthless one."""

    def act(message: Message, complete: Complete, _: Any) -> None:
        error = {"error": "ValueError", "description": "first"}
        complete([answer(message, error=error), answer(message, object())], "reject")

    await programs.service(act)
    answers = Callback()
    client = await programs.client(answers)
    client.send_message(request(n=1))
    client.send_message(request(n=2))
    await eventually(lambda: len(answers.messages) == 2)
    assert [each["error"]["description"] for each in answers.payloads] == ["first"] * 2


async def test_a_reply_to_is_that_of_the_request(programs: Programs, mesh: Transports) -> None:
    await programs.service(
        lambda message, complete, _: complete(
            [answer(message, 1, reply_to="nuropb-someone-else-rq", trace_id="other")], "ack"
        )
    )
    client = await mesh.client()
    response = await client.request({**request(), "trace_id": "t-1"})
    assert result_of(response) == 1
    assert response["trace_id"] == "t-1"


async def test_an_ack_without_an_answer(programs: Programs, mesh: Transports, tap: Tap) -> None:
    """Allowed: the answer may be sent by send_message, later."""
    nothing: Any
    for nothing in ([], (), None):
        service = Callback(lambda _, complete, __: complete(nothing, "ack"))  # noqa: B023
        transport = await programs.service(service)
        client = await programs.client()
        client.send_message(request())
        await eventually(lambda: service.messages)  # noqa: B023
        await transport.stop()
        await client.stop()
    assert await waiting(tap) == 0
    assert await waiting(tap, DL_QUEUE) == 0


BAD: dict[str, Callable[[Message], tuple[Any, Any]]] = {
    "an unknown action": lambda m: ([answer(m)], "maybe"),
    "no action": lambda m: ([answer(m)], None),
    "an action of another type": lambda m: ([answer(m)], ["ack"]),
    "a dict": lambda m: ({"nuropb_payload": answer(m)}, "ack"),
    "text": lambda _: ("response", "ack"),
    "a number": lambda _: (7, "ack"),
    "a list of text": lambda _: (["response"], "ack"),
    "not wrapped": lambda m: ([answer(m)["nuropb_payload"]], "ack"),
    "an empty wrapping": lambda _: ([{}], "ack"),
    "nothing wrapped": lambda _: ([{"nuropb_payload": None}], "ack"),
    "no tag": lambda m: ([respond(m, {"result": 1, "error": None})], "ack"),
    "a wrong tag": lambda m: ([answer(m, tag="request")], "ack"),
    "a tag of another type": lambda m: ([answer(m, tag=["response"])], "ack"),
    "another correlation id": lambda m: ([answer(m, correlation_id="stranger")], "ack"),
    "a correlation id of another type": lambda m: ([answer(m, correlation_id=7)], "ack"),
    "no result": lambda m: ([respond(m, {"tag": "response", "error": None})], "ack"),
    "an error as text": lambda m: ([answer(m, error="broken")], "ack"),
    "a context as text": lambda m: ([answer(m, context="broken")], "ack"),
    "not JSON": lambda m: ([answer(m, {("a", "key"): 1})], "ack"),
    "an event without a topic": lambda m: ([answer(m), respond(m, {"tag": "event"})], "ack"),
    "an event with a topic of another type": lambda m: ([answer(m), raised(m, 7, 1)], "ack"),  # type: ignore[arg-type]
    "an event that is not JSON": lambda m: ([answer(m), raised(m, "a", {("b",): 1})], "ack"),
    "an event with too long a topic": lambda m: ([answer(m), raised(m, "a" * 300, 1)], "ack"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("where", ["on the loop", "in a thread"])
async def test_bad_answers_end_the_message_as_failed(
    programs: Programs,
    mesh: Transports,
    tap: Tap,
    caplog: pytest.LogCaptureFixture,
    bad: Callable[[Message], tuple[Any, Any]],
    where: str,
) -> None:
    def act(message: Message, complete: Complete, _: Any) -> None:
        if message["nuropb_payload"]["method"] == "good":
            echo(message, complete, {})
        elif where == "on the loop":
            complete(*bad(message))
        else:
            thread = threading.Thread(target=complete, args=bad(message))
            thread.start()
            thread.join()

    await programs.service(act)
    client = await mesh.client()
    response = await client.request(request(secret="hush"))
    assert response["result"] is None
    assert response["error"] is not None
    assert response["error"]["error"] in ("NuropbValidationError", "NuropbSerializationError")
    told = [each.getMessage() for each in caplog.records if each.levelno > logging.INFO]
    assert len(told) == 1, told
    assert "message_complete" in told[0] or "failed with Nuropb" in told[0]
    assert "hush" not in caplog.text
    assert [each["method"] for each in await dead_letters(tap)] == ["echo"]
    assert result_of(await client.request(request("good", n=1))) == {"n": 1}
    assert await waiting(tap) == 0


@pytest.mark.parametrize("kind", ["command", "event"])
async def test_bad_answers_to_commands_and_events(
    programs: Programs, mesh: Transports, tap: Tap, kind: str
) -> None:
    def act(message: Message, complete: Complete, _: Any) -> None:
        complete(*BAD[bad](message))

    service = Callback(act)
    await programs.service(service, event_bindings=["a"])
    client = await mesh.client()
    ended_well = {"not JSON"}  # an answer that nobody is sent
    for bad in BAD:
        await client.send(command() if kind == "command" else event("a", 1))
        await eventually(lambda: service.messages)
        if bad not in ended_well:
            assert [each["tag"] for each in await dead_letters(tap)] == [kind]
        service.messages.clear()
    assert await waiting(tap) == 0


# -- callbacks that raise -------------------------------------------------------------------


async def test_a_callback_that_raises(
    programs: Programs, mesh: Transports, tap: Tap, caplog: pytest.LogCaptureFixture
) -> None:
    def act(*_: Any) -> None:
        raise LookupError("no such order: hush")

    await programs.service(act, event_bindings=["a"])
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] == {"error": "LookupError", "description": "no such order: hush"}
    await client.send(command())
    await client.send(event("a", 1))
    bodies = await dead_letters(tap, 3)
    assert [each["tag"] for each in bodies] == ["request", "command", "event"]
    warned = [each for each in caplog.records if each.levelno > logging.INFO]
    assert len(warned) == 3
    assert not any("hush" in each.getMessage() for each in warned)


async def test_a_coroutine_function_that_raises(
    programs: Programs, mesh: Transports, tap: Tap
) -> None:
    async def act(message: Message, _: Complete, __: Any) -> None:
        await asyncio.sleep(0)
        raise {"again": NuropbCallAgain("again"), "echo": NuropbHandlingError("broken")}[
            message["nuropb_payload"]["method"]
        ]

    service = Callback(act)
    await programs.service(service)
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] == {"error": "NuropbHandlingError", "description": "broken"}
    response = await client.request(request("again"))
    assert response["error"] is not None
    assert response["error"]["error"] == "NuropbCallAgainReject"
    assert len(service.messages) == 3


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callback_that_raises_after_completing(
    programs: Programs,
    mesh: Transports,
    tap: Tap,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
) -> None:
    def act(message: Message, complete: Complete, _: Any) -> None:
        complete([answer(message, "good")], "ack")
        raise LookupError("too late")

    async def act_async(message: Message, complete: Complete, metadata: Any) -> None:
        act(message, complete, metadata)

    await programs.service(act_async if is_async else act)
    client = await mesh.client()
    assert result_of(await client.request(request())) == "good"
    await eventually(lambda: logged(caplog, "failed after message_complete") == 1)
    assert result_of(await client.request(request())) == "good"
    assert await waiting(tap, DL_QUEUE) == 0


async def test_a_callback_that_raises_and_is_completed_later(
    programs: Programs, mesh: Transports, tap: Tap, caplog: pytest.LogCaptureFixture
) -> None:
    def act(*_: Any) -> None:
        raise LookupError("no such order")

    service = Callback(act)
    await programs.service(service)
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] is not None
    service.complete([answer(service.messages[0], "after all")])
    assert logged(caplog, "too late: its handler has ended") == 1
    assert len(await dead_letters(tap)) == 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callback_that_raises_with_a_response(
    programs: Programs, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    def act(*_: Any) -> None:
        raise LookupError("hush")

    async def act_async(*_: Any) -> None:
        act()

    await programs.service(echo)
    answers = Callback(act_async if is_async else act)
    client = await programs.client(answers)
    client.send_message(request(n=1))
    client.send_message(request(service="nobody"))
    await eventually(lambda: logged(caplog, "message_callback failed with a response") == 2)
    assert len(answers.messages) == 2
    assert client.connected
    assert not any("hush" in each.getMessage() for each in caplog.records)


# -- responses ------------------------------------------------------------------------------


async def test_completing_a_response(programs: Programs, caplog: pytest.LogCaptureFixture) -> None:
    def act(message: Message, complete: Complete, _: Any) -> None:
        match message["nuropb_payload"]["result"]["n"]:
            case 1:
                complete([], "ack")
                complete([], "ack")
            case 2:
                complete([answer(message)], "ack")
            case 3:
                complete([], "nack")
            case 4:
                complete(7, None)  # type: ignore[arg-type]

    await programs.service(echo)
    answers = Callback(act)
    client = await programs.client(answers)
    for n in range(5):
        await client.send_message(request(n=n))
    await eventually(lambda: len(answers.messages) == 5)
    assert logged(caplog, "of a response was called again; ignored") == 1
    assert logged(caplog, "of a response: expected") == 3


async def test_a_slow_callback_of_a_response_ends_with_stop(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuropb_rmq.compat.callbacks.END_WITHIN", 0.1)
    ended = []

    async def act(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    await programs.service(echo)
    client = await programs.client(act)
    client.send_message(request())
    await eventually(lambda: tasks_of(callbacks_of(client)))
    await client.stop()
    assert ended == [1]
    assert not tasks_of(callbacks_of(client))


async def test_a_slow_callback_of_a_response_has_no_longer_than_stop(programs: Programs) -> None:
    ended = asyncio.Event()

    async def act(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await programs.service(echo)
    client = await programs.client(act)
    client.send_message(request())
    await eventually(lambda: tasks_of(callbacks_of(client)))
    async with asyncio.timeout(1):
        await callbacks_of(client).end(0.1)  # what stop() may still take, when the broker is silent
    assert ended.is_set()


async def test_a_callback_of_a_response_may_stop_the_transport(programs: Programs) -> None:
    async def act(*_: Any) -> None:
        await client.stop()
        stopped.set()

    stopped = asyncio.Event()
    await programs.service(echo)
    client = await programs.client(act)
    client.send_message(request())
    await asyncio.wait_for(stopped.wait(), 5)
    assert not client.connected
