"""Tests of overrides of nuropb's transport: settlements, metrics, and steps of the set-up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, ClassVar

import pytest

from nuropb_rmq import (
    AcknowledgeAction,
    NuropbCallAgainReject,
    NuropbTransportError,
    NuropbValidationError,
    RMQTransport,
    ServiceNotConfigured,
    State,
)
from nuropb_rmq.compat.message_complete import SettlingChannel

from ..encrypting import DL_QUEUE, Tap, tapping
from ..faults.common import joined
from ..faults.proxy import Proxy
from ..faults.test_row_05_channel_closed import ports_of, spoil
from ..seams import callbacks_of, dispatcher_of, in_hand, overridden
from ..support import Transports, command, event, eventually, request, result_of
from .programs import Callback, Programs, answer, echo

Settled = tuple[AcknowledgeAction, bool]


class Observing(RMQTransport):
    """A transport that records settlements and metrics, and then does as its base class does."""

    settled: ClassVar[list[Settled]] = []
    metrics: ClassVar[list[dict[str, Any]]] = []

    @classmethod
    def acknowledge_service_message(
        cls,
        channel: SettlingChannel,
        delivery_tag: int,
        action: AcknowledgeAction,
        redelivered: bool | None,
    ) -> None:
        assert redelivered is not None
        cls.settled.append((action, redelivered))
        super().acknowledge_service_message(channel, delivery_tag, action, redelivered)

    @classmethod
    def metadata_metrics(cls, metadata: dict[str, Any]) -> None:
        cls.metrics.append(metadata)
        super().metadata_metrics(metadata)


@pytest.fixture
def observing() -> type[Observing]:
    """A class of the test's own."""
    return type("Own", (Observing,), {"settled": [], "metrics": []})


@pytest.fixture
async def tap(mesh: Transports) -> Any:
    """A plain AMQP client."""
    async with tapping(mesh) as made:
        yield made


async def nothing_waits(tap: Tap, dead: int = 0) -> None:
    """The service queue is empty, and so many messages were dead-lettered."""
    for queue, count in (("nuropb-orders-sq", 0), (DL_QUEUE, dead)):
        depth = -1
        for _ in range(100):
            depth = await asyncio.to_thread(tap.depth, queue)
            if depth == count:
                break
            await asyncio.sleep(0.02)
        assert depth == count, queue


# -- settling and metrics -------------------------------------------------------------------


async def test_each_settlement_is_told(
    programs: Programs, mesh: Transports, tap: Tap, observing: type[Observing]
) -> None:
    def act(message: Any, complete: Any, _: Any) -> None:
        complete([answer(message, 1)], message["nuropb_payload"]["method"])

    transport = await programs.service(act, cls=observing)
    client = await mesh.client()
    for method in ("ack", "reject"):
        await client.request({**request(method), "correlation_id": method, "trace_id": "t-1"})
    await eventually(lambda: len(observing.metrics) == 2)
    assert observing.settled == [("ack", False), ("reject", False)]
    for told in observing.metrics:
        started, ended, took = (told.pop(key) for key in ("start_time", "end_time", "duration"))
        assert 0 <= took < 5
        assert started <= ended
    assert observing.metrics == [
        {
            "service_name": "orders",
            "instance_id": "one",
            "is_leader": True,
            "client_only": False,
            "nuropb_type": "request",
            "nuropb_version": "rmq-aio/0.2.0",
            "correlation_id": action,
            "trace_id": "t-1",
            "encrypted": False,
            "acknowledgement": action,
            "message_count": 1,
            "flow_complete": True,
        }
        for action in ("ack", "reject")
    ]
    await nothing_waits(tap, dead=1)
    assert not in_hand(transport.core)


async def test_a_call_again_is_an_ack_and_a_second_a_reject(
    programs: Programs, mesh: Transports, tap: Tap, observing: type[Observing]
) -> None:
    await programs.service(lambda _, complete, __: complete([], "nack"), cls=observing)
    client = await mesh.client()
    response = await client.request(request())
    assert response["error"] is not None
    await eventually(lambda: len(observing.metrics) == 2)
    assert observing.settled == [("ack", False), ("reject", True)]
    assert [each["acknowledgement"] for each in observing.metrics] == ["nack", "reject"]
    assert [each["message_count"] for each in observing.metrics] == [0, 1]
    await nothing_waits(tap, dead=1)


