"""Tests of the trees that spans make: parents, links, and the current span in each place."""

from __future__ import annotations

import asyncio
import gc

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from nuropb_rmq import (
    DeadLetters,
    Message,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    NuropbSuccess,
    Transport,
    TransportConfig,
)
from nuropb_rmq.amqp import publisher
from nuropb_rmq.telemetry import Links
from nuropb_rmq.transport.delivery import Delivery

from ..conformance.raw import raw
from ..support import eventually, request
from .services import Orders, Stock
from .support import Recorded, Traced, attributes_of, links_of, parent_of, span_id, trace_id

QUEUE = "nuropb-rpc-exchange:orders:nuropb-orders-sq"
REPLY = "publish nuropb-{service}-{instance}-rq"

A_REQUEST = f"""\
CLIENT orders/total
  PRODUCER publish nuropb-rpc-exchange:orders
    CONSUMER process {QUEUE}
      SERVER orders/total
      PRODUCER {REPLY}"""

ALL_OF_IT = f"""\
INTERNAL GET /
  CLIENT orders/place
    PRODUCER publish nuropb-rpc-exchange:orders
      CONSUMER process {QUEUE}
        SERVER orders/place
          CLIENT stock/count
            PRODUCER publish nuropb-rpc-exchange:stock
              CONSUMER process nuropb-rpc-exchange:stock:nuropb-stock-sq
                SERVER stock/count
                PRODUCER {REPLY}
          PRODUCER publish nuropb-rpc-exchange:stock
            CONSUMER process nuropb-rpc-exchange:stock:nuropb-stock-sq
        PRODUCER publish nuropb-events-exchange:orders.placed
        PRODUCER {REPLY}
"""
LISTENER = "CONSUMER process nuropb-events-exchange:orders.*:nuropb-stock-sq"


async def start(meshes: Traced) -> Orders:
    orders = Orders()
    orders.mesh = await meshes.serve(orders)
    return orders


async def test_a_request_is_one_tree(meshes: Traced, recorded: Recorded) -> None:
    orders, client = await start(meshes), await meshes.client()
    assert await client.request("orders", "total", {"number": 7}) == 7
    await recorded.whole(5)
    assert recorded.tree == A_REQUEST
    assert len({trace_id(each) for each in recorded.spans}) == 1
    reply = recorded.named(REPLY)
    caller, server = [each for each in recorded.spans if each.name == "orders/total"]
    assert links_of(caller) == [span_id(reply)]
    assert orders.seen == [("total", span_id(server))], "the handler's current span"


@pytest.mark.parametrize("links", [None, Links.CHILD])
async def test_nested_calls_and_added_events_belong_to_it(
    meshes: Traced, recorded: Recorded, links: Links | None
) -> None:
    meshes.options = {} if links is None else {"links": links}
    stock = Stock()
    await start(meshes)
    await meshes.serve(stock)
    client = await meshes.client()
    with recorded.tracer.start_as_current_span("GET /"):
        await client.request("orders", "place", {"number": 7})
    await eventually(lambda: len(stock.seen) == 3)
    await recorded.whole(15)
    published = recorded.named("publish nuropb-events-exchange:orders.placed")
    listener = recorded.named(LISTENER.partition(" ")[2])
    if links is None:
        assert recorded.tree == ALL_OF_IT + LISTENER
        assert (parent_of(listener), links_of(listener)) == (0, [span_id(published)])
        assert trace_id(listener) != trace_id(published)
    else:
        below = "        PRODUCER publish nuropb-events-exchange:orders.placed\n"
        assert recorded.tree == ALL_OF_IT.strip().replace(below, f"{below}          {LISTENER}\n")
        assert links_of(listener) == []


async def test_a_method_in_a_thread_sees_its_span(meshes: Traced, recorded: Recorded) -> None:
    orders, client = await start(meshes), await meshes.client()
    assert await client.request("orders", "in_thread", {"number": 7}) is True
    await recorded.whole(5)
    server = next(each for each in recorded.spans if each.kind is trace.SpanKind.SERVER)
    assert orders.seen == [("in_thread", span_id(server))]


async def test_nothing_is_current_but_in_handlers(in_memory: Traced, recorded: Recorded) -> None:
    """Not after a call, nor in what a caller does next."""
    await start(in_memory)
    client = await in_memory.client()
    for _ in range(2):
        await client.request("orders", "total", {"number": 7})
        assert trace.get_current_span() is trace.INVALID_SPAN
        await client.command("orders", "total", {"number": 7})
        assert trace.get_current_span() is trace.INVALID_SPAN
    await recorded.count("publish nuropb-rpc-exchange:orders", 4)
    assert len({trace_id(each) for each in recorded.spans}) == 4


