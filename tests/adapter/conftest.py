"""Fixtures for the drop-in: programs as they were written for nuropb's RMQTransport."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ..support import Mesh
from .programs import Programs


@pytest.fixture
async def programs(mesh: Mesh) -> AsyncIterator[Programs]:
    """Starts programs on one virtual host, and stops them all at the end."""
    made = Programs(mesh.url)
    yield made
    await made.stop()
