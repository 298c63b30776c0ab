"""The fixtures behind `memory_mesh` in tests that pytest-asyncio runs: one for each event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest_asyncio

from .memory import MemoryBroker, MemoryMesh

Scope = Literal["function", "class", "module", "package", "session"]


def _fixture(scope: Scope) -> Any:
    """Return a fixture for tests in the event loop of a scope; it is made anew for each test."""

    async def started(mesh_broker: MemoryBroker) -> AsyncIterator[MemoryMesh]:
        made = MemoryMesh(mesh_broker.url)
        yield made
        await made.stop()

    return pytest_asyncio.fixture(started, loop_scope=scope, name=f"_memory_mesh_{scope}")


in_loop_of_function: Any = _fixture("function")
in_loop_of_class: Any = _fixture("class")
in_loop_of_module: Any = _fixture("module")
in_loop_of_package: Any = _fixture("package")
in_loop_of_session: Any = _fixture("session")
