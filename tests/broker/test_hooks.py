"""Tests of each part of aio-pika and aiormq that this library needs; they say what has changed.

None of it is promised by their documentation. When one of these fails after an upgrade, the
sentence that it fails with is where to look first, in broker/connection.py and amqp/router.py.
"""

from __future__ import annotations

import asyncio
import itertools
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiormq
import pamqp.frame
import pytest
from aio_pika import Channel, RobustConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPError, InvalidFrameError, ProbableAuthenticationError
from packaging.requirements import Requirement
from pamqp import commands
from yarl import URL

from nuropb_rmq import (
    BrokerAuthenticationError,
    ConnectionLostError,
    ServiceNotConfigured,
    TransportConfig,
)
from nuropb_rmq.broker.connection import BrokerConnection
from nuropb_rmq.broker.error_translation import translated

from ..fake_broker import FakeBroker, silent_on
from ..support import eventually
from ..unit.amqp.harness import Listener, deliver

PAUSE = 0.05


class Factory(TransportFactory):
    """Notes how it is called; opens a plain socket, or raises what it was told to."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.calls: list[tuple[URL, dict[str, Any]]] = []
        self.times: list[float] = []
        self.error: type[Exception] | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open, or raise."""
        self.log.append("create")
        self.calls.append((url, kwargs))
        self.times.append(asyncio.get_running_loop().time())
        if self.error is not None:
            raise self.error("from the factory")
        return await asyncio.open_connection(url.host, url.port)


class Robust(RobustConnection):
    """A RobustConnection that notes when its hooks are called; `log` is shared with the factory."""

    def __init__(self, url: str) -> None:
        self.log: list[str] = []
        self.errors: list[type] = []  # an exception itself would keep its attempt alive
        self.reads = 0
        super().__init__(URL(url))
        self.factory = Factory(self.log)
        self.kwargs["transport_factory"] = self.factory

    @property
    def reconnect_interval(self) -> float:
        """Read by aio-pika."""
        self.reads += 1
        return PAUSE

    @reconnect_interval.setter
    def reconnect_interval(self, _: object) -> None:
        """Assigned by aio-pika's __init__."""

    async def _on_connected(self) -> None:
        await super()._on_connected()
        self.log.append("connected")

    async def _on_connection_close(self, closing: asyncio.Future[Any]) -> None:
        self.log.append("close begins")
        self.errors.append(type(None if closing.cancelled() else closing.exception()))
        await asyncio.sleep(0.01)
        self.log.append("close ends")
        await super()._on_connection_close(closing)


def broker_connection(url: str, **settings: Any) -> BrokerConnection:
    """Our own, for this broker."""
    return BrokerConnection(
        TransportConfig(amqp_url=url, service_name="orders", **settings),
        purpose="hooks",
        instance_id="i-1",
        on_blocked=lambda _: None,
        on_lost=lambda _: None,
    )


# -- versions -----------------------------------------------------------------------------------


def test_the_installed_versions_are_within_the_pins() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text())["project"]
    pins = {pin.name: pin.specifier for pin in map(Requirement, project["dependencies"])}
    for name, too_old, too_new in (("aio-pika", "10.2.0", "11.0.0"), ("aiormq", "7.2.3", "8.0.0")):
        assert version(name) in pins[name], f"{name} {version(name)} is outside {pins[name]}"
        assert too_old not in pins[name], f"{name} {too_old} loses consumers on recovery"
        assert too_new not in pins[name], f"{name} {too_new}: go through this file first"


# -- aio-pika's robust connection ---------------------------------------------------------------


async def test_the_transport_factory_is_used_at_every_attempt() -> None:
    async with FakeBroker() as broker:
        connection = Robust(broker.url)
        try:
            await connection.connect(timeout=5)
            calls = connection.factory.calls
            assert len(calls) == 1, "RobustConnection.kwargs does not reach aiormq any more"
            broker.refusing = True
            broker.drop()
            await eventually(lambda: len(calls) >= 4)
            broker.refusing = False
            await eventually(lambda: connection.log[-1] == "connected")
            for url, kwargs in calls:
                assert url == connection.url
                assert set(kwargs) == {"ssl_context_provider"}, (
                    f"aiormq passes other things to TransportFactory.create: {sorted(kwargs)}"
                )
        finally:
            await connection.close()


