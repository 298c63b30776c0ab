"""Row 1: broker restarted, killed with -9, TCP reset. Calls work again by themselves."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import Message, NuropbOutcomeUnknownError, State
from nuropb_rmq.broker import connection as connecting
from nuropb_rmq.broker.backoff import FIRST_PAUSE, pause
from nuropb_rmq.broker.supervisor import SETUP_PAUSE
from nuropb_rmq.testing import RabbitMQNode

from ..seams import connections_of
from ..support import Recorder, Transports, Watch, eventually, request
from .common import works
from .console import close_connection
from .proxy import Proxy, Wire

AFTER_PORT_OPENS = 10.0
AFTER_RESET = 5.0


class Holding(Recorder):
    """Answers, but never what is called `hold`."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0

    async def __call__(self, message: Message) -> object:
        if message.payload["method"] != "hold":
            return await super().__call__(message)
        self.held += 1
        return await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["kill", "stop_app"])
async def test_row_01_broker_restarted(
    mortal_node: RabbitMQNode, mortal_mesh: Transports, how: str
) -> None:
    """A call that is pending then has no answer: it ends, and says that its outcome is unknown."""
    holding = Holding()
    service = await mortal_mesh.service(holding)
    client = await mortal_mesh.client(unknown_outcome_after=1)
    watch = Watch(service)
    await works(client, 5)
    pending = asyncio.create_task(client.request(request("hold"), timeout=60))
    await eventually(lambda: holding.held)
    if how == "kill":
        await asyncio.to_thread(mortal_node.kill)
        await asyncio.to_thread(mortal_node.restart)
    else:
        await asyncio.to_thread(mortal_node.rabbitmqctl, "stop_app")
        await asyncio.to_thread(mortal_node.rabbitmqctl, "start_app")
    await works(client, AFTER_PORT_OPENS)
    await watch.recovered(AFTER_PORT_OPENS)
    with pytest.raises(NuropbOutcomeUnknownError):
        await asyncio.wait_for(pending, AFTER_PORT_OPENS)


async def test_row_01_tcp_reset_of_service_and_client(mesh: Transports, proxy: Proxy) -> None:
    cap = 1.0  # pauses grow while connections live for moments only, as between five resets
    service = await mesh.service(Recorder(), amqp_url=proxy.url, reconnect_cap=cap)
    client = await mesh.client(amqp_url=proxy.url, reconnect_cap=cap)
    watches = Watch(service), Watch(client)
    for _ in range(5):
        await works(client, AFTER_RESET)
        proxy.reset()
        for watch in watches:
            await watch.recovered(AFTER_RESET)
        await works(client, AFTER_RESET)
    assert proxy.accepted >= 3 * 6


async def test_row_01_only_one_of_the_two_connections_is_closed(
    mesh: Transports, rabbitmq_node: RabbitMQNode
) -> None:
    service = await mesh.service(Recorder(), instance_id="one")
    client = await mesh.client()
    watch = Watch(service)
    for purpose in ("publishing", "consuming"):
        await works(client, 5)
        closed = await asyncio.to_thread(close_connection, rabbitmq_node, f"orders/one {purpose}")
        assert closed == 1
        await watch.recovered(AFTER_RESET)
        await works(client, AFTER_RESET)


def spread(pauses: list[float], longest: float) -> bool:
    """Return whether pauses lie between half of the longest and that, and differ."""
    low, high = min(pauses), max(pauses)
    return longest / 2 <= low < 0.7 * longest and 0.8 * longest < high <= longest


def test_row_01_pauses_grow_and_are_jittered() -> None:
    """They double from a tenth of a second up to the cap; each is half of that at least."""
    for failures in (*range(20), 10_000):
        longest = min(FIRST_PAUSE * 2**failures, 5.0) if failures < 20 else 5.0
        assert spread([pause(failures, 5.0) for _ in range(200)], longest)


async def test_row_01_pauses_between_two_set_ups_grow_and_are_jittered(mesh: Transports) -> None:
    """On a connection that is up: they double from a quarter of a second, up to the cap."""
    client = await mesh.client(reconnect_cap=3.0)
    connection = connections_of(client)[0]
    for tries in range(10):
        pauses = []
        for _ in range(200):
            pauses.append(connection.pause(tries=tries, lived=0.0))
        assert connection.tries == min(tries + 1, 8)
        assert spread(pauses, min(SETUP_PAUSE * 2**connection.tries, 3.0))
    connection.pause(tries=8, lived=60.0)
    assert connection.tries == 0, "a session that worked for a while begins anew"


async def test_row_01_attempts_to_connect_use_the_pauses(
    mesh: Transports, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked for with the failures in a row, and waited for; a success begins anew."""
    asked: list[tuple[int, float]] = []

    def short(failures: int, cap: float) -> float:
        asked.append((failures, cap))
        return 0.001

    monkeypatch.setattr(connecting, "pause", short)
    client = await mesh.client(amqp_url=proxy.url, reconnect_cap=1.25)
    for _ in range(2):
        proxy.set(Wire.REFUSE)
        asked.clear()
        proxy.reset()
        # With pauses of its own aio-pika would make few attempts in this time.
        await eventually(lambda: len({failures for failures, _ in asked}) >= 30)
        assert {cap for _, cap in asked} == {1.25}
        failures = [failures for failures, _ in asked]
        assert failures == sorted(failures)
        assert failures[0] <= 1
        assert client.state is State.RECOVERING
        proxy.set(Wire.PASS)
        await client.wait_for(State.READY, timeout=AFTER_RESET)
