"""Append-only logs: one JSON object a line, each written with one system call.

What was written is in the hands of the kernel, so it survives a kill -9 of whoever wrote it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]
KINDS = ("sent", "confirmed", "reply", "effect", "state", "end")
"""The logs of a program; `name.kind.log` each."""


def now() -> float:
    """Seconds; the same clock in all processes of the machine (CLOCK_MONOTONIC)."""
    return time.monotonic()


class Journal:
    """The logs of one program, for writing."""

    def __init__(self, folder: Path, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._files = {kind: os.open(folder / f"{name}.{kind}.log", flags, 0o600) for kind in KINDS}

    def write(self, log: str, /, **facts: Any) -> None:
        """Append a line, with the time."""
        line = json.dumps({"at": now(), **facts}, separators=(",", ":"))
        os.write(self._files[log], line.encode() + b"\n")

    def close(self) -> None:
        """Nothing more is written."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


class Tail:
    """All logs of a folder, for reading: what has come to them since the last time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}

    def records(self) -> Iterator[tuple[str, str, Record]]:
        """(program, kind, record), each log in its own order, what was sent before all else.

        That log is read last: then there is no reply in the others whose call it does not have.
        """
        found = {kind: [*self._read_kind(kind)] for kind in reversed(KINDS)}
        for kind in KINDS:
            for name, record in found[kind]:
                yield name, kind, record

    def _read_kind(self, kind: str) -> Iterator[tuple[str, Record]]:
        for path in sorted(self._folder.glob(f"*.{kind}.log")):
            start = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._read[path] = start + whole
            for line in data[:whole].splitlines():
                yield path.name.split(".")[0], json.loads(line)