async def test_the_hooks_of_a_connection_are_called_in_order() -> None:
    async with FakeBroker() as broker:
        connection = Robust(broker.url)
        try:
            await connection.connect(timeout=5)
            broker.refusing = True
            broker.drop()
            await eventually(lambda: connection.log.count("create") >= 3)
            broker.refusing = False
            await eventually(lambda: connection.log.count("connected") == 2)
            failed = connection.log.count("create") - 2
            assert connection.log == [
                "create",
                "connected",
                "close begins",
                "close ends",
                *["create", "close begins", "close ends"] * failed,
                "create",
                "connected",
            ], (
                "_on_connection_close is not awaited once for the loss and once for each failed "
                f"attempt, before the next one, or _on_connected has moved: {connection.log}"
            )
            assert all(issubclass(each, OSError) for each in connection.errors), (
                f"losses and failed attempts end with other errors: {connection.errors}"
            )
        finally:
            await connection.close()


async def test_reconnect_interval_is_an_attribute_that_is_read_and_slept() -> None:
    async with FakeBroker() as broker:
        connection = Robust(broker.url)
        try:
            await connection.connect(timeout=5)
            broker.refusing = True
            broker.drop()
            await eventually(lambda: len(connection.factory.times) >= 4)
            assert connection.reads >= 3, "reconnect_interval is not read for each pause any more"
            times = connection.factory.times[1:]
            pauses = [b - a for a, b in itertools.pairwise(times)]
            assert all(PAUSE <= pause < PAUSE + 2 for pause in pauses), (
                f"reconnect_interval is not what is slept between attempts: {pauses}"
            )
        finally:
            await connection.close()


@pytest.mark.parametrize("error", [OSError, AMQPError, RuntimeError])
async def test_the_first_connect_raises_what_the_factory_raises(error: type[Exception]) -> None:
    connection = Robust("amqp://127.0.0.1:1/")
    connection.factory.error = error
    try:
        with pytest.raises(error):
            await asyncio.wait_for(connection.connect(timeout=5), 5)
        assert connection.log == ["create", "close begins", "close ends"]
    finally:
        await connection.close()


async def test_any_other_error_of_the_factory_leaves_the_first_connect_trying() -> None:
    """Why RouterFactory turns everything into an OSError."""
    connection = Robust("amqp://127.0.0.1:1/")
    connection.factory.error = ValueError  # a host name that cannot be encoded, say
    connecting = asyncio.ensure_future(connection.connect(timeout=5))
    try:
        await eventually(lambda: len(connection.factory.calls) >= 3)
        assert not connecting.done(), "aio-pika ends the first connect for any error now: good news"
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await connection.close()


# -- aiormq -------------------------------------------------------------------------------------


async def test_the_urls_heartbeat_and_the_brokers_frame_max_are_agreed() -> None:
    async with FakeBroker() as broker:
        connection = broker_connection(broker.url, heartbeat=23)
        try:
            await connection.open()
            agreed = await broker.until("Connection.TuneOk")
            assert agreed.heartbeat == 23, "the heartbeat of the URL is not what TuneOk says"
            assert agreed.frame_max == 131_072 == connection.router.frame_max, (
                "aiormq agrees to another frame_max than the broker's, which the router goes by"
            )
        finally:
            await connection.shut()


