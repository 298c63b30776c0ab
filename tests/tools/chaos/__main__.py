"""A chaos run: see the package's docstring. Exit status 0 only when all held."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from nuropb_rmq.testing import BrokerError, RabbitMQNode

from .conductor import ChaosError, Conductor
from .oracle import judge
from .plan import Kind
from .report import Report, table

EACH_SECOND = 22.0
"""Calls of each client, in the mean."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal has ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Clients and services on a private RabbitMQ, while everything between them is "
        "broken, by the seed. Exit status: 0 when every call ended in time, with a right answer "
        "or a typed error, and nothing that was confirmed is lost; else 1.",
    )
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="how long calls are made (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=1, help="which faults (default: 1)")
    kinds = {kind.option: kind for kind in Kind}
    parser.add_argument(
        "--only", metavar="FAULT", action="append", default=[], choices=[*kinds],
        help="faults of this kind only, one at a time; may be given more than once: "
        + ", ".join(kinds),
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=float, default=EACH_SECOND, metavar="N",
        help=f"calls a second of each of the three clients (default: {EACH_SECOND:g}); "
        "20,000 confirmed commands over 20 kills: --only kill-broker --rate 60 --minutes 8",
    )  # fmt: skip
    parser.add_argument(
        "--broker", choices=("3.10", "4.3"),
        help="4.3: the one that scripts/broker-4.3 makes (default: the one that is installed, or "
        "of NUROPB_RMQ_SERVER_ROOT)",
    )  # fmt: skip
    parser.add_argument(
        "--logs", type=Path, help="where all logs stay (default: they stay after a failure only)"
    )
    given = parser.parse_args()
    if given.minutes <= 0:
        parser.error("--minutes must be more than 0")
    if not 0 < given.rate <= 1000:
        parser.error("--rate must be more than 0, and 1000 at most")
    given.only = [kinds[each] for each in given.only]
    return given


async def conduct(conductor: Conductor, seconds: float) -> None:
    """The run. Raises Interrupted when a signal came."""
    caught: list[int] = []
    task = asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
        if not caught:
            task.cancel()
        caught.append(number)

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await conductor.conduct(seconds)
    except asyncio.CancelledError:
        if not caught:
            raise
        raise Interrupted(caught[0]) from None


def main() -> int:
    """The exit status: 0 all held, 1 something did not, 128 + n ended by signal n."""
    given = arguments()
    folder = given.logs or Path(tempfile.mkdtemp(prefix="nuropb-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    node, report = RabbitMQNode(), Report(sys.stdout)
    conductor = Conductor(node, folder, given.seed, report, only=given.only, rate=given.rate)
    try:
        asyncio.run(conduct(conductor, given.minutes * 60))
    except Interrupted as e:
        report.say(f"stopped by {e}, and everything else with it")
        return 128 + e.number
    except (ChaosError, BrokerError) as e:
        print(f"scripts/chaos: {e}\nThe logs are in {folder}", file=sys.stderr)
        return 1
    finally:
        (folder / "broker.log").write_text(node.log_text())
    verdict = judge(conductor.ledger, conductor.run)
    print()
    for line in table(conductor.ledger, conductor.run, verdict):
        print(line)
    failures = verdict.failures()
    if failures:
        print("\nscripts/chaos: FAILED", file=sys.stderr)
        for failure in failures:
            print(f"  {failure}", file=sys.stderr)
        print(f"The logs are in {folder}", file=sys.stderr)
        return 1
    print("\nAll held.")
    if given.logs is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
