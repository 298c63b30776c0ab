"""The run itself: it holds, it notices when it does not, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .plan import Kind, plan

ROOT = Path(__file__).parents[3]
SEED = 1652
"""Of the short run: its first faults are all different (see below)."""
HANGS = 162
"""A seed that begins with a broker that hangs."""


class Chaos:
    """`python -m tests.tools.chaos` under way."""

    def __init__(self, logs: Path, minutes: float, *more: str, seed: int = SEED) -> None:
        self.text = ""
        arguments = ["--minutes", str(minutes), "--seed", str(seed), "--logs", str(logs), *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.tools.chaos", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, pattern: str) -> None:
        """Read what it says until a line matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            print(line, end="")
            self.text += line
            if re.search(pattern, line):
                return
        raise AssertionError(f"no line with {pattern!r}")

    def ends(self) -> int:
        """Read to the end; its exit status."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            print(line, end="")
            self.text += line
        return self.process.wait()

    def programs(self) -> dict[int, str]:
        """Every process that it has started, and those that these have: id and command line."""
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except FileNotFoundError:
                continue
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: command_line(pid) for pid in found - {self.process.pid}}

    def count(self, row: str) -> int:
        """A number of the table."""
        found = re.search(rf"^{re.escape(row)} +([\d,]+)", self.text, re.MULTILINE)
        assert found is not None, f"no row {row!r}"
        return int(found[1].replace(",", ""))


def command_line(pid: int) -> str:
    """Return the command line of a process; empty for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def started() -> Iterator[list[Chaos]]:
    """Runs that are ended after the test."""
    made: list[Chaos] = []
    yield made
    for each in made:
        if each.process.poll() is None:
            each.process.terminate()
        each.process.communicate(timeout=60)


def all_held(chaos: Chaos, *, calls: int, commands: int, faults: int) -> None:
    """The run ended well, and was one that can be believed."""
    assert chaos.ends() == 0, chaos.text[-3000:]
    assert chaos.text.endswith("All held.\n")
    for row in (
        "calls that never ended",
        "ended later than timeout + 2 s",
        "wrong answers",
        "confirmed commands lost",
        "confirmed events lost",
    ):
        assert chaos.count(row) == 0
    assert chaos.count("sent") >= calls
    assert chaos.count("  answered") >= calls / 3
    (confirmed,) = re.findall(r"^  confirmed +0 +([\d,]+)", chaos.text, re.MULTILINE)
    assert int(confirmed.replace(",", "")) >= commands
    assert chaos.count("all faults") >= faults


def test_the_seed_of_the_short_run_has_a_bit_of_everything() -> None:
    faults = plan(SEED)
    first = [next(faults).kind for _ in range(6)]
    assert len(set(first)) == 6
    assert {Kind.KILL_BROKER, Kind.STOP_IN_HOLE, Kind.CUT} <= set(first[:5])


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_a_short_run_holds(started: list[Chaos], tmp_path: Path) -> None:
    """90 seconds of calls on each version of the broker, 3 minutes in sum: as many as CI has."""
    started.append(Chaos(tmp_path, 1.5))
    all_held(started[0], calls=500, commands=300, faults=4)


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_long_run_holds(started: list[Chaos], tmp_path: Path) -> None:
    """20 minutes of calls: 20,000 over 60 mixed faults."""
    started.append(Chaos(tmp_path, 20, seed=1))
    all_held(started[0], calls=20_000, commands=10_000, faults=60)


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_no_confirmed_command_is_lost_over_twenty_kills(
    started: list[Chaos], tmp_path: Path
) -> None:
    """20,000 of them; the broker is killed with -9, and nothing else happens."""
    options = ("--only", Kind.KILL_BROKER.option, "--rate", "60")
    started.append(Chaos(tmp_path, 8, *options, seed=1))
    all_held(started[0], calls=40_000, commands=20_000, faults=20)


@pytest.mark.timeout(120)
def test_interrupted_it_leaves_nothing_behind(started: list[Chaos], tmp_path: Path) -> None:
    started.append(Chaos(tmp_path, 1, seed=HANGS))
    chaos = started[0]
    chaos.read_until(re.escape(f"fault 1: {Kind.HANG_BROKER.value}"))
    programs = chaos.programs()
    lines = "\n".join(programs.values())
    assert len(re.findall(r"-m tests\.tools\.chaos\.(client|service)", lines)) >= 6
    assert "beam.smp" in lines
    chaos.process.send_signal(signal.SIGINT)
    assert chaos.ends() == 128 + signal.SIGINT
    assert "stopped by SIGINT" in chaos.text
    left = {pid: line for pid, line in programs.items() if line and command_line(pid) == line}
    assert left == {}


@pytest.mark.timeout(120)
def test_a_program_that_ends_by_itself_fails_it(started: list[Chaos], tmp_path: Path) -> None:
    started.append(Chaos(tmp_path, 0.2))
    chaos = started[0]
    chaos.read_until("fault 1: ")
    (victim,) = [pid for pid, line in chaos.programs().items() if " beta-1-1 " in line]
    os.kill(victim, signal.SIGKILL)
    assert chaos.ends() == 1
    assert re.search(r"1 broken: beta-1-1 ended by itself: status -9", chaos.text)