async def test_liveness_is_judged_by_the_frames_that_aiormq_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A silent broker is declared stuck; one that sends only content is not, thanks to us."""
    assert aiormq.Connection.HEARTBEAT_GRACE_MULTIPLIER == 3, "silence is judged by another bound"
    assert isinstance(vars(aiormq.Connection)["is_connection_was_stuck"], property)
    monkeypatch.setattr(aiormq.Connection, "HEARTBEAT_GRACE_MULTIPLIER", 1)  # 2 s for heartbeat=1
    async with FakeBroker() as silent, FakeBroker() as busy:
        deaf = broker_connection(silent.url, heartbeat=1)
        alive = broker_connection(busy.url, heartbeat=1)
        try:
            await asyncio.gather(deaf.open(), alive.open())
            listener = Listener()
            alive.router.register(1, listener)
            delivery = b"".join(deliver(1, 1, b"x"))
            silent.refusing = True

            async def send() -> None:
                while True:
                    busy.send(delivery)
                    await asyncio.sleep(0.1)

            sending = asyncio.create_task(send())
            router = deaf.router
            await eventually(lambda: router.lost is not None)
            await asyncio.sleep(1.0)  # the other one's bound has passed by this much
            sending.cancel()
            assert alive.router.lost is None, (
                "a heartbeat frame shown by the router does not count as a sign of life any more"
            )
            assert len(listener.events) > 20
            assert busy.attempts == 1
        finally:
            await asyncio.gather(deaf.shut(), alive.shut())


async def test_channel_close_is_answered_by_aiormq_itself() -> None:
    async with FakeBroker() as broker:
        connection = broker_connection(broker.url)
        try:
            await connection.open()
            channel = Channel(connection)
            await channel.initialize()
            listener = Listener()
            assert channel.number is not None
            connection.router.register(channel.number, listener)
            close = commands.Channel.Close(406, "PRECONDITION_FAILED", 60, 80)
            broker.send(pamqp.frame.marshal(close, channel.number))
            await eventually(lambda: broker.frames("Channel.CloseOk"))
            assert broker.received[-1][0] == channel.number
            assert listener.reasons[0].code == 406
            await eventually(lambda: channel.is_closed)
            assert connection.router.lost is None
        finally:
            await connection.shut()


@pytest.mark.parametrize("confirms", [False, True])
async def test_a_plain_channel_is_opened_on_a_robust_connection(confirms: bool) -> None:
    async with FakeBroker() as broker:
        connection = broker_connection(broker.url)
        try:
            await connection.open()
            channel = Channel(connection, publisher_confirms=confirms)
            await channel.initialize()
            assert channel.number == 1, "Channel.number is not the AMQP channel number any more"
            assert bool(broker.frames("Confirm.Select")) is confirms, (
                "publisher_confirms does not decide whether Confirm.Select is sent"
            )
            await channel.set_qos(5)
            queue = await channel.declare_queue("q")
            tag = await queue.consume(_never, no_ack=True, consumer_tag="nuropb-q")
            consume = broker.frames("Basic.Consume")[-1]
            told = (tag, consume.consumer_tag, consume.no_ack, consume.queue)
            assert told == ("nuropb-q", "nuropb-q", True, "q"), "Queue.consume has moved"
            await channel.close()
            assert broker.frames("Channel.Close")
        finally:
            await connection.shut()


async def _never(_: object) -> None:
    """No delivery comes."""


@pytest.mark.parametrize("abort", [False, True])
async def test_a_loss_ends_those_who_wait_for_an_answer(abort: bool) -> None:
    async with FakeBroker(silent_on("Queue.Declare")) as broker:
        connection = broker_connection(broker.url)
        try:
            await connection.open()
            channel = Channel(connection)
            await channel.initialize()
            waiting = [
                asyncio.ensure_future(channel.declare_queue("q")),
                asyncio.ensure_future(_translated(channel)),
            ]
            await broker.until("Queue.Declare")
            broker.refusing = True
            if abort:
                connection.router.abort("enough")
            else:
                broker.drop()
            _, pending = await asyncio.wait(waiting, timeout=5)
            assert not pending, "aiormq lets an RPC hang when its connection is lost"
            raw = waiting[0]
            error = asyncio.CancelledError() if raw.cancelled() else raw.exception()
            assert isinstance(error, asyncio.CancelledError | ConnectionError), (
                f"an RPC ends otherwise when its connection is lost: {error!r}"
            )
            assert isinstance(waiting[1].exception(), ConnectionLostError)
        finally:
            await connection.shut()


async def _translated(channel: Channel) -> Any:
    with translated("queue 'q'"):
        return await channel.declare_queue("q")


async def test_the_login_is_written_frame_by_frame_and_gets_our_secret_and_virtual_host() -> None:
    """Why LoginWriter can put them in: aiormq has neither the password nor the virtual host."""
    async with FakeBroker() as broker:
        connection = broker_connection(broker.url.replace("guest:guest", "%3A:%25") + "a%252Fb")
        try:
            await connection.open()
            assert broker.frames("Connection.StartOk")[-1].response == "\0:\0%"
            assert broker.frames("Connection.Open")[-1].virtual_host == "a%2Fb"
            assert connection.url.password is None
        finally:
            await connection.shut()


# -- refusals, at a real broker -----------------------------------------------------------------


async def test_a_missing_virtual_host_is_an_error_that_says_nothing(mesh_url: str) -> None:
    """Why the router keeps the code and text of Connection.Close."""
    url = mesh_url.rpartition("/")[0] + "/no-such-vhost"
    plain = Robust(url)
    with pytest.raises(InvalidFrameError) as raised:
        await plain.connect(timeout=30)
    assert "no-such-vhost" not in str(raised.value), (
        "aiormq tells the broker's reason now: good news"
    )
    await plain.close()
    ours = broker_connection(url)
    with pytest.raises(ServiceNotConfigured, match="'no-such-vhost' does not exist"):
        await ours.open()
    assert ours.router.lost is not None
    assert ours.router.lost.code == 530
    await ours.shut()


async def test_a_wrong_password_is_an_authentication_error(mesh_url: str) -> None:
    url = str(URL(mesh_url).with_password("wrong"))
    plain = Robust(url)
    with pytest.raises(ProbableAuthenticationError):
        await plain.connect(timeout=30)
    await plain.close()
    ours = broker_connection(url)
    with pytest.raises(BrokerAuthenticationError, match="refused user 'guest'"):
        await ours.open()
    assert ours.router.lost is not None
    assert ours.router.lost.code == 403, "aiormq does not ask for authentication_failure_close"
    await ours.shut()
