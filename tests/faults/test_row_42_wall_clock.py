"""Row 42: the wall clock jumps. Deadlines, lifetimes and heartbeats go by monotonic clocks."""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nuropb_rmq
from nuropb_rmq import Encryptor, Message, NuropbTimeoutError, State
from nuropb_rmq.transport.deadlines import Deadlines

from ..encrypting import SECRET, calling, private_key, serving
from ..support import Recorder, Transports, eventually, request, result_of

DAY = 86_400.0
PACKAGE = Path(nuropb_rmq.__file__).parent

# What reads the wall clock on purpose, and why that decides about no timeout.
TOLD = {
    "doctor/looking.py": "the difference to the broker's clock, to be told",
    "doctor/checks/way.py": "days that a certificate is still valid",
    "dead_letters/filters.py": "ages of letters, by the times that services have written",
    "transport/letters.py": "nuropb_failed_at and the time in x-death, to be read",
    "transport/retries.py": "nuropb_first_failed_at, to be read",
    "memory/message.py": "the time in x-death, as a broker writes it; nothing is counted from it",
    "compat/callbacks.py": "start_time and end_time, as in nuropb's metadata; duration is not",
}
_OF_DAY = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


class WallClock:
    """time.time(), with an offset."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._time = time.time

    def __call__(self) -> float:
        return self._time() + self.offset


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[WallClock]:
    """The wall clock that all of this process reads; it is set back afterwards."""
    made = WallClock()
    monkeypatch.setattr(time, "time", made)
    yield made
    monkeypatch.undo()


def reads_of_the_wall_clock(source: str) -> list[int]:
    """The lines that ask what time it is: `time.time()`, `datetime.now()` and their like."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            base = node.value
            named = base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")
            if node.attr in _OF_DAY.get(named, ()):
                found.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [node.lineno for alias in node.names if alias.name in _OF_DAY["time"]]
    return found


def test_row_42_nothing_reads_the_wall_clock() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        lines = reads_of_the_wall_clock(path.read_text())
        name = str(path.relative_to(PACKAGE))
        assert bool(lines) == (name in TOLD), f"{name}: lines {lines}; TOLD says why some may"


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "from time import time",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\nmade = datetime.utcnow()",
        "import time\nclock = time.time_ns",
    ],
)
def test_row_42_a_read_is_found(source: str) -> None:
    assert reads_of_the_wall_clock(source)
    innocent = "import time\ntime.monotonic(); loop.time(); self.now(); datetime.time(1)"
    assert not reads_of_the_wall_clock(innocent)


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_row_42_deadlines(clock: WallClock, jump: float) -> None:
    loop = asyncio.get_running_loop()
    expired: list[float] = []
    deadlines = Deadlines[str](lambda _: expired.append(loop.time()))
    began = loop.time()
    deadlines.add("it", 0.2)
    clock.offset = jump
    await eventually(lambda: expired, within=2)
    assert 0.2 <= expired[0] - began < 1
    deadlines.clear()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_row_42_keys_are_renewed_by_their_age(clock: WallClock, jump: float) -> None:
    ours = Encryptor(key_lifetime=60)
    ours.add_public_key("orders", private_key("orders").public_key())
    before = ours.encrypt_payload(b"{}", "c-1", "orders").partition(b".")[0]
    clock.offset = jump
    assert ours.encrypt_payload(b"{}", "c-2", "orders").partition(b".")[0] == before


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_row_42_both_ends_may_disagree_about_the_time(clock: WallClock, jump: float) -> None:
    """A Fernet token says when it was made; nobody believes it."""
    ours, theirs = calling(), serving()
    body = ours.encrypt_payload(SECRET.encode(), "c", "orders")
    clock.offset = jump
    assert theirs.decrypt_payload(body, "c") == SECRET.encode()
    answer = theirs.encrypt_payload(b"{}", "c")
    clock.offset = -jump
    assert ours.decrypt_payload(answer, "c") == b"{}"


async def test_row_42_calls_and_heartbeats_while_it_jumps(
    mesh: Transports, clock: WallClock
) -> None:
    """For three seconds, three heartbeats of each side, the clock is wrong, and wrong otherwise."""
    recorder = Recorder()
    service = await mesh.service(recorder, heartbeat=1)
    client = await mesh.client(heartbeat=1)
    states: list[State] = []
    for each in (service, client):
        each.on_state_change(lambda state, _: states.append(state))
    loop = asyncio.get_running_loop()
    until, calls = loop.time() + 3, 0
    while loop.time() < until:
        clock.offset = DAY if clock.offset <= 0 else -DAY
        assert result_of(await client.request(request(n=calls), timeout=5)) == {"n": calls}
        calls += 1
        await asyncio.sleep(0.05)
    assert len(recorder.seen) == calls > 10
    assert states == []


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_row_42_a_timeout_is_as_long_as_it_says(
    mesh: Transports, clock: WallClock, jump: float
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def stuck(_: Message) -> None:
        begun.set()
        await release.wait()

    await mesh.service(stuck)
    client = await mesh.client()
    loop = asyncio.get_running_loop()
    started = loop.time()
    call = asyncio.create_task(client.request(request(), timeout=1))
    await begun.wait()
    clock.offset = jump
    with pytest.raises(NuropbTimeoutError):
        await call
    assert 1 <= loop.time() - started < 10
    release.set()


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_row_42_a_handler_may_take_as_long_as_it_may(
    mesh: Transports, clock: WallClock, jump: float
) -> None:
    begun = asyncio.Event()

    async def stuck(message: Message) -> str:
        if message.payload["method"] == "quick":
            return "done"
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    await mesh.service(stuck, handler_timeout=1)
    client = await mesh.client()
    loop = asyncio.get_running_loop()
    started = loop.time()
    call = asyncio.create_task(client.request(request("slow")))
    await begun.wait()
    clock.offset = jump
    assert result_of(await client.request(request("quick"))) == "done"
    answer = await call
    assert answer["error"] is not None
    assert "handler_timeout" in str(answer["error"]["description"])
    assert 1 <= loop.time() - started < 10
