"""Run a page of the documentation as its reader would: write its files, type its commands.

A block whose first line is `# NAME` is a file. A block of `console` has commands behind `$ `, each
followed by what it prints; "…" stands for anything. Blocks of `sh` are for the reader alone.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
URL: Final = "amqp://guest:guest@localhost/"
PORT: Final = "localhost:8000"
WITHIN: Final = 60.0
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE: Final = re.compile(r"# ([\w./-]+\.\w+)\n")
_SECONDS: Final = re.compile(r"\bin \d+\.\d+s\b")
_STARTED: Final = {"serve": "serving", "uvicorn": "Application startup complete"}
"""Programs that go on, and what they print when they are ready."""

_CURL: Final = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen("http://" + sys.argv[1])
except urllib.error.HTTPError as error:
    answer = error
print(answer.read().decode())
"""


@dataclass
class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    folder: Path
    url: str
    port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def read(self, page: str) -> int:
        """Follow a page from top to bottom; return the number of commands."""
        commands = 0
        for language, text in _BLOCK.findall(page):
            named = _FILE.match(text)
            if named:
                path = self.folder / named[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._here(text), encoding="utf-8")
            elif language == "console":
                for command, printed in commands_of(text):
                    self._type(command, printed)
                    commands += 1
        return commands

    def stop(self) -> None:
        """End what goes on."""
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(WITHIN)

    def _here(self, text: str) -> str:
        return text.replace(URL, self.url).replace(PORT, f"localhost:{self.port}")

    def _type(self, command: str, printed: str) -> None:
        words = shlex.split(self._here(command))
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environment[name] = value
            return
        arguments = self._arguments(words)
        ready = next((said for word, said in _STARTED.items() if word in words[:2]), None)
        if ready is not None:
            self._start(arguments, ready)
            return
        ran = subprocess.run(
            arguments,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        assert is_as_shown(ran.stdout, printed), f"$ {command}\n{ran.stdout}\nand not\n{printed}"

    def _arguments(self, words: list[str]) -> list[str]:
        program, *rest = words
        if program == "python":
            return [sys.executable, *rest]
        if program == "uvicorn":
            rest += ["--port", str(self.port)]
        if program == "curl":
            return [sys.executable, "-c", _CURL, *rest]
        return [sys.executable, "-m", program.replace("nuropb-rmq", "nuropb_rmq"), *rest]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "NUROPB" not in name}
        own = {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "80", "PYTHONUNBUFFERED": "1"}
        return kept | own | self.environment

    def _start(self, arguments: list[str], ready: str) -> None:
        log = self.folder / f"{len(self.running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                arguments,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.running.append(process)
        deadline = time.monotonic() + WITHIN
        while ready not in log.read_text(encoding="utf-8"):
            said = log.read_text(encoding="utf-8")
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)


@contextmanager
def reader(folder: Path, url: str) -> Iterator[Reader]:
    """Return a reader; what they start is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = Reader(folder, url, port)
    try:
        yield one
    finally:
        one.stop()


def commands_of(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and what it prints."""
    for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = entry.partition("\n")
        yield command, printed


def is_as_shown(printed: str, shown: str) -> bool:
    """Return whether the output of a program is the page's."""
    pattern = re.escape(_SECONDS.sub("in …s", shown).strip()).replace("…", ".*")
    return re.fullmatch(pattern, _SECONDS.sub("in …s", printed).strip(), re.DOTALL) is not None


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the blocks of a page: language and text."""
    return _BLOCK.findall(page)