async def test_a_message_that_is_done_the_second_time_was_redelivered(
    programs: Programs, mesh: Transports, observing: type[Observing]
) -> None:
    service = Callback(
        lambda message, complete, _: complete(
            [answer(message, 1)], "ack" if len(service.messages) == 2 else "nack"
        )
    )
    await programs.service(service, cls=observing)
    client = await mesh.client()
    assert result_of(await client.request(request())) == 1
    await eventually(lambda: observing.settled == [("ack", False), ("ack", True)])


async def test_what_cannot_be_read_is_told_too(
    programs: Programs, mesh: Transports, tap: Tap, observing: type[Observing]
) -> None:
    service = Callback(echo)
    await programs.service(service, cls=observing)
    await asyncio.to_thread(tap.publish, "nuropb-orders-sq", b"{", "command")
    await asyncio.to_thread(tap.publish, "nuropb-orders-sq", b"{}", "poem")
    await eventually(lambda: len(observing.metrics) == 2)
    assert observing.settled == [("reject", False)] * 2
    assert [each["nuropb_type"] for each in observing.metrics] == ["command", "poem"]
    assert [each["nuropb_version"] for each in observing.metrics] == ["0.1.8"] * 2
    assert not service.messages
    await nothing_waits(tap, dead=2)


async def test_a_callback_that_raises_or_never_completes_is_told_too(
    programs: Programs, mesh: Transports, observing: type[Observing]
) -> None:
    def act(message: Any, *_: Any) -> None:
        if message["nuropb_payload"]["method"] == "raise":
            raise LookupError

    await programs.service(act, cls=observing, core={"handler_timeout": 0.2})
    client = await mesh.client()
    for method in ("raise", "never"):
        assert (await client.request(request(method)))["error"]
    await eventually(lambda: len(observing.metrics) == 2)
    assert observing.settled == [("reject", False)] * 2
    assert [each["message_count"] for each in observing.metrics] == [1, 1]


async def test_what_is_given_back_at_stop_is_not_settled(
    programs: Programs, mesh: Transports, observing: type[Observing]
) -> None:
    service = Callback()
    transport = await programs.service(service, cls=observing)
    client = await mesh.client()
    await client.send(command())
    await eventually(lambda: service.messages)
    await transport.core.stop(grace=0.05)
    assert not observing.settled
    assert not observing.metrics


async def test_metadata_is_one_dict_from_beginning_to_end(
    programs: Programs, mesh: Transports, observing: type[Observing]
) -> None:
    def act(_: Any, complete: Any, metadata: dict[str, Any]) -> None:
        metadata["mine"] = 1
        complete([], "ack")

    service = Callback(act)
    await programs.service(service, cls=observing)
    client = await mesh.client()
    await client.send(command())
    await eventually(lambda: observing.metrics)
    assert observing.metrics[0] is service.metadata[0]
    assert observing.metrics[0]["mine"] == 1


async def test_metrics_of_responses(programs: Programs, observing: type[Observing]) -> None:
    await programs.service(echo)
    client = await programs.client(lambda _, complete, __: complete([], "ack"), cls=observing)
    client.send_message(request())
    client.send_message(request(service="nobody"))
    await eventually(lambda: len(observing.metrics) == 2)
    assert {each["nuropb_type"] for each in observing.metrics} == {"request", "response"}
    assert all(each["message_count"] == 0 for each in observing.metrics)
    assert all(each["acknowledgement"] == "ack" for each in observing.metrics)
    assert not observing.settled


async def test_only_what_is_overridden_is_called(programs: Programs) -> None:
    class OnlyMetrics(RMQTransport):
        @classmethod
        def metadata_metrics(cls, metadata: dict[str, Any]) -> None:
            """Nothing."""

    class OnlySettling(RMQTransport):
        @classmethod
        def acknowledge_service_message(cls, *_: Any) -> None:
            """Nothing."""

    plain, metrics, settling = (
        programs.make(echo, cls=each) for each in (RMQTransport, OnlyMetrics, OnlySettling)
    )
    assert callbacks_of(plain).settler() is None
    assert overridden(metrics) == {"metrics"}
    assert overridden(settling) == {"settling"}


