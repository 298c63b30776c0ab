"""Observers see every message of a transport, and stop none; handlers may complete a message."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field

import pytest

from nuropb_rmq import (
    Message,
    NuropbException,
    NuropbNotDeliveredError,
    NuropbTransportError,
    Observer,
    OutboxFullError,
    Outcome,
    SentMessage,
    Settlement,
    State,
    TransportClosedError,
)

from ..faults.proxy import Proxy, Wire
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of


class Notes(Observer):
    """Writes down what it is told of."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[str, ...]]] = {}
        self.reconnects: list[float] = []
        self.ids: set[str] = set()

    def _note(self, correlation_id: str, *what: str) -> None:
        self.of.setdefault(correlation_id, []).append(what)

    def sent(self, message: SentMessage) -> None:
        self._note(message.correlation_id, "sent", message.kind.value, message.routing_key)

    def confirmed(self, message: SentMessage, error: NuropbException | None) -> None:
        self._note(message.correlation_id, "confirmed", type(error).__name__)

    def received(self, message: Message) -> None:
        self._note(message.correlation_id, "received", message.kind.value)

    def handled(self, message: Message, outcome: Outcome, seconds: float) -> None:
        assert 0 <= seconds < 60
        self._note(message.correlation_id, "handled", outcome.name)

    def settled(self, message: Message, settlement: Settlement) -> None:
        self._note(message.correlation_id, "settled", settlement.name)

    def reconnected(self, seconds: float) -> None:
        self.reconnects.append(seconds)


class Fails(Notes):
    """Raises at whatever it is told of."""

    def _note(self, correlation_id: str, *what: str) -> None:
        raise RuntimeError("an observer's own")


async def test_a_request_seen_from_both_ends(mesh: Transports) -> None:
    service, client = await mesh.service(Recorder()), await mesh.client()
    served, called = Notes(), Notes()
    service.observe(served)
    end = client.observe(called)
    asked = request(n=1)
    await client.request(asked)
    (id_,) = called.of
    await eventually(lambda: ("settled", "ACK") in served.of[id_])
    assert called.of[id_][0] == ("sent", "request", "orders")
    assert called.of[id_][1] == ("confirmed", "NoneType")
    reply = client.response_queue
    assert served.of[id_] == [
        ("received", "request"),
        ("handled", "DONE"),
        ("sent", "response", reply),
        ("confirmed", "NoneType"),
        ("settled", "ACK"),
    ]
    end()
    await client.request(request(n=2))
    assert list(called.of) == [id_]


async def test_failures_and_what_cannot_be_read(mesh: Transports) -> None:
    async def handler(message: Message) -> None:
        raise LookupError("no such order")

    service, client = await mesh.service(handler), await mesh.client()
    served, called = Notes(), Notes()
    service.observe(served)
    client.observe(called)
    await client.send(command(n=1))
    (id_,) = called.of
    await eventually(lambda: ("settled", "DEAD_LETTER") in served.of.get(id_, ()))
    assert [note for note in served.of[id_] if note[0] in {"received", "handled", "settled"}] == [
        ("received", "command"),
        ("handled", "FAILED"),
        ("settled", "DEAD_LETTER"),
    ]
    with pytest.raises(NuropbNotDeliveredError):
        await client.send({**command(n=2), "service": "nobody", "correlation_id": "lost"})
    assert called.of["lost"][-1] == ("confirmed", "NuropbNotDeliveredError")


async def test_what_an_observer_raises_stops_nothing(
    mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    service, client = await mesh.service(recorder), await mesh.client()
    service.observe(Fails())
    client.observe(Fails())
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    await client.send(command(n=2))
    await eventually(lambda: len(recorder.seen) == 2)
    assert caplog.text.count("Fails.sent failed") == 2, "each side once"
    assert "Fails.settled failed" in caplog.text
    caplog.clear()


@dataclass
class Unhashable(Fails):
    """As a dataclass is, unless it says otherwise."""

    of: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)

    def confirmed(self, message: SentMessage, error: NuropbException | None) -> None:
        raise SystemExit


