"""send_message: at once or never, its future may be ignored, and no request is forgotten."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from nuropb_rmq import (
    EncryptionError,
    NuropbException,
    NuropbMessageError,
    NuropbNotDeliveredError,
    NuropbNotSentError,
    NuropbOutcomeUnknownError,
    NuropbSerializationError,
    NuropbTransportError,
    NuropbValidationError,
    OutboxFullError,
    PublishNackedError,
    RMQTransport,
    State,
    TransportClosedError,
    TransportConfig,
    configure,
)

from ..faults.proxy import Proxy, Wire
from ..seams import confirmations, connections_of, publishing
from ..support import Transports, command, event, eventually, request
from .programs import Callback, Programs, echo


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Yield the texts that are logged at ERROR; texts alone, for a record keeps its objects."""
    told: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("nuropb_rmq").addHandler(handler)
    yield told
    logging.getLogger("nuropb_rmq").removeHandler(handler)


@pytest.fixture
async def proxy(mesh: Transports) -> Any:
    """A proxy in front of the node, to the mesh's virtual host."""
    async with Proxy(mesh.url) as made:
        yield made


async def lose(client: RMQTransport, proxy: Proxy) -> None:
    """Cut the connection, and let it not come back."""
    proxy.set(Wire.REFUSE)
    proxy.reset()
    await eventually(lambda: client.core.state is State.RECOVERING)


def errors_of(callback: Callback) -> list[str]:
    """The class names of the errors that the callback was told."""
    return [each["error"]["error"] for each in callback.payloads]


# -- the future -----------------------------------------------------------------------------


async def test_the_future_is_done_when_the_broker_has_confirmed(programs: Programs) -> None:
    service = Callback(echo)
    await programs.service(service)
    client = await programs.client()
    sent = client.send_message(command())
    assert not sent.done()
    assert await sent is None  # type: ignore[func-returns-value]
    assert sent.done()
    await eventually(lambda: service.messages)


async def test_an_error_is_raised_to_who_waits(programs: Programs, errors: list[str]) -> None:
    client = await programs.client()
    with pytest.raises(NuropbNotDeliveredError, match="nobody"):
        await client.send_message(command(service="nobody"))
    assert not errors


async def test_an_error_that_nobody_waits_for_is_logged_once(
    programs: Programs, errors: list[str]
) -> None:
    client = await programs.client()
    client.send_message(command(service="nobody", secret="hush"))
    await eventually(lambda: errors)
    await client.send_message(event("nobody.cares", 1))
    (told,) = errors
    assert "not sent, or not delivered" in told
    assert "nobody" in told
    assert "hush" not in told


async def test_a_future_that_is_looked_at_later_is_not_logged(
    programs: Programs, errors: list[str]
) -> None:
    client = await programs.client()
    sent = client.send_message(command(service="nobody"))
    await eventually(sent.done)
    assert isinstance(sent.exception(), NuropbNotDeliveredError)
    del sent
    assert not errors


async def test_a_future_that_is_cancelled_changes_nothing(
    programs: Programs, errors: list[str]
) -> None:
    service = Callback(echo)
    await programs.service(service)
    client = await programs.client()
    client.send_message(command(n=1)).cancel()
    client.send_message(command(service="nobody")).cancel()
    await client.send_message(command(n=2))
    await eventually(lambda: len(service.messages) == 2)
    assert not errors


# -- at once --------------------------------------------------------------------------------

