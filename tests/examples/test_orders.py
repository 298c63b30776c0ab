"""examples/orders: service, client and subscriber, each in a process of its own."""

from __future__ import annotations

import asyncio
import re

import pytest

from nuropb_rmq import Mesh

from .programs import Programs

SERVICE, SUBSCRIBER, CLIENT = (
    f"examples.orders.{name}" for name in ("service", "subscriber", "client")
)


async def test_the_three_of_them(mesh_url: str, programs: Programs) -> None:
    service = programs.start(mesh_url, SERVICE)
    subscriber = programs.start(mesh_url, SUBSCRIBER)
    await service.says("ready")
    await subscriber.says("ready")
    client = programs.start(mesh_url, CLIENT)
    assert (await client.ended(), client.err) == (0, "")
    placed, total, wrong, failed, cancelled, nobody = client.out.splitlines()
    order_id = placed.removeprefix("placed ")
    assert re.fullmatch("[0-9a-f]{8}", order_id)
    assert total == "59.80, packed: True"
    assert wrong.endswith("params.count: expected an integer, got a string")
    assert failed == "it has failed: LookupError: there is no order none"
    assert cancelled == "will be cancelled"
    assert nobody.startswith("nobody does it: ")
    for topic in ("placed", "cancelled", "asked"):
        await subscriber.says(f"orders.{topic} {order_id}")
    for each in (service, subscriber):
        each.terminate()
        assert await each.ended() == 0
    assert "Traceback" not in subscriber.err
    assert service.err.count("Traceback") == 1
    assert "failed with LookupError" in service.err  # that of the order which is not there


async def test_their_own_tests_pass(programs: Programs) -> None:
    """They are run as a reader would run them, without a broker."""
    url = "amqp://127.0.0.1:1/"
    run = programs.start(url, "pytest", "-p", "no:cacheprovider", "-q", "examples/orders")
    assert await run.ended(within=60) == 0, run.out
    assert " passed" in run.out


async def test_the_service_finishes_what_it_has_begun(mesh_url: str, programs: Programs) -> None:
    service = await programs.start(mesh_url, SERVICE).says("ready")
    async with Mesh(mesh_url) as mesh:
        order = await mesh.request("orders", "place", {"item": "chair", "count": 1}, timeout=5)
        pack = {"order_id": order["order_id"], "seconds": 1.5}
        calls = [
            asyncio.create_task(mesh.request("orders", "pack", pack, timeout=10)) for _ in range(20)
        ]
        await service.says("packing", 20)
        service.terminate()
        answers = await asyncio.gather(*calls)
    assert [each["packed"] for each in answers] == [True] * 20
    assert (await service.ended(), service.err) == (0, "")


@pytest.mark.parametrize("module", [SERVICE, SUBSCRIBER, CLIENT])
async def test_without_a_broker_they_say_so_in_one_line(programs: Programs, module: str) -> None:
    program = programs.start("amqp://guest:hunter2@127.0.0.1:1/", module)
    assert await program.ended() == 1
    (line,) = program.err.splitlines()
    assert line == (
        "BrokerUnreachableError: amqp://guest:***@127.0.0.1:1/%2F: connection refused: does the "
        "broker run there?"
    )
