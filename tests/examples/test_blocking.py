"""examples/blocking: programs without an event loop, with the orders service in another process."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from .programs import Program, Programs

SERVICE, FRONT, NOTEBOOK = (
    f"examples.{name}" for name in ("orders.service", "blocking.wsgi", "blocking.notebook")
)


async def address(front: Program) -> str:
    """Wait until the front listens; where."""
    await front.says("/\n")
    return front.out.strip()


async def test_the_front(mesh_url: str, programs: Programs) -> None:
    service = await programs.start(mesh_url, SERVICE).says("ready")
    front = programs.start(mesh_url, FRONT, "0")
    async with httpx.AsyncClient(base_url=await address(front), trust_env=False) as http:
        placed = await http.post("/orders", params={"item": "lamp", "count": 2})
        order = placed.json()
        assert (placed.status_code, order["item"]) == (201, "lamp")
        path = f"/orders/{order['order_id']}"
        answers = await asyncio.gather(*(http.get(f"{path}/total") for _ in range(20)))
        assert {(each.status_code, each.json()["total"]) for each in answers} == {(200, 59.8)}
        assert (await http.get("/orders/none")).status_code == 404
        assert (await http.post("/orders", params={"item": "yacht"})).status_code == 422
    front.terminate()
    assert await front.ended() == 0
    assert "Traceback" not in front.err
    service.terminate()
    assert await service.ended() == 0


async def test_the_notebook(mesh_url: str, programs: Programs) -> None:
    await programs.start(mesh_url, SERVICE).says("ready")
    notebook = programs.start(mesh_url, NOTEBOOK)
    assert (await notebook.ended(), notebook.err) == (0, "")
    assert notebook.out.splitlines()[1:] == [
        *("lamp 2 False", "chair 1 False", "148.80"),
        *("LookupError: there is no order none", "True"),
    ]


async def test_their_own_tests_pass(programs: Programs) -> None:
    """They are run as a reader would run them, without a broker."""
    url = "amqp://127.0.0.1:1/"
    run = programs.start(url, "pytest", "-p", "no:cacheprovider", "-q", "examples/blocking")
    assert await run.ended(within=60) == 0, run.out
    assert " passed" in run.out


@pytest.mark.parametrize("module", [FRONT, NOTEBOOK])
async def test_without_a_broker_they_say_so(programs: Programs, module: str) -> None:
    program = programs.start("amqp://guest:hunter2@127.0.0.1:1/", module, "0")
    assert await program.ended() == 1
    assert program.err.splitlines()[-1].removeprefix("nuropb_rmq.exceptions.") == (
        "BrokerUnreachableError: amqp://guest:***@127.0.0.1:1/%2F: connection refused: does the "
        "broker run there?"
    )
