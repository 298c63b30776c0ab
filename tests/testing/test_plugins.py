"""The fixtures for brokers in memory under each plugin that runs async tests, and under none."""

from __future__ import annotations

import re

from .support import ANYIO, ASYNCIO, AUTO, STRICT, Pytest, passed

SERVICE = """
import asyncio, os, pytest
from nuropb_rmq import State

class Orders:
    _service_name = "orders"

    async def get(self, order_id: str) -> str:
        return order_id

async def try_it(memory_mesh, mesh_broker):
    service, client = await memory_mesh(Orders()), await memory_mesh()
    assert await client.request("orders", "get", {"order_id": "A-1"}, timeout=5) == "A-1"
    assert [each.params for each in mesh_broker.requests("orders")] == [{"order_id": "A-1"}]
    return service
"""

PLAIN = f"""{SERVICE}
async def test_it(memory_mesh, mesh_broker):
    await try_it(memory_mesh, mesh_broker)
"""


def test_with_pytest_asyncio_in_auto_mode(suite: Pytest) -> None:
    suite.write(
        "test_auto.py",
        f"""{SERVICE}
names = set()
made = []

@pytest.fixture
async def service(memory_mesh, mesh_broker):
    mesh = await try_it(memory_mesh, mesh_broker)
    yield mesh
    assert mesh.state is State.READY, "stopped before the fixture that uses it"
    made.append(mesh)

@pytest.mark.parametrize("n", range(3))
async def test_it(memory_mesh, mesh_broker, n):
    await try_it(memory_mesh, mesh_broker)
    assert str(os.getpid()) in mesh_broker.name
    names.add(mesh_broker.name)

async def test_in_a_fixture(service):
    assert service.state is State.READY

def test_that_is_no_coroutine(service):
    assert service.state is State.READY

def test_afterwards():
    assert len(names) == 3
    assert [mesh.state for mesh in made] == [State.STOPPED] * 2

class TestClass:
    async def test_method(self, memory_mesh, mesh_broker):
        await try_it(memory_mesh, mesh_broker)
""",
    )
    assert len(passed(suite.run(ASYNCIO, settings=AUTO))) == 7, suite.text


def test_with_pytest_asyncio_in_strict_mode(suite: Pytest) -> None:
    suite.write(
        "test_strict.py",
        f"""{SERVICE}
@pytest.mark.asyncio
async def test_marked(memory_mesh, mesh_broker):
    await try_it(memory_mesh, mesh_broker)

async def test_not_marked(memory_mesh):
    pass

@pytest.mark.asyncio(loop_scope="module")
class TestInOneLoop:
    async def test_first(self, memory_mesh, mesh_broker):
        TestInOneLoop.loop = asyncio.get_running_loop()
        await try_it(memory_mesh, mesh_broker)

    async def test_second(self, memory_mesh, mesh_broker):
        assert asyncio.get_running_loop() is self.loop
        await try_it(memory_mesh, mesh_broker)
""",
    )
    outcomes = suite.run(ASYNCIO, settings=STRICT)
    assert outcomes.pop("test_strict.py::test_not_marked") == "error"
    assert len(passed(outcomes)) == 3, suite.text
    assert (
        "memory_mesh: expected a plugin that runs async tests, and none runs this one: mark it "
        "with @pytest.mark.asyncio, or set asyncio_mode = auto"
    ) in suite.text


def test_in_the_loop_of_the_session(suite: Pytest) -> None:
    suite.write("test_it.py", PLAIN)
    settings = f"{AUTO}\nasyncio_default_test_loop_scope = session"
    assert passed(suite.run(ASYNCIO, settings=settings)) == ["test_it.py::test_it"]


