"""The help answers at once: it loads nothing of what the verbs need."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from .command import environment, ran

LISTS = """
import sys
from nuropb_rmq.cli import main
status = main(sys.argv[1:])
slow = ("asyncio", "ssl", "aio_pika", "aiormq", "httpx", "cryptography")
print(status, [name for name in slow if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("verb", [[], ["dlq"], ["dlq", "replay"], ["listen"], ["describe"]])
async def test_nothing_slow_is_loaded(verb: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LISTS, *verb, "--help",
        env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert err.decode() == "0 []\n"
    assert b"Usage: nuropb-rmq" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
async def test_every_encoding(encoding: str) -> None:
    status, out, err = await ran("dlq", "--help", encoding=encoding, width=60)
    assert (status, err) == (0, "")
    assert "Usage: nuropb-rmq dlq" in out
    assert max(map(len, out.splitlines())) <= 60


async def test_options_stand_after_the_verb() -> None:
    status, out, err = await ran("--url", "amqp://localhost/", "services")
    assert (status, out) == (2, "")
    assert "No such option: --url. It stands after the verb: nuropb-rmq VERB --url." in err


async def test_completion() -> None:
    """A shell asks for the words that may follow."""
    asked = {"COMP_WORDS": "nuropb-rmq dlq re", "COMP_CWORD": "2",
             "_NUROPB_RMQ_COMPLETE": "complete_bash"}  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nuropb_rmq",
        env={**environment(), **asked}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.split() == [b"replay"]


@pytest.mark.parametrize("words", ["--version", "--help", "dlq --help"])
async def test_a_full_disk_is_one_line(words: str) -> None:
    status, err = await _into(os.open("/dev/full", os.O_WRONLY), words)
    assert (status, err) == (1, "nuropb-rmq: standard output: No space left on device\n")


async def test_nobody_reads_its_help() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert await _into(writing, "dlq --help") == (141, "")


async def _into(out: int, words: str) -> tuple[int | None, str]:
    """Run the command with this standard output; return its exit status and error output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nuropb_rmq", *words.split()),
        env=environment(), stdout=out, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(out)
    _, err = await process.communicate()
    return process.returncode, err.decode()
