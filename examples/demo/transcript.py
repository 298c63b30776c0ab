"""Print the demo for the person in front of it, and count the checks that held."""

from __future__ import annotations

import os
import shutil
import textwrap
from typing import TextIO

__all__ = ["Transcript", "duration"]

NARROW, USUAL, WIDE = 72, 92, 100  # columns
LABEL = 12
TIME = 9
INDENT = "    "
BOLD, DIM, RED, GREEN = "1", "2", "1;31", "32"


class Transcript:
    """Plain aligned lines; colours on a terminal only, and not with NO_COLOR (no-color.org)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colours = (
            out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )
        columns = shutil.get_terminal_size((USUAL, 24)).columns
        self._width = max(NARROW, min(columns, WIDE))
        self._steps = 0
        self._title = ""
        self.checks = 0
        self.failures: list[str] = []

    def say(self, text: str = "") -> None:
        """A line as it is."""
        print(text, file=self._out, flush=True)

    def step(self, title: str) -> None:
        """A new step, with its number."""
        self._steps += 1
        self._title = title
        self.say()
        self.say(self._in(BOLD, f"{self._steps:2}. {title} ".ljust(self._width, "-")))

    def line(self, label: str, text: object, seconds: float | None = None) -> None:
        """Show a question, an answer or an event, and how long it took."""
        self._labelled(label, str(text), DIM, "" if seconds is None else duration(seconds))

    def check(self, claim: str, held: bool, *, expected: object, got: object) -> None:
        """One thing that must hold; what was expected is shown when it does not."""
        self.checks += 1
        if held:
            self._labelled("ok", claim, GREEN)
            return
        self.failures.append(f"{self._title}: {claim}")
        self._labelled("FAILED", claim, RED)
        self._labelled("", f"expected  {expected}", RED)
        self._labelled("", f"got       {got}", RED)

    def broken(self, why: str) -> None:
        """The story ends here."""
        self.failures.append(f"{self._title}: {why}")
        self._labelled("FAILED", why, RED)

    def same(self, claim: str, expected: object, got: object) -> None:
        """check(), for what must be equal."""
        self.check(claim, expected == got, expected=expected, got=got)

    def _labelled(self, label: str, text: str, colour: str, time: str = "") -> None:
        room = self._width - len(INDENT) - LABEL - TIME
        first, *others = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        painted = self._in(colour, label.ljust(LABEL))
        if time:
            first = first.ljust(room) + self._in(DIM, time.rjust(TIME))
        self.say(f"{INDENT}{painted}{first}".rstrip())
        for other in others:
            self.say(f"{INDENT}{' ' * LABEL}{other}")

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and text.strip() else text


def duration(seconds: float) -> str:
    """Three digits or so, with their unit."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s"
