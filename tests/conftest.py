"""Fixtures for all tests. Every async test is followed by a search for what it left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.logging import LogCaptureHandler

from nuropb_rmq import TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode
from nuropb_rmq.transport.ignorable import Ignorable

from .support import Transports, eventually

TESTS = Path(__file__).parent
NODES = frozenset({"rabbitmq_node", "mesh_url", "mortal_node", "cluster"})
"""The fixtures that start a node."""

ONCE = (
    "asgi", "blocking", "examples", "pages", "telemetry", "cli/test_calls", "cli/test_describe",
    "cli/test_health", "cli/test_help", "cli/test_listen", "cli/test_page", "cli/test_readme",
    "cli/test_serve", "cli/test_stubs", "compat/test_message_complete", "compat/test_overrides",
    "compat/test_receiving", "compat/test_rmq_transport_encryptors",
    "compat/test_rmq_transport_messages", "interop/test_command", "interop/test_decorated",
    "interop/test_encrypted", "interop/test_mesh", "interop/test_programs", "interop/test_rmqapi",
    "interop/test_times", "mesh", "tools/fuzz",
)  # fmt: skip
"""Tests of layers that see nothing of the broker's version, and of bodies that it passes on."""

EAGER = os.environ.get("NUROPB_RMQ_EAGER") == "1"
"""Every async test runs with tasks that begin at once (Python 3.12 or later)."""


def _sockets_and_files() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found


class _Futures:
    """Every future that a loop makes, and every Ignorable, from now on, while somebody holds it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch) -> None:
        self._made: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
        self._create = loop.create_future
        loop.create_future = self._tracked  # type: ignore[method-assign]

        def begin(future: Ignorable[Any], *, loop: asyncio.AbstractEventLoop) -> None:
            asyncio.Future.__init__(future, loop=loop)
            self._made.add(future)

        patch.setattr(Ignorable, "__init__", begin)

    def _tracked(self) -> asyncio.Future[Any]:
        future = self._create()
        self._made.add(future)
        return future

    def pending(self) -> list[asyncio.Future[Any]]:
        """Those that nobody has finished, though they are held."""
        for generation in range(3):  # the last holds all of the tests: 130 ms
            if all(each.done() for each in self._made):
                break
            gc.collect(generation)
        return [each for each in self._made if not each.done()]


def _forget_log_records(caplog: pytest.LogCaptureFixture) -> None:
    """pytest keeps log records, they hold exceptions, and those hold frames and all in them."""
    for phase in ("setup", "call", "teardown"):
        caplog.get_records(phase).clear()
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogCaptureHandler):
            handler.records.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every async test is followed by a search for what it left behind."""
    for item in items:
        if NODES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("broker")
            if item.path.relative_to(TESTS).as_posix().startswith(ONCE):
                item.add_marker("once")
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "nothing_left_behind")


@pytest.fixture
async def nothing_left_behind(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    """After the test: no task, socket, file descriptor or pending future that was not there before.

    What asyncio would only log ("exception was never retrieved") fails the test as well.
    """
    for node in NODES.intersection(request.fixturenames):
        request.getfixturevalue(node)  # a node that is started for one test stays for others
    loop = asyncio.get_running_loop()
    if EAGER:
        loop.set_task_factory(vars(asyncio)["eager_task_factory"])  # none on 3.11
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
    files = _sockets_and_files()
    tasks = asyncio.all_tasks()
    with pytest.MonkeyPatch.context() as patch:
        futures = _Futures(loop, patch)
        yield
    mine = asyncio.current_task()

    def left() -> list[object]:
        _forget_log_records(caplog)
        return [
            *(each for each in asyncio.all_tasks() - tasks if each is not mine),
            *(f"{fd}: {name}" for fd, name in _sockets_and_files().items() if fd not in files),
            *futures.pending(),
        ]

    await eventually(lambda: not left(), describe=lambda: f"left behind: {left()}")
    assert not complaints, complaints


@pytest.fixture(scope="session")
def mortal_node() -> Iterator[RabbitMQNode]:
    """A node that tests may kill; they leave it running."""
    with RabbitMQNode() as node:
        yield node


@pytest.fixture
async def mesh(mesh_url: str) -> AsyncIterator[Transports]:
    """A configured virtual host, in which services and clients can be started."""
    await configure(TransportConfig(amqp_url=mesh_url, service_name="orders"))
    made = Transports(mesh_url)
    yield made
    await made.stop()
