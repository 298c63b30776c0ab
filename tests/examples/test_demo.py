"""The demo: it holds, it notices when it does not, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.demo.outage import judge
from examples.demo.peer import why_not
from examples.demo.transcript import Transcript
from nuropb_rmq import Message, Transport, TransportConfig, configure

from ..support import eventually

ROOT = Path(__file__).parents[2]

needs_broker = pytest.mark.broker


class Demo:
    """`python -m examples.demo` under way, with a folder of its own for all that is temporary."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.text = ""
        unset = ("COLUMNS", "NO_COLOR")
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.demo", *arguments],
            cwd=ROOT,
            env={**inherited, "TMPDIR": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read the transcript until a line matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line with {pattern!r} in\n{self.text}{self.rest()}")

    def rest(self) -> str:
        """Read to the end; what it wrote to stderr."""
        text, errors = self.process.communicate(timeout=120)
        self.text += text
        return errors

    def processes(self) -> set[int]:
        """All that the transcript names."""
        return {int(pid) for pid in re.findall(r"process (\d+)", self.text)}

    def close(self) -> None:
        """End it as an operator would; it ends the others."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """Demos that are ended after the test."""
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.close()


@pytest.fixture
def demo(demos: list[Demo], tmp_path: Path) -> Demo:
    """A demo that has just begun."""
    demos.append(Demo(tmp_path))
    return demos[0]


def alive(pids: set[int]) -> set[int]:
    """Those that exist and are no zombies (proc(5), the state after the name)."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.add(pid)
    return found


# -- the whole of it ------------------------------------------------------------------------


OLD_PEER = (
    r"suppliers +a service on nuropb 0\.1\.8, process \d+",
    r"suppliers +asks orders\.total\('A-1001'\)\n +came back +\{.*'total': '59\.80'\}",
    r"ok +nuropb 0\.1\.8 calls us",
    r"asked +suppliers\.offer\('lamp', 20\)\n +came back +\{.*'price': '398\.00'\}",
    r"ok +we call nuropb 0\.1\.8",
    r"ok +it ended with exit status 0",
)
MISHAPS = (
    r"request +send in parcels, trace id (\w{8})\.\.\.\n"
    r" +command +pick in warehouse, trace id \1\.\.\.\n"
    r" +event +parcels\.sent in warehouse, trace id \1\.\.\.",
    r"ok +command and event have the request's trace id",
    r"waits +on the broker, in nuropb-warehouse-retry-1000\n +2nd try +booked +1\.\d\d s",
    r"dead letter label in nuropb-warehouse-dlq\n +why +RuntimeError: the printer has no labels\n",
    r"replayed +1 went back +[\d.]+ m?s\n +warehouse +has printed the label of A-1001",
    r"ok +done once, and no letter is left",
)
NO_OLD_PEER = (r"9\. A service on nuropb 0\.1\.8.*\n +left out +\S.*(\n {16}.*)*\n\n10\. ",)


@needs_broker
def test_all_of_it_holds_and_nothing_is_left(demo: Demo) -> None:
    errors = demo.rest()
    assert (demo.process.returncode, errors) == (0, ""), demo.text + errors
    titles = re.findall(r"^ ?(\d+)\. .+ -+$", demo.text, re.MULTILINE)
    assert titles == [str(number) for number in range(1, 16)]
    version = re.search(r"broker +RabbitMQ ([\d.]+) on", demo.text)
    assert version
    reason = why_not(sys.version_info[:2], version[1])
    for line in (
        *(NO_OLD_PEER if reason else OLD_PEER),
        r"asked +orders\.total\('A-1001'\)\n +came back +\{.*'total': '59\.80'\} +[\d.]+ ms",
        r"came back +RemoteError: LookupError: there is no order B-2002",
        r"came back +NuropbNotDeliveredError: ",
        r"came back +NuropbTimeoutError: no response within 0\.4 s +4\d\d ms",
        r"the broker +has it",
        r"ok +mail has what it subscribed to",
        r"ok +audit has what it subscribed to",
        r"ok +on the broker the command of step 6 can be read",
        *MISHAPS,
        r"started +on memory://demo, in this process",
        r"kill -9 +process \d+, the broker",
        r"\d+ +answered, [1-9]\d* of them begun while there was no broker",
        r"again +calls work again, after the port was open +[\d.]+ m?s",
        r"ok +the command was done once all the same",
        r"ok +all ended with exit status 0",
        r"ok +nothing is left, no process and no folder",
        r"^All \d+ checks held, in [\d.]+ s\.$",
    ):
        assert re.search(line, demo.text, re.MULTILINE), f"no {line!r} in\n{demo.text}"
    for noise in ("FAILED", "WARNING", "Traceback", "\x1b"):
        assert noise not in demo.text
    # Two brokers, one after the other, and the programs.
    assert len(demo.processes()) == (6 if reason else 7)
    assert alive(demo.processes()) == set()
    assert list(demo.folder.iterdir()) == []


def test_without_a_broker_all_of_it_holds_in_seconds(demos: list[Demo], tmp_path: Path) -> None:
    """No RabbitMQ is there."""
    demo = Demo(tmp_path, "--memory", NUROPB_RMQ_SERVER_ROOT="/nonexistent")
    demos.append(demo)
    errors = demo.rest()
    assert (demo.process.returncode, errors) == (0, ""), demo.text + errors
    for line in (
        r"came back +RemoteValidationError: .*params\.kilograms",
        r"came back +NuropbNotDeliveredError: ",
        *MISHAPS,
        r"^All \d checks held, in [\d.]+ s\.$",
    ):
        assert re.search(line, demo.text, re.MULTILINE), f"no {line!r} in\n{demo.text}"
    assert list(demo.folder.iterdir()) == []


@needs_broker
def test_a_service_that_is_killed_fails_it_and_all_the_others_end(demo: Demo) -> None:
    pid = int(demo.read_until(r"orders +a service, process (\d+)")[1])
    demo.read_until(r"shop +the client")
    os.kill(pid, signal.SIGKILL)
    errors = demo.rest()
    assert demo.process.returncode == 1
    told = f"orders (process {pid}) has ended by itself: killed by SIGKILL"
    assert told in " ".join(demo.text.split())
    assert "All" not in demo.text
    assert told in errors
    logs = Path(errors.rstrip().rpartition(" ")[2])
    assert logs.parent == demo.folder
    names = {"audit.log", "broker.log", "demo.log", "mail.log", "orders.log", "shop.log"}
    assert names <= {each.name for each in logs.iterdir()}
    assert list(demo.folder.iterdir()) == [logs]
    assert alive(demo.processes()) == set()


@needs_broker
def test_ctrl_c_while_the_broker_starts_leaves_nothing(demo: Demo) -> None:
    demo.read_until(r"1\. Start")
    demo.process.send_signal(signal.SIGINT)
    assert demo.rest() == ""
    assert demo.process.returncode == 128 + signal.SIGINT
    assert demo.text.endswith("Stopped by SIGINT, and everything else with it.\n")
    assert list(demo.folder.iterdir()) == []


@needs_broker
@pytest.mark.long
def test_ctrl_c_twice_while_there_is_no_broker_leaves_nothing(demo: Demo) -> None:
    demo.read_until(r"kill -9")
    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGINT)
    assert demo.rest() == ""
    assert demo.process.returncode == 128 + signal.SIGINT
    assert alive(demo.processes()) == set()
    assert list(demo.folder.iterdir()) == []