BAD: dict[str, tuple[Any, dict[str, Any], type[NuropbException], str]] = {
    "no mapping": ("text", {}, NuropbValidationError, "payload"),
    "nothing": (None, {}, NuropbValidationError, "payload"),
    "no tag": ({"service": "orders"}, {}, NuropbValidationError, "'tag'"),
    "unknown tag": ({**request(), "tag": "poem"}, {}, NuropbValidationError, "poem"),
    "a tag of another type": ({**request(), "tag": 7}, {}, NuropbValidationError, "'tag'"),
    "no service": ({"tag": "command"}, {}, NuropbValidationError, "'service'"),
    "no topic": ({"tag": "event", "event": 1}, {}, NuropbValidationError, "'topic'"),
    "params of a wrong type": (
        {**request(), "params": [1]},
        {},
        NuropbValidationError,
        "'params'",
    ),
    "a correlation id of a wrong type": (
        {**request(), "correlation_id": 7},
        {},
        NuropbValidationError,
        "'correlation_id'",
    ),
    "no reply_to": (
        {"tag": "response", "result": 1, "error": None},
        {},
        NuropbValidationError,
        "'reply_to'",
    ),
    "not JSON": (request(key={("a",): 1}), {}, NuropbSerializationError, "params"),
    "a circle": (request(), {}, NuropbSerializationError, "Circular"),
    "too deep": (
        request(deep=json.loads("[" * 99 + "]" * 99)),
        {},
        NuropbSerializationError,
        "max_json_depth",
    ),
    "too large": (request(text="x" * 20_000), {}, NuropbSerializationError, "max_body_bytes"),
    "a long service name": (
        request(service="x" * 256),
        {},
        NuropbSerializationError,
        "routing key",
    ),
    "a long correlation id": (
        {**request(), "correlation_id": "c" * 300},
        {},
        NuropbSerializationError,
        "correlation_id",
    ),
    "another encoding": (request(), {"encoding": "msgpack"}, NuropbValidationError, "encoding"),
    "a negative expiry": (request(), {"expiry": -1}, NuropbValidationError, "expiry"),
    "an expiry as text": (request(), {"expiry": "60000"}, NuropbValidationError, "expiry"),
    "a true expiry": (request(), {"expiry": True}, NuropbValidationError, "expiry"),
    "an endless expiry": (request(), {"expiry": 2**40}, NuropbValidationError, "49 days"),
    "no number": (
        request(),
        {"expiry": float("nan")},
        NuropbValidationError,
        "expiry: expected .* got nan",
    ),
    "an infinite expiry": (request(), {"expiry": float("inf")}, NuropbValidationError, "49 days"),
    "an expiry that is no float": (
        request(),
        {"expiry": 10**400},
        NuropbValidationError,
        "expiry: expected a number of milliseconds above 0, at most 4294967000",
    ),
    "a high priority": (request(), {"priority": 256}, NuropbSerializationError, "priority"),
    "encrypted, and no encryptor": (request(), {"encrypted": True}, EncryptionError, "encryptor"),
    "an encrypted event": (event("a", 1), {"encrypted": True}, EncryptionError, "events"),
}


@pytest.mark.parametrize(("payload", "options", "kind", "text"), BAD.values(), ids=BAD)
async def test_what_cannot_be_sent_raises_at_once(
    programs: Programs,
    errors: list[str],
    payload: Any,
    options: dict[str, Any],
    kind: type[NuropbException],
    text: str,
) -> None:
    answers = Callback()
    client = await programs.client(answers, core={"max_body_bytes": 10_000})
    if text == "Circular":
        payload["params"]["self"] = payload["params"]
    with pytest.raises(kind, match=text):
        client.send_message(payload, **options)
    assert client.core.pending == 0
    assert not confirmations(client.core)
    with pytest.raises(NuropbNotDeliveredError):
        await client.send_message(command(service="nobody"))  # it is not hurt
    assert not answers.messages  # whoever called was told already
    assert not errors


async def test_headers_that_do_not_fit_into_a_frame_raise_at_once(
    programs: Programs, errors: list[str]
) -> None:
    answers = Callback()
    client = await programs.client(answers)
    connections_of(client.core)[0].router.frame_max = 400
    with pytest.raises(NuropbSerializationError, match="frame"):
        client.send_message({**request(), "trace_id": "t" * 1000})
    assert client.core.pending == 0
    assert not answers.messages
    assert not errors


async def test_before_start_and_after_stop_it_raises_at_once(programs: Programs) -> None:
    client = programs.make(Callback(), "client", client_only=True)
    with pytest.raises(TransportClosedError, match="not started: "):
        client.send_message(request())
    starting = asyncio.ensure_future(client.start())
    await asyncio.sleep(0)
    with pytest.raises(NuropbTransportError, match="connecting"):
        client.send_message(request())
    await starting
    await client.stop()
    with pytest.raises(TransportClosedError, match="stopped"):
        client.send_message(request())