async def test_what_was_current_at_start_is_nobodys_parent(
    in_memory: Traced, recorded: Recorded
) -> None:
    with recorded.tracer.start_as_current_span("starting"):
        orders = await start(in_memory)
        client = await in_memory.client()
    await client.request("orders", "total", {"number": 7})
    await recorded.whole(6)
    assert {trace_id(each) for each in recorded.spans} != {trace_id(recorded.named("starting"))}
    assert len(orders.seen) == 1
    assert parent_of(recorded.spans[1]) == 0


async def test_a_message_without_a_context_begins_a_trace(
    meshes: Traced, recorded: Recorded
) -> None:
    await start(meshes)
    client = await meshes.client()
    meshes.removers[-1]()
    await client.command("orders", "total", {"number": 7}, encrypted=False)
    await recorded.count(f"process {QUEUE}")
    assert (recorded.tree, parent_of(recorded.spans[0])) == (f"CONSUMER process {QUEUE}", 0)


async def test_a_retry_has_a_trace_of_its_own(meshes: Traced, recorded: Recorded) -> None:
    """Linked to the first publish, and not to the one of the copy."""
    orders, client = await start(meshes), await meshes.client()
    await client.command("orders", "flaky")
    await eventually(lambda: len(orders.seen) == 2)
    await recorded.count(f"process {QUEUE}", 2)
    await recorded.count("publish nuropb-orders-retry-50")
    sent = recorded.named("publish nuropb-rpc-exchange:orders")
    copy = recorded.named("publish nuropb-orders-retry-50")
    first, second = [each for each in recorded.spans if each.name == f"process {QUEUE}"]
    assert (parent_of(first), links_of(first)) == (span_id(sent), [])
    assert (parent_of(copy), links_of(copy)) == (span_id(first), [span_id(sent)])
    assert copy.kind is trace.SpanKind.CLIENT, "its context is not the one that travels"
    assert (parent_of(second), links_of(second)) == (0, [span_id(sent)])
    about = attributes_of(first)
    assert (about["error.type"], about["nuropb.settlement"]) == ("LookupError", "retry")
    about = attributes_of(second)
    assert (about["nuropb.retry.count"], about["nuropb.settlement"]) == (1, "ack")
    assert second.status.is_ok


async def test_a_call_again_keeps_the_context(meshes: Traced, recorded: Recorded) -> None:
    orders, client = await start(meshes), await meshes.client()
    await client.request("orders", "again")
    await recorded.count(REPLY)
    await recorded.count(f"process {QUEUE}", 2)
    first, second = [each for each in recorded.spans if each.name == f"process {QUEUE}"]
    sent = recorded.named("publish nuropb-rpc-exchange:orders")
    assert (parent_of(first), links_of(second)) == (span_id(sent), [span_id(sent)])
    assert attributes_of(second)["nuropb.call_again.count"] == 1
    assert first.status.is_unset
    assert len(orders.seen) == 2
    caller = next(each for each in recorded.spans if each.kind is trace.SpanKind.CLIENT)
    assert links_of(caller) == [span_id(recorded.named(REPLY))]


async def test_a_replay_is_linked_to_who_sent_it(meshes: Traced, recorded: Recorded) -> None:
    orders, client = await start(meshes), await meshes.client()
    await client.command("orders", "fail")
    await recorded.count("publish nuropb-dl-exchange")
    orders.fails = False
    config = TransportConfig(amqp_url=meshes.url, service_name="orders")
    async with DeadLetters(config, allow_delivery_limit=True) as letters:
        result = await letters.replay()
    assert result.done == 1
    await recorded.count(f"process {QUEUE}", 2)
    sent = recorded.named("publish nuropb-rpc-exchange:orders")
    letter = recorded.named("publish nuropb-dl-exchange")
    first, second = [each for each in recorded.spans if each.name == f"process {QUEUE}"]
    assert attributes_of(first)["nuropb.settlement"] == "dead_letter"
    assert (parent_of(letter), links_of(letter)) == (span_id(first), [span_id(sent)])
    assert (parent_of(second), links_of(second)) == (0, [span_id(sent)])
    assert attributes_of(second)["nuropb.replay.count"] == 1


async def test_errors_are_told_by_their_class(meshes: Traced, recorded: Recorded) -> None:
    await start(meshes)
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "fail", {"pin": "1234"})
    await recorded.whole(5)
    for each in recorded.spans:
        failed = each.kind is not trace.SpanKind.PRODUCER
        assert (attributes_of(each).get("error.type") == "LookupError") is failed
        assert (each.status.status_code is trace.StatusCode.ERROR) is failed
    texts = {each.kind.name: each.status.description for each in recorded.spans}
    said = "no order for 1234"
    assert texts == {"CLIENT": None, "PRODUCER": None, "CONSUMER": said, "SERVER": said}


async def test_no_texts_where_they_are_not_logged(in_memory: Traced, recorded: Recorded) -> None:
    await in_memory.serve(Orders(), log_error_text=False)
    client = await in_memory.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "fail", {"pin": "hush"})
    await recorded.whole(5)
    assert "hush" not in "".join(each.to_json() for each in recorded.spans)


