"""Requests and commands: what goes in, what comes out."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import msgspec
import pydantic
import pytest

from nuropb_rmq import (
    NuropbContextManager,
    NuropbMessageError,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    NuropbSerializationError,
    NuropbValidationError,
    nuropb_context,
    publish_to_mesh,
)

from ..mesh.support import Meshes
from ..support import eventually


class Colour(Enum):
    RED = "red"


class Line(pydantic.BaseModel):
    article: str
    count: int = 1


class Point(msgspec.Struct):
    x: int


@dataclasses.dataclass
class Size:
    width: int


class Orders:
    """Order desk."""

    _version = "1.2.0"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def echo(self, value: Any = None) -> Any:
        return value

    def sync(self, value: Any = None) -> Any:
        return [threading.current_thread().name, value]

    @publish_to_mesh(in_thread=False)
    def direct(self) -> str:
        return threading.current_thread().name

    async def note(self, value: Any) -> None:
        self.seen.append(value)

    def note_in_thread(self, value: Any) -> None:
        self.seen.append(value)

    @nuropb_context
    async def about(self, ctx: NuropbContextManager) -> list[Any]:
        return [dict(ctx.context), ctx.trace_id, (ctx.sender or "")[:14]]

    @nuropb_context
    async def note_context(self, ctx: NuropbContextManager) -> None:
        self.seen.append((dict(ctx.context), ctx.trace_id))

    async def integer(self, value: int) -> Any:
        return [type(value).__name__, value]

    async def number(self, value: float) -> Any:
        return [type(value).__name__, value]

    async def text(self, value: str) -> Any:
        return value

    async def flag(self, value: bool) -> Any:
        return value

    async def moment(self, value: datetime) -> Any:
        return [type(value).__name__, value]

    async def day(self, value: date) -> Any:
        return [type(value).__name__, value]

    async def clock(self, value: time) -> Any:
        return [type(value).__name__, value]

    async def identity(self, value: UUID) -> Any:
        return [type(value).__name__, value]

    async def money(self, value: Decimal) -> Any:
        return [type(value).__name__, value]

    async def colour(self, value: Colour) -> Any:
        return [value.name, value]

    async def choice(self, value: Literal["a", "b"]) -> Any:
        return value

    async def optional(self, value: int | None = None) -> Any:
        return value

    async def many(self, value: list[int]) -> Any:
        return sum(value)

    async def named(self, value: dict[str, int]) -> Any:
        return sorted(value.items())

    async def line(self, value: Line) -> Any:
        return [value.article, value.count, value]

    async def point(self, value: Point) -> Any:
        return Point(value.x + 1)

    async def size(self, value: Size) -> Any:
        return [type(value).__name__, value.width]


VALUES: dict[str, Any] = {
    "nothing": None,
    "empty text": "",
    "empty list": [],
    "empty dict": {},
    "unicode": "žluťoučký 🐴 \u2028 \x00",
    "integer": 2**62,
    "float": 1.5e300,
    "nested": {"a": [{"b": [1, {"c": None}]}]},
    "one frame": "x" * 130_000,
    "two frames": "x" * 131_100,
    "many frames": ["y" * 1000] * 1500,
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_value_goes_there_and_back(meshes: Meshes, value: Any) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    assert await client.request("orders", "echo", {"value": value}) == value


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_value_goes_by_a_command(meshes: Meshes, value: Any) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    await client.command("orders", "note", {"value": value})
    await eventually(lambda: orders.seen)
    assert orders.seen == [value]


UUID_TEXT = "2f1b1d5e-7d0a-4b7e-8f6e-3c9a1d2b4e5f"
HINTS: dict[str, tuple[Any, Any]] = {
    "integer": (3, ["int", 3]),
    "number": (3.5, ["float", 3.5]),
    "text": ("a", "a"),
    "flag": (True, True),
    "moment": ("2026-01-02T03:04:05Z", ["datetime", "2026-01-02T03:04:05Z"]),
    "day": ("2026-01-02", ["date", "2026-01-02Z"]),
    "clock": ("03:04:05", ["time", "03:04:05Z"]),
    "identity": (UUID_TEXT, ["UUID", UUID_TEXT]),
    "money": ("1.10", ["Decimal", "1.10"]),
    "colour": ("red", ["RED", "red"]),
    "choice": ("b", "b"),
    "optional": (None, None),
    "many": ([1, 2, 3], 6),
    "named": ({"a": 1}, [["a", 1]]),
    "line": ({"article": "A-1"}, ["A-1", 1, {"article": "A-1", "count": 1}]),
    "point": ({"x": 1}, {"x": 2}),
    "size": ({"width": 2}, ["Size", 2]),
}


@pytest.mark.parametrize("method", HINTS)
async def test_a_parameter_is_converted_by_its_hint(meshes: Meshes, method: str) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    value, expected = HINTS[method]
    assert await client.request("orders", method, {"value": value}) == expected


MISFITS: dict[str, Any] = {
    "integer": "three", "flag": 1, "day": "tomorrow", "identity": "x", "colour": "blue",
    "choice": "c", "many": [1, "two"], "line": {"count": 1}, "point": {"x": "one"},
}  # fmt: skip


@pytest.mark.parametrize("method", MISFITS)
async def test_a_parameter_that_does_not_fit_is_refused(meshes: Meshes, method: str) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    with pytest.raises(NuropbValidationError, match="value") as raised:
        await client.request("orders", method, {"value": MISFITS[method]})
    assert isinstance(raised.value, NuropbRemoteError)


@pytest.mark.parametrize(
    ("method", "params"),
    [("echo", {"other": 1}), ("integer", {}), ("nowhere", {}), ("_version", {})],
    ids=["unknown parameter", "missing parameter", "unknown method", "private name"],
)
async def test_a_call_that_is_not_published_is_refused(
    meshes: Meshes, method: str, params: dict[str, Any]
) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    with pytest.raises(NuropbMessageError) as raised:
        await client.request("orders", method, params)
    assert isinstance(raised.value, NuropbRemoteError)


async def test_methods_run_where_they_belong(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    name, value = await client.request("orders", "sync", {"value": 1})
    assert (name.startswith("nuropb-orders"), value) == (True, 1)
    assert await client.request("orders", "direct") == "MainThread"


@pytest.mark.parametrize("context", [{}, {"user": "u1", "roles": ["a", "b"], "n": None}])
async def test_context_trace_id_and_sender_arrive(meshes: Meshes, context: dict[str, Any]) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    about = await client.request("orders", "about", context=context, trace_id="t-1")
    assert about == [context, "t-1", "nuropb-client-"]


async def test_a_command_carries_its_context(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    await client.command("orders", "note_context", context={"user": "u"}, trace_id="t-2")
    await eventually(lambda: orders.seen == [({"user": "u"}, "t-2")])


async def test_commands_of_one_client_keep_their_order(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders, prefetch_count=1)
    client = await meshes.client()
    for number in range(30):
        await client.command("orders", "note", {"value": number})
    await eventually(lambda: len(orders.seen) == 30)
    assert orders.seen == list(range(30))


async def test_commands_wait_for_the_service(meshes: Meshes) -> None:
    """Its queue stays when it has gone."""
    first = await meshes.serve(Orders())
    await first.stop()
    client = await meshes.client()
    for number in range(3):
        await client.command("orders", "note", {"value": number}, encrypted=False)
    orders = Orders()
    await meshes.serve(orders)
    await eventually(lambda: orders.seen == [0, 1, 2])


@pytest.mark.parametrize("call", ["request", "command"])
async def test_nobody_has_that_name(meshes: Meshes, call: str) -> None:
    client = await meshes.client()
    with pytest.raises(NuropbNotDeliveredError, match="312 NO_ROUTE"):
        await getattr(client, call)("nobody", "echo", encrypted=False)
    with pytest.raises(NuropbNotDeliveredError, match="no queue takes it"):
        await getattr(client, call)("nobody", "echo")


async def test_a_service_calls_itself_and_others(meshes: Meshes) -> None:
    orders = await meshes.serve(Orders())
    stock = await meshes.serve(Orders(), service_name="stock")
    assert await orders.request("orders", "echo", {"value": 1}) == 1
    assert await orders.request("stock", "echo", {"value": 2}) == 2
    assert await stock.request("orders", "echo", {"value": 3}) == 3


async def test_instances_share_the_work(meshes: Meshes) -> None:
    both = [Orders(), Orders()]
    for orders in both:
        await meshes.serve(orders)
    client = await meshes.client()
    for number in range(10):
        await client.command("orders", "note", {"value": number})
    await eventually(lambda: sum(len(orders.seen) for orders in both) == 10)
    assert [len(orders.seen) for orders in both] == [5, 5]


async def test_a_service_describes_itself(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    described = await client.describe_service("orders")
    assert described["service_name"] == "orders"
    assert described["service_version"] == "1.2.0"
    assert {"echo", "sync", "line"} <= described["methods"].keys()
    assert "ctx" not in str(described["methods"]["about"])
    assert described == await client.describe_service("orders", refresh=True)
    assert not await client.has_public_key("orders")


async def test_what_json_lacks_is_not_sent(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    with pytest.raises(NuropbSerializationError):
        await client.request("orders", "echo", {"value": object()})
    assert await client.request("orders", "echo", {"value": 1}) == 1


@pytest.mark.parametrize("count", [32, 100])
async def test_many_at_a_time(meshes: Meshes, count: int) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    calls = [client.request("orders", "echo", {"value": n}) for n in range(count)]
    assert await asyncio.gather(*calls) == list(range(count))
    assert client.transport.pending == 0


async def test_threads_at_a_time(meshes: Meshes) -> None:
    orders = Orders()
    await meshes.serve(orders)
    client = await meshes.client()
    calls = [client.command("orders", "note_in_thread", {"value": n}) for n in range(50)]
    await asyncio.gather(*calls)
    await eventually(lambda: len(orders.seen) == 50)
    assert sorted(orders.seen) == list(range(50))


async def test_a_moment_of_the_client_arrives(meshes: Meshes) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert await client.request("orders", "moment", {"value": at}) == [
        "datetime",
        "2026-01-02T00:00:00Z",
    ]
