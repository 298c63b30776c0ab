"""Instrumented meshes on both brokers, and what they record."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from ..conformance.brokers import Place
from ..conformance.conftest import broker, place, pytest_collection_modifyitems
from .support import Recorded, Traced

__all__ = ["broker", "place", "pytest_collection_modifyitems"]


@pytest.fixture
def recorded() -> Recorded:
    """Spans and metrics, in memory."""
    return Recorded()


@pytest.fixture
async def meshes(place: Place, recorded: Recorded) -> AsyncIterator[Traced]:
    """Starts meshes on each of the two brokers, and stops them all at the end."""
    made = Traced(place.url, recorded)
    yield made
    await made.stop()


@pytest.fixture
async def in_memory(recorded: Recorded) -> AsyncIterator[Traced]:
    """Starts meshes in memory, for what happens on this side of any broker."""
    made = Traced(f"memory://telemetry-{secrets.token_hex(6)}", recorded)
    yield made
    await made.stop()
