"""Meshes on a virtual host of the test's own; it is not configured: that is for a Mesh to do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .support import Meshes


@pytest.fixture
async def meshes(mesh_url: str) -> AsyncIterator[Meshes]:
    """Starts meshes, and stops them all at the end."""
    made = Meshes(mesh_url)
    yield made
    await made.stop()