@needs_broker
@pytest.mark.long
async def test_what_is_not_as_expected_is_shown_and_fails_it_at_the_end(demo: Demo) -> None:
    """Somebody answers the request that nobody should get: the demo goes on, and exits 1."""
    port = (await asyncio.to_thread(demo.read_until, r"RabbitMQ .* on 127\.0\.0\.1:(\d+)"))[1]
    config = TransportConfig(
        amqp_url=f"amqp://guest:guest@127.0.0.1:{port}/", service_name="invoices"
    )
    await configure(config)

    async def answer(_: Message) -> str:
        return "an invoice"

    async with Transport(config, answer):
        await asyncio.to_thread(demo.read_until, r"kill -9")
    errors = await asyncio.to_thread(demo.rest)
    assert demo.process.returncode == 1
    assert re.search(
        r"FAILED +it ends with NuropbNotDeliveredError, in time\n"
        r" +expected  NuropbNotDeliveredError within 1 s\n"
        r" +got       an invoice, after ",
        demo.text,
    )
    assert "nothing is left, no process and no folder" in demo.text
    assert "A request to a service that does not run: it ends with" in errors
    await eventually(lambda: not alive(demo.processes()))


def test_without_rabbitmq_it_says_what_to_install(demos: list[Demo], tmp_path: Path) -> None:
    demo = Demo(tmp_path, NUROPB_RMQ_SERVER_ROOT="/nonexistent")
    demos.append(demo)
    errors = demo.rest()
    assert demo.process.returncode == 1
    assert "/nonexistent has no /usr/lib/rabbitmq/bin/rabbitmq-server: run scripts/" in errors
    assert "Traceback" not in demo.text + errors


