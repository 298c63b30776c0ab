"""Row 65: used from another event loop, another thread or a forked child.

A typed error, at once, before anything is sent; what runs where it was started goes on. After its
loop was closed it can be started anew.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from nuropb_rmq import (
    RMQAPI,
    Mesh,
    NuropbTransportError,
    RMQTransport,
    State,
    Transport,
    TransportClosedError,
    TransportConfig,
    configure,
)

from ..support import Recorder, command, eventually, request, result_of

pytestmark = pytest.mark.broker

AT_ONCE = 5.0
"""Seconds."""
ELSEWHERE = "called outside the event loop that start() ran in"
Made = Transport | Mesh | RMQTransport | RMQAPI
Call = Callable[[], Awaitable[Any]]


class Orders:
    """A service."""

    _service_name = "orders"

    async def echo(self, n: int) -> int:
        """Give it back."""
        return n


@pytest.fixture
def made(request: pytest.FixtureRequest, mesh_url: str) -> Made:
    """One of the four, serving `orders` where it can."""
    asyncio.run(configure(TransportConfig(amqp_url=mesh_url, service_name="orders")))
    match request.param:
        case "Transport":
            return Transport(TransportConfig(amqp_url=mesh_url, service_name="orders"), Recorder())
        case "Mesh":
            return Mesh(mesh_url, service=Orders())
        case "RMQTransport":
            return RMQTransport("orders", "i-1", mesh_url, lambda *_: None)
    return RMQAPI(mesh_url, "orders", "i-1", Orders())


each_kind = pytest.mark.parametrize(
    "made", ["Transport", "Mesh", "RMQTransport", "RMQAPI"], indirect=True
)


def start(made: Made) -> Awaitable[None]:
    return made.connect() if isinstance(made, RMQAPI) else made.start()


def stop(made: Made) -> Awaitable[None]:
    return made.disconnect() if isinstance(made, RMQAPI) else made.stop()


def core(made: Made) -> Transport:
    """The Transport below."""
    match made:
        case Mesh():
            return made.transport
        case RMQTransport():
            return made.core
        case RMQAPI():
            return made.transport.core
    return made


def calls(made: Made) -> dict[str, Call]:
    """Return the calls that can be made while it is up, by name."""
    transport = core(made)
    found: dict[str, Call] = {"start": lambda: start(made), "stop": lambda: stop(made)}
    match made:
        case Mesh():
            found["request"] = lambda: made.request("orders", "echo", {"n": 1})
            found["request elsewhere"] = lambda: made.request("others", "echo", {"n": 1})
            found["command"] = lambda: made.command("orders", "echo", {"n": 1})
            found["describe"] = lambda: made.describe_service("others")
            found["wait_for"] = lambda: made.wait_for(State.BLOCKED)
        case RMQAPI():
            found["request"] = lambda: made.request("orders", "echo", {"n": 1}, {})
            found["request elsewhere"] = lambda: made.request("others", "echo", {"n": 1}, {})
            found["stop_consuming"] = made.transport.stop_consuming
        case RMQTransport():
            found["send_message"] = lambda: made.send_message(command())
            found["stop_consuming"] = made.stop_consuming
            found["disconnect"] = made.disconnect
        case Transport():
            found["post"] = lambda: made.post(command())
            found["send"] = lambda: made.send(command())
            found["request"] = lambda: made.request(request())
            found["wait_for"] = lambda: made.wait_for(State.BLOCKED)
            found["stop_consuming"] = made.stop_consuming
    assert transport
    return found


async def refusals(made: Made) -> dict[str, str]:
    """Return the error's text of each call; each is refused with a typed error, at once."""
    said = {}
    for name, call in calls(made).items():
        with pytest.raises(NuropbTransportError) as caught:
            async with asyncio.timeout(AT_ONCE):
                await call()
        said[name] = str(caught.value)
    return said


async def works(made: Made) -> None:
    """A call gets through."""
    match made:
        case Mesh():
            assert await made.request("orders", "echo", {"n": 1}, timeout=5) == 1
        case RMQAPI():
            assert await made.request("orders", "echo", {"n": 1}, {}, 5_000) == 1
        case RMQTransport():
            await made.send_message({"tag": "event", "topic": "a.b", "event": 1, "target": None})
        case Transport():
            assert result_of(await made.request(request(n=1), timeout=5)) == {"n": 1}