async def test_a_transport_that_has_failed_raises_at_once_and_says_why(
    programs: Programs, proxy: Proxy
) -> None:
    client = await programs.client(amqp_url=proxy.url, core={"missing_timeout": 0.0})

    def delete() -> None:
        with pika.BlockingConnection(pika.URLParameters(programs.url)) as connection:
            connection.channel().exchange_delete("nuropb-events-exchange")

    await asyncio.to_thread(delete)
    proxy.reset()
    await eventually(lambda: client.core.state is State.FAILED)
    assert not client.connected
    with pytest.raises(TransportClosedError, match="nuropb-events-exchange"):
        client.send_message(request())
    await configure(TransportConfig(amqp_url=programs.url, service_name="orders"))
    await client.start()
    assert client.connected


async def test_another_thread_is_told_what_to_do(programs: Programs) -> None:
    client = await programs.client()
    with pytest.raises(NuropbTransportError, match="call_soon_threadsafe"):
        await asyncio.to_thread(client.send_message, request())


# -- requests that get no answer ------------------------------------------------------------


async def test_a_request_that_nobody_takes(programs: Programs, errors: list[str]) -> None:
    answers = Callback()
    client = await programs.client(answers)
    client.send_message(
        {
            **request(service="nobody"),
            "correlation_id": "c-1",
            "trace_id": "t-1",
            "context": {"user": "u1"},
        }
    )
    await eventually(lambda: answers.messages)
    message: dict[str, Any] = {**answers.messages[0]}
    payload = message.pop("nuropb_payload")
    assert message == {
        "nuropb_protocol": "0.1.1",
        "nuropb_type": "response",
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "ttl": None,
    }
    error = payload.pop("error")
    assert error["error"] == "NuropbNotDeliveredError"
    assert "nobody" in error["description"]
    assert payload == {
        "tag": "response",
        "result": None,
        "correlation_id": "c-1",
        "trace_id": "t-1",
        "context": {"user": "u1"},
        "warning": None,
        "reply_to": "",
    }
    assert answers.metadata[0]["nuropb_type"] == "request"
    assert client.core.pending == 0
    assert len(errors) == 1


async def test_a_request_that_is_not_answered_in_time(programs: Programs) -> None:
    service, answers = Callback(), Callback()
    await programs.service(service)
    client = await programs.client(answers)
    await client.send_message(request(), expiry=200)
    await eventually(lambda: answers.messages)
    assert errors_of(answers) == ["NuropbTimeoutError"]
    assert client.core.pending == 0
    echo(service.messages[0], service.completes[0], {})
    await eventually(lambda: client.core.dropped == {"unclaimed": 1})  # its time is over
    assert len(answers.messages) == 1


async def test_a_request_that_expires_in_the_queue(programs: Programs) -> None:
    service, answers = Callback(echo), Callback()
    transport = await programs.service(service)
    await transport.stop()
    client = await programs.client(answers)
    await client.send_message(request(), expiry=100)
    await eventually(lambda: answers.messages)
    assert errors_of(answers) == ["NuropbTimeoutError"]
    await transport.start()
    assert not service.messages


async def test_a_request_that_is_nacked(programs: Programs, errors: list[str]) -> None:
    def declare() -> None:
        with pika.BlockingConnection(pika.URLParameters(programs.url)) as connection:
            channel = connection.channel()
            full = {"x-max-length": 0, "x-overflow": "reject-publish"}
            channel.queue_declare("full", durable=True, arguments=full)
            channel.queue_bind("full", "nuropb-rpc-exchange", "full")

    await asyncio.to_thread(declare)
    answers = Callback()
    client = await programs.client(answers)
    with pytest.raises(PublishNackedError):
        await client.send_message(request(service="full"))
    assert errors_of(answers) == ["PublishNackedError"]
    client.send_message(command(service="full"))
    await eventually(lambda: errors)
    assert len(answers.messages) == 1


async def test_a_request_whose_answer_was_lost(programs: Programs, proxy: Proxy) -> None:
    service, answers = Callback(), Callback()
    await programs.service(service)
    client = await programs.client(
        answers, amqp_url=proxy.url, core={"unknown_outcome_after": 0.2, "instance_retry": 30.0}
    )
    await client.send_message(request())
    await eventually(lambda: service.messages)
    proxy.reset()
    await eventually(lambda: not client.connected)
    await eventually(lambda: answers.messages)
    assert errors_of(answers) == ["NuropbOutcomeUnknownError"]
    assert client.connected


