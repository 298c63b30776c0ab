"""Scripts can be called from any folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(each.name for each in (ROOT / "scripts").iterdir() if each.is_file())


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_from_another_folder(name: str) -> None:
    """It says what the script does, and does nothing."""
    told = subprocess.run(
        [f"../scripts/{name}", "--help"],
        cwd=ROOT / "docs",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    comment = (ROOT / "scripts" / name).read_text().splitlines()[1].removeprefix("# ")
    assert told.stdout.startswith(comment)
