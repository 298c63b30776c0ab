"""Completion, by the shells themselves: installed as the page says, and asked with the Tab key."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from nuropb_rmq import __version__

from .command import environment
from .terminal import attached

PROMPT = "tell me> "
BELL, ERASE_LINE = "\a", "\x15"
RC = {"bash": ".bashrc", "zsh": ".zshrc"}
SHELLS = ["bash", *filter(shutil.which, ("zsh", "fish"))]


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has nothing but the command."""
    program = tmp_path / "bin" / "nuropb-rmq"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nuropb_rmq "$@"\n', "utf-8")
    program.chmod(0o755)
    path = f"{program.parent}:/usr/local/bin:/usr/bin:/bin"
    made = {**environment(), "HOME": str(tmp_path), "PATH": path, "LC_ALL": "C.UTF-8"}
    for name in ("XDG_CONFIG_HOME", "ZDOTDIR", "ENV", "BASH_ENV", "PROMPT_COMMAND"):
        made.pop(name, None)
    return made


async def said(variables: dict[str, str], *program: str) -> str:
    """Run a program; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *program,
        env=variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.parametrize("shell", SHELLS)
async def test_it_completes(shell: str, variables: dict[str, str]) -> None:
    installed = await said(variables, shell, "-c", "nuropb-rmq --install-completion; true")
    assert f"{shell} completion installed in" in installed
    if shell == "fish":  # it tells what it would offer
        for line, offered in (
            ("nuropb-rmq dlq re", "replay"),
            ("nuropb-rmq --vers", "--version"),
            ("nuropb-rmq dlq replay o --type com", "command"),
        ):
            told = await said(variables, shell, "-c", f"complete -C '{line}'")
            assert told.partition("\t")[0].strip() == offered
        return
    with (Path(variables["HOME"]) / RC[shell]).open("a", encoding="utf-8") as file:
        file.write(f"\nPS1='{PROMPT}'\n")
    async with attached(shell, "-i", variables=variables) as terminal:
        await terminal.shows(PROMPT)
        if shell == "zsh":  # its first Tab only loads the completion
            terminal.type("nuropb-rmq dlq\t")
            await terminal.shows(BELL)
            terminal.type(ERASE_LINE)
        # What it completes is run: without completion each of these is another error.
        for line, word, told in (
            ("nuropb-rmq --vers", "--version", f"nuropb-rmq {__version__}\n"),
            ("nuropb-rmq dlq repl", "replay", "See nuropb-rmq dlq replay --help"),
            ("nuropb-rmq dlq list o --url x --type resp", "response", "amqp_url: is not a URL"),
        ):
            begun = len(terminal.text)
            terminal.type(f"{line}\t")
            await terminal.shows(word, since=begun)
            terminal.type("\n")
            await terminal.shows(told, since=begun)
            await terminal.shows(PROMPT, since=begun)
        terminal.type("exit\n")
        await terminal.ended()
