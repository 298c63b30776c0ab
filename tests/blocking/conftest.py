"""Blocking meshes on both brokers; no test leaves a thread behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nuropb_rmq import blocking

from ..conformance.brokers import Place
from ..conformance.conftest import broker, place
from .support import Orders, Program, loop_threads, until

__all__ = ["broker", "place"]

StartProgram = Callable[..., Program]


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """No mesh runs any more after a test."""
    yield
    until(lambda: not loop_threads())


class Meshes:
    """A service, and as many more meshes as a test makes."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self._stack = stack

    def start(self, service: object | None = None, **options: Any) -> blocking.Mesh:
        """Start a mesh; it is stopped at the end of the test."""
        return self._stack.enter_context(blocking.Mesh(self.url, service=service, **options))


@pytest.fixture
def meshes(place: Place) -> Iterator[Meshes]:
    """Starts meshes on each of the two brokers."""
    with ExitStack() as stack:
        yield Meshes(place.url, stack)


@pytest.fixture
def in_memory(request: pytest.FixtureRequest) -> Iterator[Meshes]:
    """Starts meshes in memory, for what happens on this side of any broker."""
    with ExitStack() as stack:
        yield Meshes(f"memory://{request.node.name}", stack)


@pytest.fixture
def orders(in_memory: Meshes) -> Iterator[Orders]:
    """A service in memory, which serves by the mesh `orders.mesh`."""
    made = Orders()
    made.mesh = in_memory.start(made)
    yield made
    made.release.set()


@pytest.fixture
def start_program() -> Iterator[StartProgram]:
    """Starts programs, and ends those that have not ended."""
    started: list[Program] = []

    def start(module: str, *arguments: str) -> Program:
        started.append(Program(module, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()
