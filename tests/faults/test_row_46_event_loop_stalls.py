"""Row 46: the event loop is blocked: by a handler, at any of its steps, or by the program."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from nuropb_rmq import Message
from nuropb_rmq.transport import stalls

from ..compat.apis import Apis
from ..mesh.support import Meshes
from ..seams import kept_by
from ..support import Transports, command, eventually, request, result_of

LONG = 1.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stalls count from less than LONG on."""
    monkeypatch.setattr(stalls, "STALLED_FOR", 0.3)
    monkeypatch.setattr(stalls, "BEAT", 0.05)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of the transport."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "nuropb_rmq.transport" and each.levelno == logging.WARNING
    ]


def deep() -> None:
    """Block, further in."""
    time.sleep(LONG)


class Orders:
    _service_name = "orders"

    async def at_once(self) -> str:
        time.sleep(LONG)  # noqa: ASYNC251 - it is the fault
        return "done"

    async def later(self) -> str:
        await asyncio.sleep(0.01)
        deep()
        return "done"

    def synchronous(self) -> str:
        time.sleep(LONG)
        return "done"


async def test_row_46_the_method_that_blocks_is_named(
    meshes: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    """At its first step or at a later one; a synchronous method has a thread, and blocks nobody."""
    await meshes.serve(Orders())
    client = await meshes.client()
    for method in ("at_once", "later", "synchronous"):
        assert await client.request("orders", method, {}) == "done"
    assert len(warnings(caplog)) == 2, caplog.text
    first, second = warnings(caplog)
    assert "the event loop, and heartbeats with it, is blocked" in first
    assert f"in Orders.at_once ({__file__}, line " in first
    assert f"in Orders.later, by deep ({__file__}, line " in second


async def test_row_46_so_are_handlers_of_other_surfaces_and_what_is_no_handler(
    mesh: Transports, apis: Apis, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(message: Message) -> Any:
        time.sleep(LONG)  # noqa: ASYNC251 - it is the fault
        return message.payload["params"]

    await mesh.service(handle, "plain")
    await apis.connect(Orders())
    client, api = await mesh.client(), await apis.connect()
    assert result_of(await client.request(request(service="plain", n=1))) == {"n": 1}
    assert await api.request("orders", "synchronous", {}, context={}) == "done"
    deep()
    named = [each.partition(" so far, in ")[2].partition(" (")[0] for each in warnings(caplog)]
    here = "test_row_46_so_are_handlers_of_other_surfaces_and_what_is_no_handler"
    assert named == [f"{here}.<locals>.handle", "Orders.synchronous", f"{here}, by deep"]


async def test_row_46_many_that_are_quick_are_no_stall(
    mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    """They take as long together, in one turn of the loop."""
    done: list[float] = []

    async def handle(_: Message) -> None:
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass
        done.append(until)

    await mesh.service(handle, prefetch_count=100)
    client = await mesh.client()
    await asyncio.gather(*(client.post(command(n=n)) for n in range(50)))
    await eventually(lambda: len(done) == 50)
    assert warnings(caplog) == []


async def test_row_46_one_thread_watches_a_loop_and_ends_with_its_services(
    mesh: Transports,
) -> None:
    async def handle(_: Message) -> None:
        """Do nothing."""

    def threads() -> int:
        return sum(each.name == "nuropb-stalls" for each in threading.enumerate())

    before = threads()
    services = [await mesh.service(handle, name) for name in ("one", "two")]
    assert threads() == before + 1
    for service in services:
        await service.stop()
    for _ in range(3):  # before the thread of the last time has ended
        await services[0].start()
        assert list(kept_by(stalls)) == [asyncio.get_running_loop()]
        await services[0].stop()
    assert kept_by(stalls) == {}
    await eventually(lambda: threads() == before)
