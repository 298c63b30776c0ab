"""Runs the demo: see the package's docstring. Exit status 0 only when all of it held."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from nuropb_rmq.testing import BrokerError, RabbitMQNode

from . import without_broker
from .programs import DemoError, Programs
from .story import tell_story
from .transcript import Transcript, duration

logger = logging.getLogger("examples.demo")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal has ended the demo."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main() -> int:
    """The exit status: 0 all held, 1 something did not, 128 + n ended by signal n."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Shows nuropb_rmq at work on a private RabbitMQ, in less than a minute. "
        "Exit status: 0 when all of it held, else 1.",
    )
    parser.add_argument(
        "--memory", action="store_true", help="what needs no RabbitMQ, on memory://, in seconds"
    )
    memory = parser.parse_args().memory
    transcript = Transcript(sys.stdout)
    folder = Path(tempfile.mkdtemp(prefix="nuropb-demo-"))
    logging.basicConfig(
        filename=folder / "demo.log",
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    began = time.monotonic()
    try:
        where = "inside this process" if memory else "over a RabbitMQ of its own"
        transcript.say(f"nuropb_rmq: requests, commands and events {where}")
        asyncio.run(conduct(transcript, folder, memory=memory))
    except Interrupted as e:
        transcript.say(f"\nStopped by {e}, and everything else with it.")
        shutil.rmtree(folder, ignore_errors=True)
        return 128 + e.number
    except BrokenPipeError:  # `| head`: what is still buffered must not complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        return 128 + signal.SIGPIPE
    return conclude(transcript, folder, time.monotonic() - began)


async def conduct(transcript: Transcript, folder: Path, *, memory: bool) -> None:
    """Tell the story, and end everything. Raises Interrupted when a signal came."""
    node = None if memory else RabbitMQNode()
    programs = Programs(folder)
    caught = stop_at_signals()
    try:
        if node is None:
            await without_broker.tell_story(transcript)
        else:
            await tell_story(transcript, node, programs, folder)
    except asyncio.CancelledError:
        if not caught:
            raise
        raise Interrupted(caught[0]) from None
    except BrokenPipeError:
        raise
    except (DemoError, BrokerError) as e:
        transcript.broken(str(e).partition("\n")[0])
    except Exception as e:
        logger.exception("the demo broke")
        transcript.broken(f"{type(e).__name__}: {e}")
    finally:
        caught.append(0)  # too late for a signal: all ends anyway
        try:
            await programs.end_all()
        finally:
            if node is not None:
                await node.astop()
                (folder / "broker.log").write_text(node.log_text())


def stop_at_signals() -> list[int]:
    """The first signal cancels this task, and is in the list then; further ones do nothing."""
    caught: list[int] = []
    task = asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
        if not caught:
            task.cancel()
        caught.append(number)

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    return caught


def conclude(transcript: Transcript, folder: Path, seconds: float) -> int:
    """Say what came of it all; the logs stay only when they are needed."""
    transcript.say()
    if not transcript.failures:
        transcript.say(f"All {transcript.checks} checks held, in {duration(seconds)}.")
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    print("scripts/demo: FAILED, everything was stopped", file=sys.stderr)
    for failure in transcript.failures:
        print(f"  {failure}", file=sys.stderr)
    print(f"The logs of all programs are in {folder}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
