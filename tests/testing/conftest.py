"""A folder in which pytest is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import Pytest


@pytest.fixture
def suite(tmp_path: Path) -> Pytest:
    """Runs pytest in a folder of the test's own."""
    return Pytest(tmp_path)
