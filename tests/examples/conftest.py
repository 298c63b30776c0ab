"""Programs are ended after each test, by their process ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .programs import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Starts programs."""
    made = Programs(tmp_path)
    yield made
    made.close()
