"""The fixture behind `memory_mesh` in tests that anyio's pytest plugin runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .memory import MemoryBroker, MemoryMesh


@pytest.fixture
async def _memory_mesh_anyio(mesh_broker: MemoryBroker) -> AsyncIterator[MemoryMesh]:
    made = MemoryMesh(mesh_broker.url)
    yield made
    await made.stop()