@pytest.mark.parametrize(
    ("python", "rabbitmq", "reason"),
    [
        ((3, 12), "3.10.8", "nuropb 0.1.8 needs Python 3.11 or older; this is 3.12"),
        ((3, 11), "4.3.6", "RabbitMQ 4.3.6 denies the response queue"),
    ],
)
def test_where_nuropb_cannot_run_it_says_why(
    python: tuple[int, int], rabbitmq: str, reason: str
) -> None:
    assert reason in (why_not(python, rabbitmq) or "")


# -- its checks -----------------------------------------------------------------------------

KILLED, OPENED = 10.0, 17.0
GOOD: dict[str, Any] = {
    "begun": 4,
    "states": ["RECOVERING", "READY"],
    "calls": [
        [9.0, 9.1, "answered"],
        [9.9, 19.0, "NuropbOutcomeUnknownError"],
        [11.0, 13.0, "NuropbTimeoutError"],
        [12.0, 18.0, "answered"],
    ],
}
NEVER_BACK = [[9.0, 9.1, "answered"], *[[11.0, 13.0, "NuropbTimeoutError"]] * 3]


def judged(report: dict[str, Any]) -> tuple[str, list[str]]:
    """The transcript of an outage, and what failed of it."""
    out = io.StringIO()
    transcript = Transcript(out)
    judge(transcript, report, killed_at=KILLED, opened_at=OPENED)
    return out.getvalue(), transcript.failures


def test_an_outage_that_went_well() -> None:
    text, failures = judged(GOOD)
    assert failures == []
    assert "2     answered, 1 of them begun while there was no broker" in text
    assert re.search(r"again +calls work again, after the port was open +1\.00 s", text)


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        ({"begun": 5}, "every call has ended, once"),
        ({"calls": [[9.0, 9.1, "wrong answer"], *GOOD["calls"][1:]]}, "each with its answer"),
        ({"calls": [[9.0, 9.1, "KeyError"], *GOOD["calls"][1:]]}, "each with its answer"),
        ({"calls": NEVER_BACK}, "calls work again within 10 s"),
        ({"calls": [*GOOD["calls"][:3], [12.0, 27.5, "answered"]]}, "calls work again within 10 s"),
        ({"states": []}, "the client has noticed"),
        ({"states": ["RECOVERING"]}, "the client has noticed"),
    ],
)
def test_an_outage_that_did_not_go_well(wrong: dict[str, Any], claim: str) -> None:
    text, failures = judged({**GOOD, **wrong})
    assert len(failures) == 1
    assert claim in failures[0]
    assert re.search(
        rf"FAILED +{claim}.*\n( {{16}}.*\n)*? +expected  .+\n( .*\n)*? +got {{7}}", text
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "no_color", "colours"),
    [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)],
)
def test_colours_are_for_terminals_without_no_color(
    monkeypatch: pytest.MonkeyPatch, out: io.StringIO, no_color: str, colours: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    transcript = Transcript(out)
    transcript.step("A step")
    transcript.same("a claim", 1, 1)
    assert ("\x1b[" in out.getvalue()) is colours
