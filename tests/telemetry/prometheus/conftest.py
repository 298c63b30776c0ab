"""Meshes on both brokers, a registry of the test's own, and Debian's promtool."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ...conformance.conftest import (
    broker,
    configured,
    meshes,
    place,
    pytest_collection_modifyitems,
)

__all__ = ["broker", "configured", "meshes", "place", "pytest_collection_modifyitems"]

SCRIPT = Path(__file__).parents[3] / "scripts" / "promtool"


@pytest.fixture
def registry() -> CollectorRegistry:
    """As prometheus_client's own one is, and empty."""
    return CollectorRegistry(auto_describe=True)


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The path of promtool; the server is beside it."""
    fetched = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(fetched.stderr.strip())
    return Path(fetched.stdout.splitlines()[-1])