def test_with_anyio(suite: Pytest) -> None:
    """pytest-asyncio may be there too, in strict mode."""
    suite.write(
        "test_anyio.py",
        f"""{SERVICE}
pytestmark = pytest.mark.anyio

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture
async def service(memory_mesh, mesh_broker):
    mesh = await try_it(memory_mesh, mesh_broker)
    yield mesh
    assert mesh.state is State.READY

async def test_it(memory_mesh, mesh_broker):
    await try_it(memory_mesh, mesh_broker)

async def test_in_a_fixture(service):
    assert service.state is State.READY
""",
    )
    for plugins in ((ANYIO,), (ASYNCIO, ANYIO)):
        outcomes = suite.run(*plugins)
        trio = [name for name in outcomes if name.endswith("[trio]")]
        assert [outcomes.pop(name) for name in trio] == ["error"] * 2, suite.text
        assert len(passed(outcomes)) == 2, suite.text
        assert (
            "memory_mesh: expected anyio's backend 'asyncio', got 'trio': nuropb_rmq is made for "
            "asyncio; write a fixture anyio_backend that returns 'asyncio'"
        ) in suite.text


def test_with_anyio_in_auto_mode(suite: Pytest) -> None:
    suite.write(
        "test_it.py", f"{PLAIN}\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    assert passed(suite.run(ANYIO, settings="anyio_mode = auto")) == ["test_it.py::test_it"]


def test_with_both_at_once(suite: Pytest) -> None:
    suite.write(
        "test_it.py", PLAIN.replace("async def test_it", "@pytest.mark.anyio\nasync def test_it")
    )
    outcomes = suite.run(ASYNCIO, ANYIO, settings=AUTO)
    assert set(outcomes.values()) == {"error"}
    assert (
        "memory_mesh: expected one plugin to run the test, got two: it is marked for anyio, and "
        "pytest-asyncio in auto mode takes it too; set asyncio_mode = strict, or remove the mark"
    ) in suite.text


def test_without_a_plugin_one_error_has_the_fix(suite: Pytest) -> None:
    suite.write("test_it.py", PLAIN)
    expected = (
        "memory_mesh: expected a plugin that runs async tests, and none runs this one: "
        "{}pip install pytest-asyncio, and set asyncio_mode = auto in pytest's settings"
    )
    for plugins, other in (((), ""), ((ANYIO,), "mark it with @pytest.mark.anyio; or ")):
        assert suite.run(*plugins) == {"test_it.py::test_it": "error"}
        assert suite.text.count(expected.format(other)) == 2  # where it fails, and the summary
        assert "Traceback" not in suite.text


def test_nothing_is_loaded_before_a_test_uses_it(suite: Pytest) -> None:
    suite.write(
        "test_it.py",
        """
import sys

def test_before():
    loaded = [name for name in sys.modules if name.startswith("nuropb_rmq.")]
    rest = {name.split(".")[1] for name in loaded} - {"testing"}
    assert rest <= {"_version", "exceptions", "printable", "waiting"}, rest

def test_then(mesh_broker):
    assert mesh_broker.url.startswith("memory://test_then-")
    assert "nuropb_rmq.memory.host" in sys.modules
""",
    )
    assert len(passed(suite.run(ASYNCIO, ANYIO))) == 2


def test_a_test_that_fails_shows_what_came_and_leaves_nothing(suite: Pytest) -> None:
    suite.write(
        "test_it.py",
        f"""{SERVICE}
class Slow:
    _service_name = "slow"

    async def wait(self) -> None:
        await asyncio.Event().wait()

async def test_no_event(memory_mesh, mesh_broker):
    await try_it(memory_mesh, mesh_broker)
    await mesh_broker.event("orders.*", timeout=0.05)

async def test_stops_in_time(memory_mesh, mesh_broker):
    mesh = await memory_mesh(Slow())
    await mesh.command("slow", "wait")

def test_afterwards():
    from nuropb_rmq.memory import host
    assert not host._hosts
""",
    )
    outcomes = suite.run(ASYNCIO, settings=AUTO)
    assert outcomes.pop("test_it.py::test_no_event") == "failed"
    assert len(passed(outcomes)) == 2, suite.text
    (line,) = re.findall(r"^E +AssertionError: (.*)$", suite.text, re.MULTILINE)
    assert line == ("expected an event 'orders.*' within 0.05 s; all that came: request orders.get")
