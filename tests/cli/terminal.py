"""The command on a terminal of its own: a pseudo-terminal, and somebody who types."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from .command import environment, heed_interrupts


class Terminal:
    """The screen, and the keyboard."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.text = ""
        self._process = process
        self._master = master
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        self._more.set()

    async def shows(self, text: str, within: float = 30, *, since: int = 0) -> None:
        """Wait until a text was shown, after so many characters."""
        async with asyncio.timeout(within):
            while text not in self.text[since:]:
                self._more.clear()
                await self._more.wait()

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    async def ended(self, within: float = 30) -> int:
        """Wait for the end of the command; return its exit status."""
        async with asyncio.timeout(within):
            return await self._process.wait()


@asynccontextmanager
async def on_terminal(*arguments: str, url: str, width: int = 80) -> AsyncIterator[Terminal]:
    """Run the command on a terminal; it is killed at the end."""
    program = (sys.executable, "-m", "nuropb_rmq", *arguments)
    async with attached(*program, variables=environment(url), width=width) as terminal:
        yield terminal


@asynccontextmanager
async def attached(
    *program: str, variables: dict[str, str], width: int = 80
) -> AsyncIterator[Terminal]:
    """Run any program on a terminal; it is killed at the end."""
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

        def take_terminal() -> None:
            heed_interrupts()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C, typed, becomes SIGINT

        process = await asyncio.create_subprocess_exec(
            *program, env={**variables, "TERM": "xterm-256color"}, start_new_session=True,
            preexec_fn=take_terminal, stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
    finally:
        os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