async def test_a_call_that_nobody_takes(meshes: Traced, recorded: Recorded) -> None:
    client = await meshes.client()
    with pytest.raises(NuropbNotDeliveredError):
        await client.request("nobody", "there", timeout=5, encrypted=False)
    await recorded.whole(2)
    for each in recorded.spans:
        assert attributes_of(each)["error.type"] == "NuropbNotDeliveredError"
    about = attributes_of(recorded.spans[0])
    assert (recorded.spans[0].name, about["rpc.method"]) == ("nuropb", "_OTHER")
    assert about["rpc.method_original"] == "nobody/there"


async def test_a_caller_that_gives_up(in_memory: Traced, recorded: Recorded) -> None:
    """Its span ends, and in its own time that of the handler, which goes on."""
    orders, client = await start(in_memory), await in_memory.client()
    call = asyncio.create_task(client.request("orders", "wait", encrypted=False))
    await eventually(lambda: orders.seen)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (caller,) = [each for each in recorded.spans if each.kind is trace.SpanKind.CLIENT]
    assert attributes_of(caller)["error.type"] == "CancelledError"
    assert f"process {QUEUE}" not in recorded.names
    orders.release.set()
    await recorded.whole(5)
    assert attributes_of(recorded.named("orders/wait"))["rpc.response.status_code"] == "OK"


async def test_a_handler_that_stop_cancels(in_memory: Traced, recorded: Recorded) -> None:
    """Its spans end without a settlement: the message goes back."""
    orders, client = await start(in_memory), await in_memory.client()
    await client.command("orders", "wait", encrypted=False)
    await eventually(lambda: orders.seen)
    await orders.mesh.stop(grace=0)
    await recorded.count(f"process {QUEUE}")
    assert "nuropb.settlement" not in attributes_of(recorded.named(f"process {QUEUE}"))


async def test_nothing_of_a_message_waits_for_the_garbage_collector(in_memory: Traced) -> None:
    """A span refers to a context, which has the message that is handled."""
    await start(in_memory)
    client = await in_memory.client()
    for sampler in (None, ALWAYS_OFF):
        in_memory.recorded = Recorded(sampler)
        for each in (*in_memory.removers,):
            each()
        for mesh in in_memory.made:
            in_memory.instrument(mesh)
        await client.request("orders", "total", {"number": 0})
        gc.collect()
        gc.disable()
        # A test that failed may hold some.
        others = {id(each) for each in gc.get_objects() if type(each) is Delivery}

        def left(others: set[int] = others) -> list[object]:
            deliveries = (each for each in gc.get_objects() if type(each) is Delivery)
            return [each for each in deliveries if id(each) not in others]

        try:
            for number in range(10):
                await client.request("orders", "total", {"number": number})
            await eventually(lambda: not client.transport.pending)
            await eventually(lambda: not left())
        finally:
            gc.enable()


async def test_the_answer_that_says_an_event_was_not_delivered(
    meshes: Traced, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A confirm's callback sends it, in another context; the one that was held is never sent."""
    monkeypatch.setattr(publisher, "REFUSED_PAUSES", (0.01, 0.01))
    orders = await start(meshes)
    await meshes.serve(Stock())
    client = await meshes.client()
    async with raw(meshes.url) as connection:
        channel = await connection.channel()
        binding = ("nuropb-events-exchange", "orders.placed")
        await channel.queue("full", binding, x_max_length=0, x_overflow="reject-publish")
        with pytest.raises(NuropbRemoteError, match="its event on topic"):
            await client.request("orders", "place", {"number": 7}, timeout=10)
    await recorded.count(f"process {QUEUE}")
    process = recorded.named(f"process {QUEUE}")
    await eventually(lambda: len(children(recorded, process)) == 5)
    replies = [each for each in children(recorded, process) if each.name == REPLY]
    assert [attributes_of(each).get("error.type") for each in replies] == [
        "PublishNackedError",
        None,
    ]
    assert attributes_of(process)["error.type"] == "PublishNackedError"
    assert orders.seen


async def test_messages_of_which_one_cannot_be_packed(
    in_memory: Traced, recorded: Recorded
) -> None:
    """None is sent: the spans of all of them end."""

    async def handler(message: Message) -> None:
        events = [{"topic": "orders.placed", "payload": value} for value in (1, "x" * 2**20)]
        raise NuropbSuccess(1, events=events)

    client = (await in_memory.client()).transport
    config = in_memory.config("orders", max_body_bytes=2**19)
    service = Transport(config, handler)
    in_memory.instrument(service)
    async with service:
        response = await client.request(request("place"))
        assert str(response["error"]).count("MessageTooLargeError") == 1
        await recorded.count(f"process {QUEUE}")
    published = recorded.named("publish nuropb-events-exchange:orders.placed")
    assert attributes_of(published)["error.type"] == "MessageTooLargeError"


def children(recorded: Recorded, span: ReadableSpan) -> list[ReadableSpan]:
    return [each for each in recorded.spans if parent_of(each) == span_id(span)]
