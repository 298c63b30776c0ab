"""Requests, commands and descriptions through Mesh, end to end."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from datetime import date
from typing import Any

import msgspec
import pydantic
import pytest

from nuropb_rmq import (
    Mesh,
    NuropbCallAgain,
    NuropbContextManager,
    NuropbException,
    NuropbMessageError,
    NuropbNotDeliveredError,
    NuropbNotSentError,
    NuropbRemoteError,
    NuropbSuccess,
    NuropbTimeoutError,
    NuropbValidationError,
    nuropb_context,
    publish_to_mesh,
)

from ..seams import descriptions_of
from ..support import eventually
from .support import Meshes

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Line(pydantic.BaseModel):
    article: str
    count: int = 1


class Point(msgspec.Struct):
    x: int
    at: date | None = None


class Orders:
    """Order desk"""

    _version = "1.2.0"

    def __init__(self) -> None:
        self.noted: list[Any] = []
        self.again = 0

    async def echo(self, **params: Any) -> Any:
        return params

    def sync(self) -> str:
        return threading.current_thread().name

    @publish_to_mesh(in_thread=False)
    def quick(self) -> str:
        return threading.current_thread().name

    def returns_awaitable(self) -> Any:
        return self.echo(later=True)

    def in_context(self) -> str:
        return WHO.get()

    async def note(self, what: str) -> None:
        self.noted.append(what)

    @nuropb_context
    async def context_of(self, ctx: NuropbContextManager) -> Any:
        return dict(ctx.context)

    def add(self, line: Line, lines: list[Line] | None = None) -> list[Line]:
        assert isinstance(line, Line)
        return [line, *(lines or [])]

    async def move(self, point: Point) -> Point:
        return Point(point.x + 1, point.at)

    async def call_again(self) -> int:
        self.again += 1
        if self.again == 1:
            raise NuropbCallAgain("not yet")
        return self.again

    def succeed(self) -> None:
        raise NuropbSuccess("done")

    async def wait(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "waited"


async def test_the_five_lines_work_on_a_bare_broker(mesh_url: str) -> None:
    """A virtual host in which nothing has been declared."""
    async with Mesh(mesh_url, service_name="orders", service=Orders()), Mesh(mesh_url) as mesh:
        assert await mesh.request("orders", "echo", {"id": "A-1"}, timeout=5) == {"id": "A-1"}
        await mesh.command("orders", "note", {"what": "2026-01-02"})
        await mesh.publish_event("orders.created", {"id": 1})


async def test_sync_methods_run_in_threads_and_others_do_not(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    assert (await client.request("orders", "sync")).startswith("nuropb-orders")
    assert await client.request("orders", "quick") == "MainThread"
    assert await client.request("orders", "returns_awaitable") == {"later": True}


async def test_sync_in_threads_can_be_turned_off(meshes: Meshes) -> None:
    await meshes.serve(Orders(), sync_in_threads=False)
    client = await meshes.client()
    assert await client.request("orders", "sync") == "MainThread"


async def test_a_thread_has_the_context_variables_of_its_time(meshes: Meshes) -> None:
    token = WHO.set("the starter")
    await meshes.serve(Orders())
    WHO.reset(token)
    client = await meshes.client()
    assert await client.request("orders", "in_context") == "the starter"


async def test_context_and_trace_id_arrive(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    context = {"user": "u1", "roles": ["admin"]}
    assert await client.request("orders", "context_of", context=context, trace_id="t-1") == context
    assert await client.request("orders", "context_of") == {}


async def test_commands_are_done_once_and_not_answered(meshes: Meshes) -> None:
    service = Orders()
    await meshes.serve(service)
    client = await meshes.client()
    for number in range(20):
        await client.command("orders", "note", {"what": str(number)})
    await eventually(lambda: len(service.noted) == 20)
    assert service.noted == [str(number) for number in range(20)]


async def test_models_and_structs_as_parameters_and_results(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    line = Line(article="book", count=2)
    plain = {"article": "book", "count": 2}
    assert await client.request("orders", "add", {"line": line, "lines": [plain]}) == [plain, plain]
    moved = await client.request("orders", "move", {"point": Point(1, date(2026, 1, 2))})
    assert moved == {"x": 2, "at": "2026-01-02"}
    with pytest.raises(NuropbValidationError, match=r"line\.count: Input should be a valid int"):
        await client.request("orders", "add", {"line": {"article": "book", "count": "many"}})
    with pytest.raises(NuropbValidationError, match=r"point\.x: Expected `int`, got `str`"):
        await client.request("orders", "move", {"point": {"x": "far"}})


async def test_call_again_and_success(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    assert await client.request("orders", "call_again") == 2
    assert await client.request("orders", "succeed") == "done"


async def test_a_service_calls_itself_and_others(meshes: Meshes) -> None:
    class Prices:
        _service_name = "prices"
        mesh: Mesh

        async def total(self, lines: list[int]) -> int:
            doubled = [await self.mesh.request("prices", "double", {"of": each}) for each in lines]
            echoed = await self.mesh.request("orders", "echo", {"sum": sum(doubled)})
            return int(echoed["sum"])

        async def double(self, of: int) -> int:
            return 2 * of

    await meshes.serve(Orders())
    prices = Prices()
    prices.mesh = await meshes.serve(prices)
    client = await meshes.client()
    assert await client.request("prices", "total", {"lines": [1, 2, 3]}) == 12


async def test_requests_end_by_their_timeout_and_leave_nothing(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client(request_timeout=0.3)
    await client.describe_service("orders")
    for timeout in (0.2, None):
        with pytest.raises(NuropbTimeoutError) as caught:
            await client.request("orders", "wait", {"seconds": 1}, timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
    assert client.transport.pending == 0


async def test_cancelling_forgets_the_call(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    await client.describe_service("orders")
    call = asyncio.create_task(client.request("orders", "wait", {"seconds": 0.5}))
    await eventually(lambda: client.transport.pending == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert client.transport.pending == 0


async def test_an_unknown_service_is_told_at_once(meshes: Meshes) -> None:
    client = await meshes.client()
    for encrypted in (None, False, True):
        with pytest.raises(NuropbNotDeliveredError, match="nobody") as caught:
            await client.request("nobody", "echo", encrypted=encrypted)
        assert isinstance(caught.value, NuropbMessageError)
        with pytest.raises(NuropbNotDeliveredError, match="nobody"):
            await client.command("nobody", "echo", encrypted=encrypted)


async def test_remote_errors_carry_class_and_text(meshes: Meshes) -> None:
    class Failing:
        async def fail(self) -> None:
            raise LookupError("no such order")

        async def relay(self) -> None:
            await inner.request("orders", "fail")

    inner = await meshes.client()
    await meshes.serve(Failing())
    client = await meshes.client()
    for method in ("fail", "relay"):  # as if the error had gone through both services
        with pytest.raises(NuropbMessageError) as caught:
            await client.request("orders", method)
        error = caught.value
        assert isinstance(error, NuropbRemoteError)
        assert isinstance(error, NuropbException)
        assert (error.error, error.description) == ("LookupError", "no such order")
        assert str(error) == "LookupError: no such order"
        assert error.payload is not None
        assert error.payload["result"] is None


# -- descriptions ---------------------------------------------------------------------------


async def test_a_description_is_remembered_until_it_is_refreshed(meshes: Meshes) -> None:
    first = await meshes.serve(Orders())
    client = await meshes.client()
    described = await client.describe_service("orders")
    assert described["description"] == "Order desk"
    assert described["service_version"] == "1.2.0"
    assert set(described["methods"]["echo"]["parameters"]) == {
        "type", "properties", "required", "additionalProperties"
    }  # fmt: skip
    await first.stop()

    class Changed:
        """Changed"""

        def echo(self) -> None: ...

    await meshes.serve(Changed())
    assert await client.describe_service("orders") is described
    assert (await client.describe_service("orders", refresh=True))["description"] == "Changed"


async def test_many_first_callers_fetch_one_description(meshes: Meshes) -> None:
    service = await meshes.serve(Orders())
    client = await meshes.client()
    answers = await asyncio.gather(
        *(client.request("orders", "echo", {"number": number}) for number in range(50))
    )
    assert [each["number"] for each in answers] == list(range(50))
    assert service.state.up
    assert len(client.transport.dropped) == 0
    assert descriptions_of(client).fetching == {}


async def test_describing_what_is_not_there(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    with pytest.raises(NuropbNotDeliveredError):
        await client.describe_service("nobody")
    assert await client.requires_encryption("orders", "echo") is False
    assert await client.has_public_key("orders") is False
    with pytest.raises(NuropbValidationError, match="no method 'nope'"):
        await client.requires_encryption("orders", "nope")


async def test_a_service_that_does_not_answer_is_told_within_the_callers_timeout(
    meshes: Meshes,
) -> None:
    """Its queue is there, nobody consumes it: the call is not sent, since it might leak."""
    service = await meshes.serve(Orders())
    await service.stop()
    client = await meshes.client()
    with pytest.raises(NuropbNotSentError, match=r"did not describe itself within 0\.3 s"):
        await client.request("orders", "echo", timeout=0.3)
    with pytest.raises(NuropbNotSentError, match=r"with encrypted=False it is sent"):
        await client.command("orders", "note", {"what": "a"}, timeout=0.3)
    await client.command("orders", "note", {"what": "b"}, encrypted=False)
    served = Orders()
    await meshes.serve(served)
    await eventually(lambda: served.noted == ["b"])
