"""The watchdog: stacks of handlers that run for long, and of threads while the loop is blocked."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator

import pytest

from nuropb_rmq import publish_to_mesh
from nuropb_rmq.transport import stalls

from ..mesh.support import Meshes
from ..support import eventually

AFTER = 0.1
SECRET = "the pin is 1234"


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.in_thread = threading.Event()

    async def wait(self, pin: str = "") -> str:
        return await self._deeper(pin)

    async def _deeper(self, pin: str) -> str:
        await self.released.wait()
        return f"waited with {pin}"

    async def stream(self) -> list[int]:
        return [number async for number in self._numbers()]

    async def _numbers(self) -> AsyncIterator[int]:
        await self.released.wait()
        yield 1

    def block_a_thread(self) -> str:
        self.in_thread.wait(30)
        return "done"

    @publish_to_mesh(in_thread=False)
    def block_the_loop(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"


def shown(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of the watchdog."""
    return [each for each in caplog.records if "(watchdog)" in each.getMessage()]


async def test_a_handler_that_waits(meshes: Meshes, caplog: pytest.LogCaptureFixture) -> None:
    """The last line is the one that waits, in whatever the handler awaits; once for a message."""
    orders = Orders()
    mesh = await meshes.serve(orders, amqp_url=meshes.config("orders", watchdog=AFTER))
    client = await meshes.client()
    calls = [
        asyncio.create_task(client.request("orders", "wait", {"pin": SECRET})) for _ in range(2)
    ]
    await eventually(lambda: len(shown(caplog)) >= 2)
    await asyncio.sleep(2 * AFTER)
    records = shown(caplog)
    assert len(records) == 2
    for record in records:
        first, *stack = record.getMessage().splitlines()
        assert record.levelno == logging.ERROR
        assert first.endswith("has been handled for 0.1 s (watchdog), and is here:")
        assert stack[1].strip() == "return await self._deeper(pin)"
        assert "await self.released.wait()" in record.getMessage()
        assert stack[-2].strip().endswith("in wait")  # of asyncio.Event
        assert "nuropb_rmq" not in stack[0]
        assert vars(record)["nuropb_method"] == "wait"
        assert vars(record)["nuropb_instance_id"] == mesh.instance_id
        assert vars(record)["nuropb_seconds"] == AFTER
        assert SECRET not in str(vars(record))
    orders.released.set()
    assert await asyncio.gather(*calls) == [f"waited with {SECRET}"] * 2


async def test_a_handler_that_waits_in_a_generator(
    meshes: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    """Python does not tell what an asynchronous generator waits for: its caller's line is shown."""
    orders = Orders()
    await meshes.serve(orders, amqp_url=meshes.config("orders", watchdog=AFTER))
    client = await meshes.client()
    call = asyncio.create_task(client.request("orders", "stream"))
    await eventually(lambda: shown(caplog))
    assert "in self._numbers()" in shown(caplog)[0].getMessage()
    orders.released.set()
    assert await call == [1]


async def test_a_handler_in_a_thread(meshes: Meshes, caplog: pytest.LogCaptureFixture) -> None:
    orders = Orders()
    await meshes.serve(orders, amqp_url=meshes.config("orders", watchdog=AFTER))
    client = await meshes.client()
    call = asyncio.create_task(client.request("orders", "block_a_thread"))
    await eventually(lambda: shown(caplog))
    (record,) = shown(caplog)
    _, *stack = record.getMessage().splitlines()
    assert "in block_a_thread" in stack[0]
    assert stack[1].strip() == "self.in_thread.wait(30)"
    orders.in_thread.set()
    assert await call == "done"


async def test_a_loop_that_is_blocked(
    meshes: Meshes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads are shown, that of the loop first; once, and again for the next call."""
    monkeypatch.setattr(stalls, "BEAT", 0.02)
    release = threading.Event()
    other = threading.Thread(target=release.wait, name="the-other-one")
    other.start()
    await meshes.serve(Orders(), amqp_url=meshes.config("orders", watchdog=AFTER))
    client = await meshes.client()
    gc.disable()  # with all tests in the process, a collection may block the loop as long
    try:
        for count in (1, 2):
            params = {"seconds": 0.8}
            assert await client.request("orders", "block_the_loop", params) == "done"
            assert len(shown(caplog)) == count
    finally:
        gc.enable()
        release.set()
        other.join()
    text = shown(caplog)[0].getMessage()
    assert shown(caplog)[0].levelno == logging.ERROR
    first, *stack = text.splitlines()
    assert first.endswith("so far (watchdog); all threads:")
    assert stack[0] == f"thread {threading.current_thread().name}:"
    assert "time.sleep(seconds)" in text
    assert text.index("time.sleep(seconds)") < text.index("thread the-other-one:")
    assert "nuropb-stalls" not in text


async def test_it_is_off_by_default(meshes: Meshes, caplog: pytest.LogCaptureFixture) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    call = asyncio.create_task(client.request("orders", "wait"))
    await asyncio.sleep(3 * AFTER)
    orders.released.set()
    await call
    await client.request("orders", "block_the_loop", {"seconds": 3 * AFTER})
    assert shown(caplog) == []


async def test_health_tells_of_a_blocked_loop_for_a_while(
    meshes: Meshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "BEAT", 0.02)
    monkeypatch.setattr(stalls, "STALLED_FOR", 0.2)
    config = meshes.config("orders", watchdog=60)
    mesh = await meshes.serve(Orders(), amqp_url=config)
    client = await meshes.client()
    assert mesh.transport.reasons()["event_loop"] is None
    await client.request("orders", "block_the_loop", {"seconds": 0.8})
    reason = mesh.transport.reasons()["event_loop"]
    assert reason is not None
    assert reason.startswith("a call blocked the event loop for 0.")
    monkeypatch.setattr(stalls, "LATELY", 0.0)
    await eventually(lambda: mesh.transport.reasons()["event_loop"] is None)