class Odd(RMQTransport):
    """A transport that does something else in place of the settlement."""

    act: ClassVar[Any]

    @classmethod
    def acknowledge_service_message(
        cls, channel: Any, delivery_tag: Any, action: Any, redelivered: Any
    ) -> None:
        cls.act(channel, delivery_tag)


def _raise(*_: Any) -> None:
    raise LookupError("hush")


def _exit(*_: Any) -> None:
    raise SystemExit(1)


def _cancelled(*_: Any) -> None:
    raise asyncio.CancelledError


def _twice(channel: SettlingChannel, tag: int) -> None:
    channel.basic_ack(tag)
    channel.basic_reject(tag, requeue=False)


def _ack_and_raise(channel: SettlingChannel, tag: int) -> None:
    channel.basic_ack(tag)
    raise LookupError("hush")


ODD: dict[str, tuple[Any, int, str]] = {
    "nothing": (lambda *_: None, 0, "did not settle"),
    "raises": (_raise, 0, "acknowledge_service_message failed"),
    "raises SystemExit": (_exit, 0, "acknowledge_service_message failed"),
    "is cancelled": (_cancelled, 0, "acknowledge_service_message failed"),
    "settles, and raises": (_ack_and_raise, 0, "acknowledge_service_message failed"),
    "settles twice": (_twice, 0, "was settled before"),
    "another tag": (lambda channel, tag: channel.basic_ack(tag + 1), 0, "failed"),
    "several": (lambda channel, tag: channel.basic_ack(tag, multiple=True), 0, "failed"),
    "rejects": (lambda channel, tag: channel.basic_reject(tag, requeue=False), 1, ""),
    "nacks": (lambda channel, tag: channel.basic_nack(tag, requeue=False), 1, ""),
}


@pytest.mark.parametrize(("act", "dead", "text"), ODD.values(), ids=ODD)
async def test_an_odd_override_leaves_nothing_unsettled(
    programs: Programs,
    mesh: Transports,
    tap: Tap,
    caplog: pytest.LogCaptureFixture,
    act: Any,
    dead: int,
    text: str,
) -> None:
    service = Callback(echo)
    transport = await programs.service(service, cls=type("Own", (Odd,), {"act": staticmethod(act)}))
    client = await mesh.client()
    await client.send(command())
    await eventually(lambda: service.messages)
    await asyncio.wait_for(dispatcher_of(transport.core).drained(), 5)
    warned = [each.getMessage() for each in caplog.records if each.levelno > logging.INFO]
    assert any(text in each for each in warned) if text else not warned
    assert await client.request(request("more"))  # the next one comes
    await transport.stop()
    await nothing_waits(tap, dead=dead * 2)


async def test_an_override_may_give_a_message_back(
    programs: Programs, mesh: Transports, tap: Tap
) -> None:
    def act(channel: SettlingChannel, tag: int) -> None:
        if len(service.messages) < 3:
            channel.basic_nack(tag)
        else:
            channel.basic_ack(tag)

    service = Callback(echo)
    await programs.service(service, cls=type("Own", (Odd,), {"act": staticmethod(act)}))
    client = await mesh.client()
    await client.send(command())
    await eventually(lambda: len(service.messages) == 3)
    await nothing_waits(tap)


