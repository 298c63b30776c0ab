"""Output of the verbs: text for people, JSON for programs.

What came from a peer is escaped: it can neither control the terminal nor be read as markup.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

from rich import box
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..printable import printable
from .streams import encodable

NOTHING: Final = "-"


class _Console(Console):
    """A console that tells of a reader who has gone away, as a file does; Rich's exits."""

    def on_broken_pipe(self) -> None:
        """Raise the error that was caught."""
        raise BrokenPipeError


class Output:
    """Standard output for the result, standard error for everything else."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        # Rich itself turns colours off: NO_COLOR, TERM=dumb, and what is no terminal.
        self.console = _Console(highlight=False, markup=False, emoji=False)
        self.notes = _Console(stderr=True, highlight=False, markup=False, emoji=False)

    def data(self, value: Any) -> None:
        """Print one JSON document on a line."""
        sys.stdout.write(json_text(value) + "\n")
        sys.stdout.flush()

    def document(self, value: Any) -> None:
        """Print one JSON document, for a file that people read, too."""
        sys.stdout.write(json_text(value, indent=2) + "\n")

    def flat(self, name: str, value: Any) -> None:
        """Print a name and a value on a line, however long."""
        line = Text.assemble((printable(name), "bold"), " ")
        text = value if isinstance(value, Text) else JSONHighlighter()(Text(json_text(value)))
        self.console.print(line + text, soft_wrap=True)

    def value(self, value: Any, *, indent: int | None = 2) -> None:
        """Print a value as JSON, for people."""
        text = JSONHighlighter()(Text(json_text(value, indent=indent)))
        self.console.print(text, soft_wrap=True)

    def line(self, text: object = "", style: str | None = None) -> None:
        """Print a line; an empty one without a text."""
        self.console.print(_text(text) if text else "", style=style, soft_wrap=True)

    def note(self, text: object, style: str | None = None) -> None:
        """Print a line to standard error."""
        self.notes.print(_text(text), style=style, soft_wrap=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        right: Sequence[str] = (),
        whole: Sequence[str] = (),
        styles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Print a table; columns named in `right` hold numbers, those in `whole` are not folded."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for name in columns:
            justify: Literal["left", "right"] = "right" if name in right else "left"
            table.add_column(
                name,
                justify=justify,
                overflow="fold",
                no_wrap=name in whole,
                style=styles.get(name),
            )
        for row in rows:
            table.add_row(*(_text(cell) for cell in row))
        self.console.print(table)

    def pairs(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print names and values, a line each."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in pairs:
            grid.add_row(name, _text(value))
        self.console.print(grid)

    def progress(self) -> Progress:
        """Return a progress bar on standard error, for a terminal that can move its cursor."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.notes,
            transient=True,
            disable=not self.notes.is_terminal or self.notes.is_dumb_terminal,
        )

    async def agreed(self, question: str) -> bool:
        """Ask on the terminal; True only for y or yes. May be cancelled, by Ctrl-C for example."""
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()
        number = sys.stdin.fileno()
        # Not in a thread: nothing could end one that waits for a line.
        loop.add_reader(number, answered.set)
        try:
            await answered.wait()
        except asyncio.CancelledError:
            sys.stderr.write("\n")
            raise
        finally:
            loop.remove_reader(number)
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def can_answer() -> bool:
    """Return whether there is a terminal on which somebody could answer a question."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON in which what could control a terminal is escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str, indent=indent)
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    if text.isprintable() and not plain:
        return text
    return "".join(char if _is_plain(char, plain) else _code(char) for char in text)


def _is_plain(char: str, ascii_only: bool) -> bool:
    return char == "\n" or (char.isprintable() and not (ascii_only and char > "\x7f"))


def _code(char: str) -> str:
    return json.dumps(char)[1:-1] if char > "\x7f" else f"\\u{ord(char):04x}"


def _text(value: object) -> Text:
    """Return a value as text without control characters; its line breaks stay."""
    if isinstance(value, Text):
        return value
    if value is None or value == "":
        return Text(NOTHING, style="dim")
    lines = str(value).split("\n")
    return Text("\n".join(encodable(printable(line)) for line in lines))
