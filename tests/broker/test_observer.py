"""Observers see every message of a transport, and stop none; handlers may complete a message."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import (
    Message,
    NuropbException,
    NuropbNotDeliveredError,
    Observer,
    Outcome,
    SentMessage,
    Settlement,
)

from ..faults.proxy import Proxy
from ..support import Mesh, Recorder, Watch, command, eventually, request, result_of


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


async def test_a_request_seen_from_both_ends(mesh: Mesh) -> None:
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
    reply = client._outbound.topology.response_queue.name
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


async def test_failures_and_what_cannot_be_read(mesh: Mesh) -> None:
    async def handler(message: Message) -> None:
        raise LookupError("no such order")

    service, client = await mesh.service(handler), await mesh.client()
    served, called = Notes(), Notes()
    service.observe(served)
    client.observe(called)
    await client.send(command(n=1))
    (id_,) = called.of
    await eventually(lambda: ("settled", "REJECT") in served.of.get(id_, ()))
    assert served.of[id_] == [("received", "command"), ("handled", "FAILED"), ("settled", "REJECT")]
    with pytest.raises(NuropbNotDeliveredError):
        await client.send({**command(n=2), "service": "nobody", "correlation_id": "lost"})
    assert called.of["lost"][-1] == ("confirmed", "NuropbNotDeliveredError")


async def test_what_an_observer_raises_stops_nothing(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
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


async def test_a_return_is_told_once(mesh: Mesh) -> None:
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


async def test_a_handler_completes_its_message_and_goes_on(mesh: Mesh) -> None:
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
