"""Row 2: the broker is restarted, or killed with -9, with messages queued. None is lost."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import NuropbException, State
from nuropb_rmq.testing import RabbitMQNode

from ..support import Recorder, Transports, command, event, eventually
from .console import metadata_is_written


async def restart(node: RabbitMQNode, how: str) -> None:
    """End the node one way or the other, and start it again."""
    await asyncio.to_thread(metadata_is_written, node)
    await asyncio.to_thread(node.kill if how == "kill" else node.shutdown)
    await asyncio.to_thread(node.start)


@pytest.mark.parametrize("how", ["kill", "shutdown"])
async def test_row_02_what_waits_for_a_service_is_still_there(
    mortal_node: RabbitMQNode, mortal_mesh: Transports, how: str
) -> None:
    recorder = Recorder()
    service = await mortal_mesh.service(recorder, event_bindings=["orders.#"])
    await service.stop()
    client = await mortal_mesh.client()
    sends = [client.send(command(n=n)) for n in range(200)]
    sends += [client.send(event("orders.created", {"n": n})) for n in range(200, 400)]
    await asyncio.gather(*sends)
    await restart(mortal_node, how)
    await service.start()
    await eventually(lambda: len(recorder.seen) >= 400)
    assert sorted(number(each.payload) for each in recorder.seen) == list(range(400))


async def test_row_02_what_is_confirmed_while_the_broker_goes_is_handled(
    mortal_node: RabbitMQNode, mortal_mesh: Transports
) -> None:
    """Sending never pauses: some of it is confirmed, some refused, some of unknown outcome."""
    recorder = Recorder()
    service = await mortal_mesh.service(recorder, prefetch_count=10)
    client = await mortal_mesh.client()
    outcomes: dict[int, NuropbException | None] = {}
    finished = asyncio.Event()

    async def send_on(first: int) -> None:
        n = first
        while not finished.is_set():
            try:
                await client.send(command(n=n), timeout=20)
            except NuropbException as e:
                outcomes[n] = e
            else:
                outcomes[n] = None
            n += 1

    sending = [asyncio.create_task(send_on(first)) for first in range(0, 500_000, 100_000)]
    await eventually(lambda: len(outcomes) > 200)
    await restart(mortal_node, "kill")
    for transport in (service, client):
        await transport.wait_for(State.READY, timeout=20)
    before = len(outcomes)
    await eventually(lambda: len(outcomes) > before + 200)
    finished.set()
    await asyncio.gather(*sending)
    confirmed = {n for n, error in outcomes.items() if error is None}
    await eventually(
        lambda: confirmed <= {number(each.payload) for each in recorder.seen},
        describe=lambda: f"lost: {confirmed - {number(each.payload) for each in recorder.seen}}",
    )


def number(payload: dict[str, object]) -> int:
    """Return the number that a message was sent with."""
    body = payload.get("params") or payload["event"]
    assert isinstance(body, dict)
    n = body["n"]
    assert isinstance(n, int)
    return n
