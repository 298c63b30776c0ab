"""A temporary copy of the checkout, in which code may be broken and tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .listed import ROOT

PASSED: Final = 0
FAILED: Final = 1
"""Exit statuses of pytest; others say that it could not run the tests."""


class Checkout:
    """The copy: its folder stands before everything else on sys.path, also of other processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._as_it_is = True

    @contextmanager
    def broken(self, file: str, source: str) -> Iterator[None]:
        """Give a file another content, for a while."""
        path = self.folder / file
        before, times = path.read_bytes(), path.stat()
        path.write_text(source)
        self._as_it_is = False
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # what is compiled fits again
            self._as_it_is = True

    def test(self, tests: Sequence[str], *options: str, seconds: float) -> tuple[int, str]:
        """Run tests, up to the first that fails: pytest's exit status, and what it printed.

        A run that takes longer than so many seconds counts as failed.
        """
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
            *("-m", "long or not long", "-o", "timeout=60", "--no-header", "--tb=line"),
            *options,
            *tests,
        ]
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        if not self._as_it_is:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                printed, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # pytest then stops the brokers that it started
                printed, _ = process.communicate()
                return FAILED, f"{printed}\nnot over within {seconds:g} s"
            except BaseException:
                process.send_signal(signal.SIGINT)
                raise
        return process.returncode, printed


@contextmanager
def checkout() -> Iterator[Checkout]:
    """Copy all files that git knows or would add, as they are now; removed at the end."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        folder = Path(name)
        for file in filter(None, listing.stdout.split("\0")):
            if (ROOT / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, folder / file)
        for venv in ROOT.glob(".venv*"):
            (folder / venv.name).symlink_to(venv)
        yield Checkout(folder)