async def test_nothing_that_an_observer_is_or_raises_leaves_a_message_open(
    mesh: Transports,
) -> None:
    service, client = await mesh.service(Recorder()), await mesh.client()
    service.observe(Unhashable())
    client.observe(Unhashable())
    for n in range(2):
        assert result_of(await client.request(request(n=n))) == {"n": n}
        await client.send(command(n=n))
    await service.stop()
    assert client.pending == 0


async def test_a_message_that_is_refused_at_once_has_an_outcome_too(mesh: Transports) -> None:
    async with Proxy(mesh.url) as proxy:
        client = await mesh.client(amqp_url=proxy.url, outbox_messages=1)
        notes = Notes()
        client.observe(notes)
        proxy.set(Wire.REFUSE)
        proxy.reset()
        await client.wait_for(State.RECOVERING, timeout=10)
        waits = client.post({**command(n=1), "correlation_id": "waits"})
        with pytest.raises(OutboxFullError):
            client.post({**command(n=2), "correlation_id": "refused"})
        assert notes.of["refused"][-1] == ("confirmed", "OutboxFullError")
        await client.stop(grace=0)
        with pytest.raises(TransportClosedError):
            await waits
        assert notes.of["waits"][-1] == ("confirmed", "TransportClosedError")


async def test_a_handled_message_is_freed_at_once(mesh: Transports) -> None:
    """Nothing of it waits for the garbage collector."""

    async def handler(message: Message) -> None:
        """It keeps nothing."""

    await mesh.service(handler)
    client = await mesh.client()
    gc.collect()
    before = [each for each in gc.get_objects() if isinstance(each, Message)]  # other tests'
    gc.disable()
    try:
        for n in range(10):
            await client.request(request(n=n))
        await eventually(
            lambda: sum(isinstance(each, Message) for each in gc.get_objects()) <= len(before)
        )
    finally:
        gc.enable()


async def test_a_message_is_completed_in_its_loops_thread_only(mesh: Transports) -> None:
    refused: list[BaseException] = []

    async def handler(message: Message) -> str:
        try:
            await asyncio.to_thread(message.complete, Outcome.DONE)
        except NuropbTransportError as e:
            refused.append(e)
        return "done"

    await mesh.service(handler)
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == "done"
    assert "call_soon_threadsafe" in str(refused[0])


async def test_a_return_is_told_once(mesh: Transports) -> None:
    async with Proxy(mesh.url) as proxy:
        client = await mesh.client(amqp_url=proxy.url)
        notes, watch = Notes(), Watch(client)
        client.observe(notes)
        proxy.reset()
        await watch.recovered()
        await eventually(lambda: notes.reconnects)
        assert len(notes.reconnects) == 1
        assert notes.reconnects[0] > 0
        await client.stop()


async def test_a_handler_completes_its_message_and_goes_on(mesh: Transports) -> None:
    """The caller has its answer, and the broker its ack, while the handler still works."""
    going_on, done = asyncio.Event(), list[bool]()

    async def handler(message: Message) -> None:
        answer = {"tag": "response", "result": 7, "error": None, "context": {}, "warning": None}
        done.append(message.complete(Outcome.DONE, [answer]))
        done.append(message.complete(Outcome.FAILED))  # it is decided
        await going_on.wait()
        raise LookupError("nobody is told of this any more")

    service, client = await mesh.service(handler), await mesh.client()
    notes = Notes()
    service.observe(notes)
    assert result_of(await client.request(request(n=1))) == 7
    assert done == [True, False]
    (seen,) = notes.of.values()
    await eventually(lambda: ("settled", "ACK") in seen)
    going_on.set()
    await service.stop()
    assert seen.count(("handled", "DONE")) == 1
    assert [each for each in seen if each[0] == "settled"] == [("settled", "ACK")]
