"""Write what the command shows on a terminal as a picture for the docs.

    python -m tests.tools.screenshot docs/images/NAME.svg WIDTH ARGUMENT...

runs `nuropb-rmq ARGUMENT...` on a terminal of that width, with NUROPB_RMQ_URL.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from ..cli.terminal import on_terminal

_BEGUN_AGAIN: Final = re.compile(r"\x1b\[2K|\x1b\[H")
"""Starts of what replaces the text before: a progress bar erases, a live picture draws over."""
_FONTS: Final = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_LEFT: Final = "\x1b[?1049l"
"""The end of a terminal's other screen."""


def own_fonts(svg: str) -> str:
    """Return a picture of rich's that fetches no font: the reader's own monospace one serves."""
    return _FONTS.sub("", svg)


async def draw(name: str, width: int, arguments: list[str]) -> tuple[int, str]:
    """Run the command; return its exit status and the picture."""
    async with on_terminal(*arguments, url=os.environ["NUROPB_RMQ_URL"], width=width) as terminal:
        status = await terminal.ended()
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    console.print(f"$ nuropb-rmq {' '.join(arguments)}", markup=False)
    shown = _BEGUN_AGAIN.split(terminal.text.partition(_LEFT)[0])[-1]
    text = Text.from_ansi(shown)
    text.rstrip()
    console.print(text)
    drawn = console.export_svg(title="nuropb-rmq", theme=DIMMED_MONOKAI, unique_id=name)
    return status, own_fonts(drawn)


def main(path: Path, width: int, arguments: list[str]) -> int:
    """Write the picture; return the command's exit status."""
    status, drawn = asyncio.run(draw(path.stem, width, arguments))
    path.parent.mkdir(exist_ok=True)
    path.write_text(drawn, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
