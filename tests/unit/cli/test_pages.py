"""Every line of the pages that begins with the command has verbs and options that there are."""

from __future__ import annotations

import re
import shlex

import pytest

from nuropb_rmq.cli import main

from ...pages.support import PAGES, blocks

BEHIND = re.compile(r"\s+(?:>|\||&&|&|#|;)(?:\s|$)")
"""Begins, in a shell, what is no argument of the command."""
INSTALLS = "nuropb-rmq --install-completion"  # before it looks at --help: tests/cli/ has it
LINES = [
    BEHIND.split(line.removeprefix("$ "))[0]
    for page in PAGES
    for block in blocks(page.read_text(encoding="utf-8"))
    if block.language in {"", "sh", "console"}
    for line in block.text.replace("\\\n", " ").splitlines()
    if line.removeprefix("$ ").startswith("nuropb-rmq ") and line != INSTALLS
]


def test_there_are_some() -> None:
    assert len(LINES) > 8


@pytest.mark.parametrize("line", dict.fromkeys(LINES))
def test_a_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong line is an error, also before --help."""
    status = main([*shlex.split(line)[1:], "--help"])
    assert (status, capsys.readouterr().err) == (0, "")


def test_a_wrong_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", "replay", "orders", "--no-such-option", "--help"]) == 2
    assert "No such option" in capsys.readouterr().err