async def test_a_channel_that_is_kept_settles_nothing_more(
    programs: Programs, mesh: Transports
) -> None:
    kept: list[tuple[SettlingChannel, int]] = []

    def act(channel: SettlingChannel, tag: int) -> None:
        channel.basic_ack(tag)
        kept.append((channel, tag))

    service = Callback(echo)
    await programs.service(service, cls=type("Own", (Odd,), {"act": staticmethod(act)}))
    client = await mesh.client()
    await client.send(command())
    await eventually(lambda: kept)
    channel, tag = kept[0]
    channel.basic_ack(tag)  # a second ack would cost the channel (406)
    channel.basic_nack(tag)
    assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_metrics_that_raise_are_logged_and_harmless(
    programs: Programs, mesh: Transports, tap: Tap, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(RMQTransport):
        @classmethod
        def metadata_metrics(cls, metadata: dict[str, Any]) -> None:
            raise LookupError

    await programs.service(echo, cls=Raising)
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert result_of(await client.request(request(n=2))) == {"n": 2}
    await nothing_waits(tap)
    assert "metadata_metrics failed" in caplog.text


async def test_settling_when_the_channel_is_gone(
    programs: Programs, mesh: Transports, observing: type[Observing]
) -> None:
    """The message is delivered once more, and settled then."""
    service = Callback()
    transport = await programs.service(service, cls=observing)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await eventually(lambda: service.messages)

    def complete(*_: object) -> None:
        if len(service.messages) == 1 and not observing.settled:
            service.complete([answer(service.messages[0], "all the same")], of=0)

    transport.core.on_state_change(complete)
    spoil(ports_of(transport.core)[-1])
    assert result_of(await call) == "all the same"
    await eventually(lambda: len(service.messages) == 2 and observing.settled)
    service.complete([])
    await eventually(lambda: len(observing.metrics) == 2)
    assert observing.settled == [("ack", False), ("ack", True)]


async def test_settling_what_was_delivered_again_meanwhile(
    programs: Programs, mesh: Transports, observing: type[Observing], tap: Tap
) -> None:
    service = Callback()
    transport = await programs.service(service, cls=observing)
    client = await mesh.client()
    call = asyncio.create_task(client.request(request()))
    await eventually(lambda: service.messages)
    spoil(ports_of(transport.core)[-1])
    await joined(transport.core)
    service.complete([answer(service.messages[0], "all the same")], of=0)
    assert result_of(await call) == "all the same"
    await eventually(lambda: observing.settled == [("ack", True)])
    await nothing_waits(tap)
    assert len(service.messages) == 1


class FakeChannel:
    """Whatever has pika's three methods."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, bool | None]] = []

    def basic_ack(self, delivery_tag: int) -> None:
        self.calls.append(("ack", delivery_tag, None))

    def basic_nack(self, delivery_tag: int, requeue: bool) -> None:
        self.calls.append(("nack", delivery_tag, requeue))

    def basic_reject(self, delivery_tag: int, requeue: bool) -> None:
        self.calls.append(("reject", delivery_tag, requeue))


def test_settling_by_hand_is_as_nuropb_has_it() -> None:
    channel: Any = FakeChannel()
    settle: Any = RMQTransport.acknowledge_service_message
    settle(channel, 1, "ack", False)
    settle(channel, 2, "nack", False)
    settle(channel, 3, "reject", False)
    for redelivered in (True, None):
        with pytest.raises(NuropbCallAgainReject):
            settle(channel, 4, "nack", redelivered)
    with pytest.raises(NuropbValidationError, match="'reject', got 'maybe'"):
        settle(channel, 5, "maybe", False)
    assert channel.calls == [
        ("ack", 1, None),
        ("nack", 2, True),
        ("reject", 3, False),
        ("reject", 4, False),
        ("reject", 4, False),
    ]


# -- steps ----------------------------------------------------------------------------------


class Stepping(RMQTransport):
    """Takes all steps itself, and notes them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.taken: list[str] = []

    async def open_channel(self) -> None:
        await super().open_channel()
        self.taken.append("open")

    async def declare_response_queue(self) -> None:
        await super().declare_response_queue()
        self.taken.append("responses")

    def declare_service_queue(self, frame: object) -> None:  # type: ignore[override]
        super().declare_service_queue(frame)  # as in nuropb: not awaited
        self.taken.append("service")

    def close_channel(self) -> Awaitable[None]:
        self.taken.append("close")
        return super().close_channel()


async def test_steps_are_taken_in_their_order(programs: Programs, mesh: Transports) -> None:
    transport: Any = await programs.service(echo, cls=Stepping)
    assert [each for each in transport.taken if each != "open"] == ["responses", "service"]
    assert transport.taken.count("open") == 5  # two to probe, one each to publish and consume
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    await transport.stop()
    assert transport.taken.count("close") == 2
    await transport.start()
    assert transport.taken.count("service") == 2


async def test_steps_of_a_client(programs: Programs) -> None:
    client: Any = await programs.client(cls=Stepping)
    assert [each for each in client.taken if each != "open"] == ["responses"]


async def test_steps_are_taken_again_at_recovery(programs: Programs, mesh: Transports) -> None:
    async with Proxy(mesh.url) as proxy:
        transport: Any = await programs.service(
            echo, cls=Stepping, amqp_url=proxy.url, core={"instance_retry": 30.0}
        )
        proxy.reset()
        await eventually(lambda: not transport.connected)
        await eventually(lambda: transport.connected)
        client = await mesh.client()
        assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert transport.taken.count("service") >= 2


async def test_a_step_that_is_left_out_must_have_been_done(
    programs: Programs, mesh: Transports
) -> None:
    class Leaving(RMQTransport):
        def declare_service_queue(self, frame: object = None) -> None:  # type: ignore[override]
            """An operator has declared it."""

    first = programs.make(echo, cls=Leaving)
    with pytest.raises(ServiceNotConfigured, match="nuropb-orders-sq"):
        await first.start()
    assert not first.connected
    await (await programs.service(echo, instance_id="two")).stop()  # declares it
    await first.start()
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}