async def test_requests_in_hand_at_stop(programs: Programs) -> None:
    service, answers = Callback(), Callback()
    await programs.service(service, prefetch_count=0)
    client = await programs.client(answers)
    for _ in range(3):
        client.send_message(request())
    await eventually(lambda: len(service.messages) == 3)
    await client.stop()
    assert errors_of(answers) == ["TransportClosedError"] * 3


async def test_a_callback_may_send_the_request_again(programs: Programs) -> None:
    def again(message: Any, _: Any, __: Any) -> None:
        if message["nuropb_payload"]["error"] and len(answers.messages) < 3:
            client.send_message(request(service="nobody"))
        elif message["nuropb_payload"]["error"]:
            client.send_message(request(n=4))

    await programs.service(echo)
    answers = Callback(again)
    client = await programs.client(answers)
    client.send_message(request(service="nobody"))
    await eventually(lambda: len(answers.messages) == 4)
    assert answers.payloads[-1]["result"] == {"n": 4}


async def test_the_same_correlation_id_again(programs: Programs, errors: list[str]) -> None:
    service, answers = Callback(), Callback()
    await programs.service(service, prefetch_count=0)
    client = await programs.client(answers)
    payload = {**request(), "correlation_id": "c-1"}
    for _ in range(3):
        client.send_message(payload)
    await eventually(lambda: len(service.messages) == 3)
    assert client.core.pending == 1
    for message, complete in zip(service.messages, service.completes, strict=True):
        echo(message, complete, {})
    await eventually(lambda: len(answers.messages) == 3)
    assert client.core.pending == 0
    for name in ("nobody", "nowhere"):
        client.send_message({**payload, "service": name})
    await eventually(lambda: len(errors) == 2)
    assert errors_of_last(answers) == "NuropbNotDeliveredError"
    assert len(answers.messages) == 4  # the first was forgotten: it was sent again


def errors_of_last(callback: Callback) -> str:
    """The class name of the error that the callback was told last."""
    name: str = callback.payloads[-1]["error"]["error"]
    return name


# -- without a connection -------------------------------------------------------------------


async def test_while_recovering_everything_waits_and_goes_out_in_order(
    programs: Programs, proxy: Proxy
) -> None:
    service, answers = Callback(echo), Callback()
    await programs.service(service)
    client = await programs.client(answers, amqp_url=proxy.url, core={"instance_retry": 30.0})
    await lose(client, proxy)
    commands = [client.send_message(command(n=n)) for n in range(10)]
    requests = [client.send_message(request(n=n)) for n in range(10)]
    assert not any(each.done() for each in (*commands, *requests))
    proxy.set(Wire.PASS)
    await asyncio.gather(*commands, *requests)
    await eventually(lambda: len(answers.messages) == 10)
    seen = [each["params"]["n"] for each in service.payloads]
    assert [n for n, each in zip(seen, service.payloads, strict=True) if each["tag"] == "command"]
    for tag in ("command", "request"):
        numbers = [each["params"]["n"] for each in service.payloads if each["tag"] == tag]
        assert numbers == list(range(10))


async def test_what_waits_is_bounded(programs: Programs, proxy: Proxy) -> None:
    core = {"outbox_messages": 3, "outbox_bytes": 5_000, "instance_retry": 30.0}
    await programs.service(echo)
    client = await programs.client(amqp_url=proxy.url, core=core)
    await lose(client, proxy)
    for make in (command, request):
        with pytest.raises(OutboxFullError, match="outbox_bytes"):
            client.send_message(make(text="x" * 6_000))
        held = [client.send_message(make(n=n)) for n in range(3)]
        with pytest.raises(OutboxFullError, match="outbox_messages"):
            client.send_message(make())
        assert not any(each.done() for each in held)
    assert client.core.pending == 3
    proxy.set(Wire.PASS)
    await asyncio.gather(*held)


async def test_what_waits_too_long_is_never_sent(
    programs: Programs, proxy: Proxy, errors: list[str]
) -> None:
    service, answers = Callback(echo), Callback()
    await programs.service(service)
    client = await programs.client(
        answers, amqp_url=proxy.url, core={"publish_timeout": 0.5, "instance_retry": 30.0}
    )
    await lose(client, proxy)
    brief = client.send_message(request(n=1), expiry=100)
    long = client.send_message(request(n=2), expiry=60_000)
    other = client.send_message(command(n=3))
    for sent in (brief, long, other):
        with pytest.raises(NuropbNotSentError, match="sent"):
            await sent
    assert errors_of(answers) == ["NuropbNotSentError"] * 2
    assert not publishing(client.core).held
    proxy.set(Wire.PASS)
    await eventually(lambda: client.connected)
    client.send_message(request(n=4))
    await eventually(lambda: len(answers.messages) == 3)
    assert [each["params"]["n"] for each in service.payloads] == [4]
    assert not errors


