"""Transport without a Mesh: send, post, request, observers, completions; nested calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from nuropb_rmq import (
    Completion,
    Message,
    MessageType,
    NuropbCallAgain,
    NuropbNotDeliveredError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
    Observer,
    Outcome,
    PublishNackedError,
    SentMessage,
    Settlement,
    Transport,
    TransportClosedError,
)
from nuropb_rmq.exceptions import NuropbException

from ..seams import connections_of
from ..support import (
    Recorder,
    Transports,
    Watch,
    command,
    event,
    eventually,
    request,
    result_of,
)
from .brokers import Place, becomes
from .raw import RawChannel, headers_of, properties_of

DLQ = "nuropb-orders-dlq"


async def test_request(transports: Transports) -> None:
    recorder = Recorder()
    await transports.service(recorder)
    client = await transports.client()
    response = await client.request(
        {**request(order="A-1"), "trace_id": "t", "context": {"user": "u"}}
    )
    assert (result_of(response), response["trace_id"], response["context"]) == (
        {"order": "A-1"}, "t", {"user": "u"},
    )  # fmt: skip
    (seen,) = recorder.seen
    assert (seen.kind, seen.ttl, seen.redelivered) == (MessageType.REQUEST, 30_000, False)
    assert seen.correlation_id == response["correlation_id"]
    assert seen.headers["nuropb_type"] == "request"


async def test_an_error_of_a_handler_is_in_the_response(transports: Transports) -> None:
    async def fail(_: Message) -> None:
        raise LookupError("no such order")

    await transports.service(fail)
    client = await transports.client()
    response = await client.request(request())
    assert (response["result"], response["error"]) == (
        None, {"error": "LookupError", "description": "no such order"},
    )  # fmt: skip


async def test_send(transports: Transports) -> None:
    recorder = Recorder()
    await transports.service(recorder, event_bindings=["t.*"])
    client = await transports.client()
    await client.send(command(n=1), ttl=60)
    await client.send(event("t.a", {"n": 2}))
    await eventually(lambda: len(recorder.seen) == 2)
    first, second = recorder.seen
    assert (first.kind, first.ttl, first.payload["params"]) == (
        MessageType.COMMAND, 60_000, {"n": 1},
    )  # fmt: skip
    assert (second.kind, second.ttl, second.payload["event"]) == (MessageType.EVENT, None, {"n": 2})


async def test_post(transports: Transports) -> None:
    recorder = Recorder()
    await transports.service(recorder)
    client = await transports.client()
    confirmations = [client.post(command(n=n)) for n in range(20)]
    assert not any(each.done() for each in confirmations)
    await asyncio.gather(*confirmations)
    await eventually(lambda: len(recorder.seen) == 20)
    assert [each.payload["params"]["n"] for each in recorder.seen] == list(range(20))


async def test_post_to_nobody(transports: Transports) -> None:
    client = await transports.client()
    with pytest.raises(NuropbNotDeliveredError, match="'nobody'"):
        await client.post(command(service="nobody"))
    assert await client.post(event("nobody.listens", 1)) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "payload",
    [{}, {"tag": "letter"}, {"tag": "command"}, {**command(), "params": 1}],
    ids=["empty", "no tag", "no service", "params"],
)
async def test_a_payload_that_is_none(transports: Transports, payload: dict[str, Any]) -> None:
    client = await transports.client()
    with pytest.raises(NuropbValidationError):
        client.post(payload)
    with pytest.raises(NuropbValidationError):
        await client.send(payload)


async def test_a_full_queue_refuses(
    transports: Transports, channel: RawChannel, place: Place
) -> None:
    await channel.queue(
        "full", ("nuropb-rpc-exchange", "full"), x_max_length=1, x_overflow="reject-publish"
    )
    client = await transports.client()
    await client.send(command(service="full"))
    for send in (client.send, client.request):
        with pytest.raises(PublishNackedError):
            await send(command(service="full") if send == client.send else request(service="full"))
    assert await place.depth("full") == 1


async def test_a_queue_that_drops_its_head_takes_all(
    transports: Transports, channel: RawChannel, place: Place
) -> None:
    await channel.queue("short", ("nuropb-rpc-exchange", "short"), x_max_length=2)
    client = await transports.client()
    for number in range(5):
        await client.send(command(service="short", n=number))
    assert await place.depth("short") == 2
    await channel.consume("short")
    assert [b'"n":%d' % n in body.replace(b" ", b"") for n, body in
            zip((3, 4), await channel.bodies(2), strict=True)] == [True, True]  # fmt: skip


async def test_its_properties(transports: Transports, channel: RawChannel) -> None:
    await channel.queue("tap", ("nuropb-rpc-exchange", "tap"), ("nuropb-events-exchange", "#"))
    client = await transports.client()
    await client.send(command(service="tap"), ttl=9, priority=3)
    await client.send(event("t", 1))
    call = asyncio.create_task(client.request(request(service="tap"), timeout=7))
    await channel.consume("tap")
    sent, published, asked = await channel.taken(3)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    assert [headers_of(each)["nuropb_type"] for each in (sent, published, asked)] == [
        "command", "event", "request",
    ]  # fmt: skip
    assert [properties_of(each).delivery_mode for each in (sent, published)] == [2, 2]
    assert (properties_of(sent).expiration, properties_of(sent).priority) == ("9000", 3)
    assert properties_of(asked).expiration == "7000"
    assert properties_of(asked).reply_to == client.response_queue


class Noting(Observer):
    def __init__(self) -> None:
        self.notes: list[Any] = []

    def sent(self, message: SentMessage) -> None:
        self.notes.append(("sent", message.kind.value, message.routing_key))

    def confirmed(self, message: SentMessage, error: NuropbException | None) -> None:
        self.notes.append(("confirmed", message.kind.value, error and type(error).__name__))

    def received(self, message: Message) -> None:
        self.notes.append(("received", message.kind.value))

    def handled(self, message: Message, outcome: Outcome, seconds: float) -> None:
        self.notes.append(("handled", message.kind.value, outcome.name))

    def settled(self, message: Message, settlement: Settlement) -> None:
        self.notes.append(("settled", message.kind.value, settlement.name))

    def reconnected(self, seconds: float) -> None:
        self.notes.append(("reconnected", seconds > 0))


@pytest.mark.parametrize("fails", [False, True])
async def test_observers(transports: Transports, fails: bool) -> None:
    async def handle(_: Message) -> None:
        if fails:
            raise LookupError

    service, client = await transports.service(handle), await transports.client()
    ours, theirs = Noting(), Noting()
    client.observe(ours)
    service.observe(theirs)
    await client.request(request())
    with pytest.raises(NuropbNotDeliveredError):
        await client.send(command(service="nobody"))
    await eventually(lambda: len(theirs.notes) == 5)
    assert ours.notes == [
        ("sent", "request", "orders"), ("confirmed", "request", None),
        ("sent", "command", "nobody"), ("confirmed", "command", "NuropbNotDeliveredError"),
    ]  # fmt: skip
    assert [each for each in theirs.notes if each[1] == "request"] == [
        ("received", "request"), ("handled", "request", "FAILED" if fails else "DONE"),
        ("settled", "request", "ACK"),  # the requester has the error
    ]  # fmt: skip


async def test_observers_hear_of_a_recovery(transports: Transports, place: Place) -> None:
    service = await transports.service(Recorder())
    noting = Noting()
    service.observe(noting)
    await place.delete_queue("nuropb-orders-sq")
    await eventually(lambda: ("reconnected", True) in noting.notes)


ENDS = [Outcome.DONE, Outcome.FAILED, Outcome.CALL_AGAIN]


@pytest.mark.parametrize("outcome", ENDS, ids=lambda each: each.name)
async def test_complete(transports: Transports, place: Place, outcome: Outcome) -> None:
    """At once, while the handler goes on."""
    released, seen = asyncio.Event(), list[Message]()

    async def handle(message: Message) -> None:
        seen.append(message)
        if len(seen) == 1:
            with pytest.raises(NuropbTransportError, match="raise RetryLater in the handler"):
                message.complete(Outcome.RETRY)
            assert message.complete(outcome)
            assert not message.complete(Outcome.DONE)
        await released.wait()

    service = await transports.service(handle)
    noting = Noting()
    service.observe(noting)
    client = await transports.client()
    await client.send(command(n=1))
    settled = {"DONE": "ACK", "FAILED": "REJECT", "CALL_AGAIN": "CALL_AGAIN"}[outcome.name]
    await eventually(lambda: any(note[0] == "settled" for note in noting.notes))
    assert next(note for note in noting.notes if note[0] == "settled")[2] == settled
    await becomes(lambda: place.depth(DLQ), 1 if outcome is Outcome.FAILED else 0)
    released.set()
    await eventually(lambda: len(seen) == (2 if outcome is Outcome.CALL_AGAIN else 1))


async def test_complete_with_messages(transports: Transports) -> None:
    heard = Recorder()
    await transports.service(heard, "listener", event_bindings=["done.*"])

    async def handle(message: Message) -> Completion:
        answer: dict[str, Any] = {
            "tag": "response", "result": "mine", "error": None, "context": {},
            "correlation_id": message.correlation_id, "trace_id": None, "warning": None,
            "reply_to": "",
        }  # fmt: skip
        return Completion(Outcome.DONE, [event("done.one", 1), answer])

    await transports.service(handle)
    client = await transports.client()
    assert result_of(await client.request(request())) == "mine"
    await eventually(lambda: len(heard.seen) == 1)
    assert heard.seen[0].payload["event"] == 1


async def test_called_again(transports: Transports) -> None:
    counts: list[int] = []

    async def handle(message: Message) -> int:
        counts.append(message.call_again_count)
        if not message.call_again_count:
            raise NuropbCallAgain("not yet")
        return message.call_again_count

    await transports.service(handle)
    client = await transports.client()
    assert result_of(await client.request(request())) == 1
    assert counts == [0, 1]


async def test_prefetch(transports: Transports, place: Place) -> None:
    released, running = asyncio.Event(), list[int]()

    async def handle(message: Message) -> None:
        running.append(message.payload["params"]["n"])
        await released.wait()

    await transports.service(handle, prefetch_count=3)
    client = await transports.client()
    for number in range(10):
        await client.send(command(n=number))
    await eventually(lambda: len(running) == 3)
    assert await place.depth("nuropb-orders-sq") == 7
    released.set()
    await eventually(lambda: len(running) == 10)
    assert running == list(range(10))


async def test_a_channel_that_ends_under_a_handler(transports: Transports) -> None:
    """The message comes again, marked, and joins the handler that runs."""
    released, seen = asyncio.Event(), list[Message]()

    async def handle(message: Message) -> str:
        seen.append(message)
        await released.wait()
        return "done"

    service = await transports.service(handle)
    client = await transports.client()
    call = asyncio.create_task(client.request(request()))
    await eventually(lambda: seen)
    watch = Watch(service)
    connections_of(service)[-1].ports[-1].unregister("ended by the test")
    await watch.recovered()
    released.set()
    assert result_of(await call) == "done"
    assert len(seen) == 1


async def test_requests_after_stop(transports: Transports) -> None:
    client = await transports.client()
    await client.stop()
    with pytest.raises(TransportClosedError):
        await client.request(request())
    with pytest.raises(TransportClosedError):
        client.post(command())


# -- nested -----------------------------------------------------------------------------------


async def chained(transports: Transports, timeout: float | None) -> tuple[Transport, list[Any]]:
    """A client of `outer`, which asks `inner`; what inner has seen."""
    seen: list[Any] = []
    caller = await transports.client("caller")

    async def inner(message: Message) -> None:
        seen.append((message.trace_id, message.ttl))
        if message.payload["method"] == "hold":
            await asyncio.sleep(30)

    async def outer(message: Message) -> Any:
        asked = request(message.payload["method"], service="inner")
        return result_of(await caller.request(asked, timeout=timeout))

    await transports.service(inner, "inner")
    await transports.service(outer, "outer")
    return await transports.client(), seen


async def test_a_nested_request_carries_the_trace_id(transports: Transports) -> None:
    client, seen = await chained(transports, None)
    asked = {**request(service="outer"), "trace_id": "of the caller"}
    assert result_of(await client.request(asked)) is None
    assert [trace for trace, _ in seen] == ["of the caller"]


@pytest.mark.parametrize(("outer", "inner", "least", "most"), [
    (5.0, None, 3000, 5000), (30.0, 2.0, 2000, 2000), (5.0, 60.0, 3000, 5000),
])  # fmt: skip
async def test_a_nested_request_has_the_time_that_is_left(
    transports: Transports, outer: float, inner: float | None, least: int, most: int
) -> None:
    client, seen = await chained(transports, inner)
    await client.request(request(service="outer"), timeout=outer)
    ((_, ttl),) = seen
    assert least <= ttl <= most


async def test_a_nested_request_ends_with_its_caller(transports: Transports) -> None:
    client, seen = await chained(transports, None)
    with pytest.raises(NuropbTimeoutError):
        await client.request(request("hold", service="outer"), timeout=0.3)
    assert len(seen) == 1


async def test_a_hundred_nested_at_a_time(transports: Transports) -> None:
    client, seen = await chained(transports, None)
    calls = [client.request(request(service="outer")) for _ in range(100)]
    assert all(each["error"] is None for each in await asyncio.gather(*calls))
    assert len(seen) == 100