def sockets() -> int:
    """Connections that this process holds."""
    held = set()
    for each in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            held.add(os.readlink(f"/proc/self/fd/{each}"))
    rows = [each.split() for each in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "01" and f"socket:[{row[9]}]" in held for row in rows)


@pytest.fixture
def loops() -> Iterator[list[asyncio.AbstractEventLoop]]:
    """Two loops."""
    made = [asyncio.new_event_loop() for _ in range(2)]
    yield made
    for each in made:
        if not each.is_closed():
            each.close()


@each_kind
def test_row_65_another_loop(made: Made, loops: list[asyncio.AbstractEventLoop]) -> None:
    """As with a fixture of a wider scope than the test: its loop is there, and does not run."""
    first, second = loops
    first.run_until_complete(start(made))
    said = second.run_until_complete(refusals(made))
    assert all(ELSEWHERE in each for name, each in said.items() if name != "start"), said
    assert "already" in said["start"] or ELSEWHERE in said["start"]
    assert core(made).state is State.READY
    first.run_until_complete(works(made))
    first.run_until_complete(stop(made))
    assert core(made).state is State.STOPPED


@each_kind
def test_row_65_another_thread(made: Made) -> None:
    """stop() in a thread has an event loop of its own."""
    said: dict[str, str] = {}

    async def run() -> None:
        await start(made)
        thread = threading.Thread(target=lambda: said.update(asyncio.run(refusals(made))))
        thread.start()
        await eventually(lambda: not thread.is_alive(), within=60)
        assert core(made).state is State.READY
        await works(made)
        await stop(made)

    asyncio.run(run())
    assert len(said) == len(calls(made))
    assert all(ELSEWHERE in each for name, each in said.items() if name != "start"), said


@each_kind
def test_row_65_run_twice(made: Made) -> None:
    """asyncio.run() for each step: the second gets an error, and may start it anew."""
    before = sockets()
    asyncio.run(cast(Any, start(made)))
    assert core(made).state is State.STOPPED
    assert sockets() == before

    async def again() -> None:
        sent = {name: call for name, call in calls(made).items() if name not in ("start", "stop")}
        for name, call in sent.items():
            if name in ("stop_consuming", "disconnect"):
                continue
            with pytest.raises(TransportClosedError, match=r"loop .* was closed before stop\(\)"):
                async with asyncio.timeout(AT_ONCE):
                    await call()
        async with asyncio.timeout(AT_ONCE):
            await start(made)
            await works(made)
            await stop(made)

    asyncio.run(again())
    asyncio.run(cast(Any, stop(made)))  # once more is harmless


@each_kind
def test_row_65_its_loop_was_closed(
    made: Made, loops: list[asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without asyncio.run(), which cancels what is left: its sockets are closed all the same."""
    before = sockets()
    first, second = loops
    # What asyncio says of coroutines and sockets that are left so is the program's own fault.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        first.run_until_complete(start(made))
        first.close()
        second.run_until_complete(stop(made))
        assert sockets() == before
        second.run_until_complete(start(made))
        second.run_until_complete(works(made))
        second.run_until_complete(stop(made))
        assert sockets() == before
        gc.collect()


CHILD = Path(__file__).with_name("forking.py")


@pytest.mark.parametrize(
    ("end", "loop"),
    # uvloop itself crashes in a child that goes on in the loop of its parent.
    [("exit", "asyncio"), ("loop", "asyncio"), ("_exit", "asyncio"), ("_exit", "uvloop")],
)
def test_row_65_a_forked_child(mesh_url: str, end: str, loop: str) -> None:
    """It gets an error, may start its own, and says nothing for its parent, however it ends."""
    asyncio.run(configure(TransportConfig(amqp_url=mesh_url, service_name="orders")))
    ran = subprocess.run(
        [sys.executable, str(CHILD), mesh_url, end, loop],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.split("\n") == ["child: done", "parent: done", ""], ran.stdout + ran.stderr
