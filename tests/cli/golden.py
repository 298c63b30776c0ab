"""Output of the command that is kept as text, 80 columns wide.

NUROPB_RMQ_WRITE_GOLDEN=1 writes the files anew; look at what changes.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "cli"


def compare(name: str, text: str) -> None:
    """Compare an output, without what trails its lines, with the file of this name."""
    shown = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    path = FOLDER / f"{name}.txt"
    if os.environ.get("NUROPB_RMQ_WRITE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")
