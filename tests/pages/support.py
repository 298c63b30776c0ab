"""A page of docs/, its files, and the commands that it shows with their output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
WITHIN = 60.0  # seconds, for a command

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+|Dockerfile)\n")
_VARIES = re.compile(r"\b[0-9a-f]{8,}\b|\d{4}-\d\d-\d\d[T ][\d:.]+Z?|\b\d+\.\d+s\b|\b\d+ s(?= ago)")


@dataclass(frozen=True)
class Block:
    """A code block."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name in its first line, if it is a file."""
        found = _FILE.match(self.text)
        return None if found is None else found[1]


def page(name: str) -> str:
    """Return the text of a page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """Return the code blocks of a page."""
    return [Block(*found) for found in _BLOCK.findall(text)]


def files(text: str) -> dict[str, str]:
    """Return the files of a page by their names; a later one of the same name replaces it."""
    return {each.file: each.text for each in blocks(text) if each.file is not None}


def write(folder: Path, text: str) -> None:
    """Write the files of a page."""
    for name, source in files(text).items():
        (folder / name).write_text(source, encoding="utf-8")


def environment(url: str = "", **more: str) -> dict[str, str]:
    """Return the environment of somebody who has activated this checkout's environment."""
    made = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    made["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    made |= {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    made.pop("PYTEST_ADDOPTS", None)
    return {**made, "NUROPB_RMQ_URL": url, **more}


def typed(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and the output that the page has for it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def shell(command: str, folder: Path, env: Mapping[str, str]) -> str:
    """Return all that a command prints; its exit status does not matter."""
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    return ran.stdout


def plain(output: str) -> str:
    """Return an output without what differs from run to run: ids, times, spaces."""
    lines = _VARIES.sub("~", output.replace("127.0.0.1", "localhost")).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


def is_as_shown(printed: str, shown: str) -> bool:
    """Return whether this is the output that a page shows; its "…" stands for anything."""
    pattern = re.escape(plain(shown)).replace("…", ".*")
    return re.fullmatch(pattern, plain(printed), re.DOTALL) is not None


def type_in(command: str, shown: str, folder: Path, env: Mapping[str, str]) -> None:
    """Type a command; it has to print what the page shows."""
    printed = shell(command, folder, env)
    assert is_as_shown(printed, shown), f"$ {command}\n{printed}\nand not\n{shown}"


def follow(text: str, folder: Path, env: Mapping[str, str]) -> None:
    """Go through the blocks of a page: write its files, type the commands of its console blocks."""
    for block in blocks(text):
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, output in typed(block):
                type_in(command, output, folder, env)