async def test_a_channel_must_be_opened(programs: Programs) -> None:
    class Leaving(RMQTransport):
        async def open_channel(self) -> None:
            """Nothing."""

    with pytest.raises(NuropbTransportError, match="did not call super"):
        await programs.service(echo, cls=Leaving)


@pytest.mark.parametrize(
    "name", ["open_channel", "declare_response_queue", "declare_service_queue"]
)
async def test_a_step_that_raises_is_a_typed_error(programs: Programs, name: str) -> None:
    def step(*_: Any) -> None:
        raise LookupError("mine")

    transport = programs.make(echo, cls=type("Raising", (RMQTransport,), {name: step}))
    with pytest.raises(NuropbTransportError, match=f"{name}.*overridden.*mine"):
        await transport.start()
    assert transport.core.state is State.STOPPED


async def test_a_step_that_raises_or_hangs_does_not_hold_up_stop(programs: Programs) -> None:
    class Raising(RMQTransport):
        def close_channel(self) -> Awaitable[None]:
            raise LookupError("mine")

    class Hanging(RMQTransport):
        async def close_channel(self) -> None:
            await asyncio.Event().wait()

    for number, cls in enumerate((Raising, Hanging)):
        transport = await programs.service(echo, cls=cls, instance_id=f"i{number}")
        await asyncio.wait_for(transport.stop(), 8)
        assert not transport.connected


async def test_called_by_hand_they_refuse_with_the_reason(programs: Programs) -> None:
    transport: Any = await programs.service(echo)
    stepping: Any = programs.make(echo, cls=Stepping, instance_id="two")
    for name in ("open_channel", "declare_response_queue", "close_channel"):
        with pytest.raises(NuropbTransportError, match=f"{name}.*only for the transport itself"):
            await getattr(transport, name)()
        with pytest.raises(NuropbTransportError, match="start"):
            await getattr(stepping, name)()
    with pytest.raises(NuropbTransportError, match="declare_service_queue"):
        transport.declare_service_queue(None)
    assert transport.connected


async def test_one_transport_does_not_take_the_steps_of_another(programs: Programs) -> None:
    other: Any = programs.make(echo, instance_id="two")

    class Mixing(RMQTransport):
        async def declare_response_queue(self) -> None:
            await other.declare_response_queue()

    with pytest.raises(NuropbTransportError, match="only for the transport itself"):
        await programs.service(echo, cls=Mixing)


# -- what is not called any more ------------------------------------------------------------


def test_methods_that_are_never_called_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    class Old(RMQTransport):
        def on_channel_closed(self, channel: Any, reason: Any) -> None:
            """Of pika's world."""

        def on_message_returned(self, *_: Any) -> None:
            """Too."""

    Old("orders", "one", "amqp://localhost/", echo)
    (record,) = caplog.records
    assert record.getMessage() == (
        "Old has methods that are not called any more: on_channel_closed, on_message_returned; "
        "see docs/guides/migration.md"
    )


async def test_an_event_is_settled_as_the_others_are(
    programs: Programs, mesh: Transports, observing: type[Observing]
) -> None:
    await programs.service(echo, cls=observing, event_bindings=["a"])
    client = await mesh.client()
    await client.send(event("a", 1))
    await eventually(lambda: observing.settled == [("ack", False)])