async def test_what_waits_at_stop_fails(programs: Programs, proxy: Proxy) -> None:
    answers = Callback()
    client = await programs.client(answers, amqp_url=proxy.url)
    await lose(client, proxy)
    sent = [client.send_message(request()), client.send_message(command())]
    await client.core.stop(grace=0.1)
    for each in sent:
        with pytest.raises(TransportClosedError):
            await each
    assert errors_of(answers) == ["TransportClosedError"]


async def test_what_was_written_and_not_confirmed_is_unknown(
    programs: Programs, proxy: Proxy
) -> None:
    answers = Callback()
    await programs.service(Callback())
    client = await programs.client(
        answers, amqp_url=proxy.url, core={"publish_timeout": 0.3, "unknown_outcome_after": 0.3}
    )
    proxy.set(Wire.HOLE)
    for make in (command, request):
        with pytest.raises(NuropbOutcomeUnknownError, match="not confirmed"):
            await client.send_message(make())
    assert not answers.messages  # the request goes on waiting for its answer
    assert client.core.pending == 1
    proxy.set(Wire.PASS)


async def test_requests_wait_for_the_consumer_of_their_responses(
    programs: Programs, proxy: Proxy
) -> None:
    """A service has two connections: without the one for responses requests are not sent."""
    await programs.service(echo, service_name="prices")
    service = Callback(echo)
    transport = await programs.service(service, amqp_url=proxy.url, core={"instance_retry": 30.0})
    publishing, consuming = connections_of(transport.core)
    await eventually(lambda: publishing.up and consuming.up)
    proxy.set(Wire.REFUSE)
    consuming.router.abort("a test")
    await eventually(lambda: not consuming.up)
    assert publishing.up
    held = transport.send_message(request(service="prices", n=1))
    await transport.send_message(command(service="prices"))  # needs no response
    assert not held.done()
    proxy.set(Wire.PASS)
    await held
    await eventually(lambda: service.messages)
    assert service.payloads[0]["result"] == {"n": 1}


# -- without async --------------------------------------------------------------------------


def test_a_program_without_coroutines_of_its_own(mesh_url: str) -> None:
    """Constructed without a loop, and used between two runs of one."""

    def take(message: Any, _: Any, __: Any) -> None:
        answers.append(message["nuropb_payload"])
        if len(answers) == 2:
            loop.call_soon(loop.stop)

    answers: list[dict[str, Any]] = []
    service = RMQTransport("orders", "one", mesh_url, echo)
    client = RMQTransport("client", "one", mesh_url, take, client_only=True)
    service.configure_rabbitmq()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(service.start())
        loop.run_until_complete(client.start())
        client.send_message(request(n=1))
        loop.call_soon(client.send_message, request(n=2))
        watchdog = loop.call_later(10, loop.stop)
        loop.run_forever()
        watchdog.cancel()
        loop.run_until_complete(client.stop())
        loop.run_until_complete(service.stop())
    finally:
        loop.close()
    assert [each["result"] for each in answers] == [{"n": 1}, {"n": 2}]


def test_a_loop_in_a_thread(mesh_url: str) -> None:
    """The other common shape: the loop runs in a thread, and is called from outside."""
    answered = threading.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    service = RMQTransport("orders", "one", mesh_url, echo)
    client = RMQTransport("client", "one", mesh_url, lambda *_: answered.set(), client_only=True)
    try:
        service.configure_rabbitmq()
        run(service.start())
        run(client.start())
        with pytest.raises(NuropbTransportError, match="another thread"):
            client.send_message(request())
        loop.call_soon_threadsafe(client.send_message, request())
        assert answered.wait(10)
        run(client.stop())
        run(service.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_errors_are_what_nuropb_programs_catch() -> None:
    assert issubclass(NuropbNotDeliveredError, NuropbMessageError)
    assert issubclass(TransportClosedError, NuropbTransportError)
