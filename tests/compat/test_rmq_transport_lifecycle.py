"""start, stop and what lies between, as programs of nuropb call them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from nuropb_rmq import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    InstanceInUseError,
    NuropbConfigurationError,
    NuropbTransportError,
    RMQTransport,
    ServiceNotConfigured,
    State,
    TransportClosedError,
)
from nuropb_rmq.compat import rmq_transport

from ..faults.proxy import Proxy, Wire
from ..seams import connections_of, tasks_of
from ..support import Transports, command, eventually, request, result_of
from .programs import Callback, Programs, echo


async def test_connected_tells_whether_it_is(programs: Programs) -> None:
    transport = programs.make(echo)
    told = [transport.connected]
    await transport.start()
    told.append(transport.connected)
    await transport.stop()
    told.append(transport.connected)
    assert told == [False, True, False]


async def test_it_can_be_stopped_twice_and_started_again(
    programs: Programs, mesh: Transports
) -> None:
    transport = programs.make(echo)
    await transport.stop()
    client = await mesh.client()
    for n in range(3):
        await transport.start()
        assert result_of(await client.request(request(n=n))) == {"n": n}
        await asyncio.gather(transport.stop(), transport.stop())
        await transport.stop()


async def test_start_when_it_is_connected_is_refused(programs: Programs) -> None:
    transport = await programs.service(echo)
    with pytest.raises(NuropbTransportError, match="READY already"):
        await transport.start()
    with pytest.raises(NuropbTransportError, match="READY already"):
        transport.connect()
    assert transport.connected


async def test_connect_and_disconnect_give_futures(programs: Programs) -> None:
    transport = programs.make(echo)
    assert await transport.connect() is True
    assert transport.connected
    assert await transport.disconnect() is True
    assert transport.core.state is State.STOPPED
    assert await transport.disconnect() is True
    connecting = transport.connect()
    await eventually(lambda: transport.core.state is State.CONNECTING)
    with pytest.raises(NuropbTransportError, match="CONNECTING already"):
        transport.connect()
    await connecting


async def test_connect_that_nobody_waits_for(
    programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = programs.make(echo), programs.make(echo, rpc_exchange="missing", instance_id="two")
    good.connect()
    await eventually(lambda: good.connected)
    good.disconnect()
    await eventually(lambda: not good.connected)
    bad.connect()
    await eventually(lambda: "connect() has failed" in caplog.text)
    assert "missing" in caplog.text
    assert not bad.connected
    assert not tasks_of(bad)
    assert bad.core.state is State.STOPPED


async def test_a_connect_that_is_cancelled_by_stop(programs: Programs) -> None:
    transport = programs.make(echo)
    connecting = transport.connect()
    await asyncio.sleep(0)
    await transport.stop()
    with pytest.raises(TransportClosedError):
        await connecting
    assert not transport.connected


async def test_a_future_of_connect_that_is_cancelled_does_not_stop_it(programs: Programs) -> None:
    transport = programs.make(echo)
    transport.connect().cancel()
    await eventually(lambda: transport.connected)


def test_connect_without_a_loop_is_a_typed_error() -> None:
    transport = RMQTransport("orders", "one", "amqp://localhost/", echo)
    with pytest.raises(NuropbTransportError, match="running event loop"):
        transport.connect()
    with pytest.raises(NuropbTransportError, match="running event loop"):
        transport.disconnect()


# -- start() raises -------------------------------------------------------------------------


async def broken(programs: Programs, kind: type[NuropbTransportError], **settings: Any) -> Any:
    """start() raises this, and leaves nothing open."""
    transport = programs.make(echo, core={"connect_timeout": 5.0}, **settings)
    with pytest.raises(kind) as raised:
        await transport.start()
    assert not transport.connected
    assert not any(each.runs for each in connections_of(transport.core))
    with pytest.raises(TransportClosedError):
        transport.send_message(request())
    return raised.value


async def test_a_broker_that_is_not_there(programs: Programs) -> None:
    await broken(programs, BrokerUnreachableError, amqp_url="amqp://guest:guest@127.0.0.1:9/")


async def test_a_password_that_is_wrong(
    programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "nuropb_rmq")
    url = programs.url.replace("guest:guest@", f"guest:{(secret := secrets.token_hex(8))}@")
    error = await broken(programs, BrokerAuthenticationError, amqp_url=url)
    assert secret not in f"{error} {error!r}"
    assert secret not in caplog.text


async def test_a_virtual_host_that_is_missing(programs: Programs) -> None:
    host, _, _ = programs.url.rpartition("/")
    await broken(programs, ServiceNotConfigured, amqp_url=f"{host}/missing")


async def test_an_exchange_that_is_missing(programs: Programs) -> None:
    error = await broken(programs, ServiceNotConfigured, events_exchange="missing")
    assert "missing" in str(error)


async def test_an_instance_id_that_is_in_use(programs: Programs) -> None:
    first = await programs.service(echo)
    transport = programs.make(echo, core={"instance_retry": 0.2})
    with pytest.raises(InstanceInUseError) as raised:
        await transport.start()
    assert raised.value.close_connection is True
    assert not transport.connected
    assert first.connected


# -- reconnecting ---------------------------------------------------------------------------


async def test_start_while_it_recovers_waits_until_it_is_back(
    programs: Programs, mesh: Transports
) -> None:
    """As old programs reconnect: if not api.connected: await api.connect()."""
    async with Proxy(mesh.url) as proxy:
        core = {"connect_timeout": 3.0, "instance_retry": 30.0}
        transport = await programs.service(echo, amqp_url=proxy.url, core=core)
        proxy.set(Wire.REFUSE)
        proxy.reset()
        await eventually(lambda: not transport.connected)
        with pytest.raises(BrokerUnreachableError, match="not connected yet"):
            await transport.start()
        proxy.set(Wire.PASS)
        await transport.start()
        assert transport.connected
        proxy.set(Wire.REFUSE)
        proxy.reset()
        await eventually(lambda: not transport.connected)
        starting = asyncio.create_task(transport.start())
        await asyncio.sleep(0)
        await transport.stop()
        with pytest.raises(TransportClosedError):
            await starting


async def test_start_while_it_starts_waits_for_the_same(programs: Programs) -> None:
    transport = programs.make(echo)
    await asyncio.gather(transport.start(), transport.start())
    assert transport.connected


# -- stopping -------------------------------------------------------------------------------


async def test_stop_gives_what_is_in_hand_its_time(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, mesh: Transports
) -> None:
    assert rmq_transport.CONSUMER_CLOSED_WAIT_TIMEOUT == 10
    monkeypatch.setattr(rmq_transport, "CONSUMER_CLOSED_WAIT_TIMEOUT", 0.2)
    service = Callback()
    transport = await programs.service(service)
    client = await mesh.client()
    await client.send(command())
    await eventually(lambda: service.messages)
    began = asyncio.get_running_loop().time()
    await transport.stop()
    assert 0.2 <= asyncio.get_running_loop().time() - began < 5


async def test_stop_consuming_takes_nothing_more(programs: Programs, mesh: Transports) -> None:
    service, answers = Callback(), Callback()
    transport = await programs.service(service, prefetch_count=2)
    other = await programs.service(answers, service_name="other")
    client = await mesh.client()
    call = asyncio.create_task(client.request(request(n=1)))
    await eventually(lambda: service.messages)
    await transport.stop_consuming()
    await transport.stop_consuming()
    for n in range(2, 5):
        await client.send(command(n=n))
    assert not transport.connected, "its consumer is down"
    assert transport.core.state is State.READY
    assert len(service.messages) == 1
    echo(service.messages[0], service.completes[0], {})  # what is in hand is finished
    assert result_of(await call) == {"n": 1}
    await transport.send_message(request(service="other", n=9))  # sending, and responses, go on
    await eventually(lambda: answers.messages)
    echo(answers.messages[0], answers.completes[0], {})
    await eventually(lambda: len(service.messages) == 2)
    assert service.payloads[1]["tag"] == "response"
    await transport.stop()
    await transport.start()
    await eventually(lambda: len(service.messages) == 4)
    assert other.connected
    for n in (2, 3):
        service.complete([], of=n)
    await eventually(lambda: len(service.messages) == 5)
    service.complete([])


async def test_stop_consuming_gives_back_what_was_not_begun(
    programs: Programs, mesh: Transports
) -> None:
    """Of a prefetch of 2 one is handled, and one waits in the client."""
    first, second = Callback(), Callback()
    transport = await programs.service(first, prefetch_count=1)
    client = await mesh.client()
    await client.send(command(n=1))
    await eventually(lambda: first.messages)

    def consume() -> tuple[int, int]:
        with pika.BlockingConnection(pika.URLParameters(programs.url)) as connection:
            state = connection.channel().queue_declare("nuropb-orders-sq", passive=True).method
            return state.consumer_count, state.message_count

    await client.send(command(n=2))
    await transport.stop_consuming()
    assert await asyncio.to_thread(consume) == (0, 1)
    await programs.service(second, instance_id="two")
    await eventually(lambda: second.messages)
    assert second.payloads[0]["params"] == {"n": 2}
    first.complete([])
    second.complete([])


async def test_stop_consuming_holds_over_a_recovery(programs: Programs, mesh: Transports) -> None:
    service = Callback(echo)
    async with Proxy(mesh.url) as proxy:
        transport = await programs.service(
            service, amqp_url=proxy.url, core={"instance_retry": 30.0}
        )
        await transport.stop_consuming()
        proxy.reset()
        await eventually(lambda: not transport.core.state.up)
        await eventually(lambda: transport.core.state.up)
        assert not transport.connected
        client = await mesh.client()
        await client.send(command())
        await transport.stop_consuming()
        assert not service.messages


async def test_the_response_queue_that_it_tells_is_the_one_in_use(
    programs: Programs, mesh: Transports
) -> None:
    """With several hosts it has another name after a recovery."""
    service = Callback(echo)
    await programs.service(service)
    async with Proxy(mesh.url) as one, Proxy(mesh.url) as two:
        client = programs.make(
            echo, "client", client_only=True, instance_id=None, amqp_url=[one.url, two.url]
        )
        told = [client.response_queue]
        await client.start()
        assert client.response_queue == told[0]
        one.set(Wire.REFUSE)
        one.reset()
        await eventually(lambda: not client.connected)
        await eventually(lambda: client.connected)
        told.append(client.response_queue)
        assert told[1] != told[0]
        assert client.rmq_configuration["response_queue"] == client._response_queue == told[1]

        def declared() -> str:
            with pika.BlockingConnection(pika.URLParameters(programs.url)) as connection:
                with pytest.raises(ChannelClosedByBroker, match="RESOURCE_LOCKED") as raised:
                    connection.channel().queue_declare(told[1], passive=True)
                return str(raised.value.reply_text)

        assert told[1] in await asyncio.to_thread(declared)
        await client.stop()
        await client.start()
        assert client.response_queue == told[0]


async def test_stop_consuming_before_start_does_nothing(programs: Programs) -> None:
    transport = programs.make(echo)
    await transport.stop_consuming()
    client = programs.make(echo, "client", client_only=True)
    await client.start()
    await client.stop_consuming()
    assert client.connected


async def test_stop_consuming_does_not_wait_for_ever(
    programs: Programs, mesh: Transports, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(mesh.url) as proxy:
        transport = await programs.service(echo, amqp_url=proxy.url)
        monkeypatch.setattr(rmq_transport, "CONSUMER_CLOSED_WAIT_TIMEOUT", 0.2)
        proxy.set(Wire.HOLE)
        with pytest.raises(TimeoutError, match="stop_consuming"):
            await transport.stop_consuming()
        proxy.set(Wire.PASS)
        monkeypatch.setattr(rmq_transport, "CONSUMER_CLOSED_WAIT_TIMEOUT", 5)
        await transport.stop_consuming()


async def test_a_callback_that_is_no_function() -> None:
    with pytest.raises(NuropbConfigurationError, match="message_callback"):
        RMQTransport("orders", "one", "amqp://localhost/", None)  # type: ignore[arg-type]
