"""Values that JSON lacks, through Mesh: parameters, results, events, and what cannot be sent."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict

import pydantic
import pytest

from nuropb_rmq import (
    RMQAPI,
    Mesh,
    NuropbConfigurationError,
    NuropbContextManager,
    NuropbHandlingError,
    NuropbRemoteError,
    NuropbSerializationError,
    NuropbValidationError,
    TransportClosedError,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)

from ..support import eventually
from .support import Meshes

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
DAY = datetime.date(2026, 1, 2)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Line:
    article: str
    price: Decimal
    when: datetime.datetime


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    lines: list[Line]


class Address(TypedDict):
    since: datetime.date


class Point(NamedTuple):
    x: float
    day: datetime.date


class Model(pydantic.BaseModel):
    when: datetime.datetime
    day: datetime.date


ALL: dict[str, Any] = {
    "when": WHEN,
    "day": DAY,
    "at": datetime.time(3, 4, tzinfo=datetime.UTC),
    "long": datetime.timedelta(days=1, seconds=2),
    "price": Decimal("12.50"),
    "id": uuid.UUID(int=7),
    "body": b"\x00\xff",
    "colour": Colour.RED,
    "choice": "a",
    "tags": {"x", "y"},
    "pair": (1, "a"),
    "order": Order(uuid.UUID(int=1), [Line("a", Decimal("1.5"), WHEN)]),
    "address": {"since": DAY},
    "point": Point(1.5, DAY),
    "model": Model(when=WHEN, day=DAY),
}


async def _never_awaited() -> None: ...


class Values:
    _service_name = "values"

    def __init__(self) -> None:
        self.taken: dict[str, Any] = {}
        self.events: list[Any] = []
        self.coroutine = _never_awaited()

    async def take(
        self,
        *,
        when: datetime.datetime,
        day: datetime.date,
        at: datetime.time,
        long: datetime.timedelta,
        price: Decimal,
        id: uuid.UUID,  # noqa: A002
        body: bytes,
        colour: Colour,
        choice: Literal["a", "b"],
        tags: set[str],
        pair: tuple[int, str],
        order: Order,
        address: Address,
        point: Point,
        model: Model,
    ) -> dict[str, Any]:
        self.taken = {name: each for name, each in locals().items() if name != "self"}
        return self.taken

    async def give(self, what: str) -> Any:
        return {"items": [1, 2, 3, {"when": self._odd(what)}]}

    @nuropb_context
    async def publish(self, ctx: NuropbContextManager, what: str) -> str:
        odd = self._odd(what)
        ctx.add_event({"topic": "values.made", "event": {"when": odd}})
        return "published"

    def _odd(self, what: str) -> Any:
        odd = {
            "object": object(),
            "generator": iter([1]),
            "coroutine": self.coroutine,
            "time": WHEN,
        }
        return odd[what]

    async def fail(self) -> None:
        class OddError(NuropbHandlingError):
            def to_dict(self) -> dict[str, Any]:
                return {**super().to_dict(), "when": WHEN, "odd": _never_awaited}

        raise OddError("no luck")

    def get_total(self) -> int:
        return 7

    @publish_to_mesh(hide_method=True)
    def get_secret(self) -> int:
        return 8

    @mesh_event("values.*")
    async def on_values(self, event: dict[str, datetime.datetime]) -> None:
        self.events.append(event)


@pytest.fixture
def values() -> Iterator[Values]:
    made = Values()
    yield made
    made.coroutine.close()


async def test_parameters_are_what_the_hints_say(meshes: Meshes, values: Values) -> None:
    await meshes.serve(values)
    client = await meshes.client()
    result = await client.request("values", "take", ALL)
    assert values.taken == ALL
    assert {name: type(each) for name, each in values.taken.items()} == {
        name: type(each) for name, each in ALL.items()
    }
    assert result == {
        "when": "2026-01-02T03:04:05Z",
        "day": "2026-01-02Z",
        "at": "03:04:00Z",
        "long": "1 day, 0:00:02",
        "price": "12.50",
        "id": str(uuid.UUID(int=7)),
        "body": "AP8=",
        "colour": "red",
        "choice": "a",
        "tags": result["tags"],
        "pair": [1, "a"],
        "order": {
            "id": str(uuid.UUID(int=1)),
            "lines": [{"article": "a", "price": "1.5", "when": "2026-01-02T03:04:05Z"}],
        },
        "address": {"since": "2026-01-02Z"},
        "point": [1.5, "2026-01-02Z"],
        "model": {"when": "2026-01-02T03:04:05Z", "day": "2026-01-02"},
    }
    assert sorted(result["tags"]) == ["x", "y"]
    values.taken = {}
    again = await client.request("values", "take", result)
    for each in (result, again):
        each["tags"].sort()  # those of a set
    assert again == result, "as it came, once more"
    assert values.taken == ALL


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"when": "hush"}, "params.when: expected a date and time (ISO 8601), got another string"),
        ({"choice": "hush"}, "params.choice: expected one of 'a', 'b', got another value"),
        ({"pair": ["hush", "a"]}, "params.pair[0]: expected an integer, got a string"),
        (
            {"order": {"id": str(uuid.UUID(int=1)), "lines": [{"article": "a", "price": "hush"}]}},
            "params.order.lines[0].price: expected a decimal number, got another string",
        ),
        ({"model": {"when": "hush", "day": DAY}}, "params.model.when: Input should be a valid"),
    ],
)
async def test_what_does_not_fit_is_named_by_its_path(
    meshes: Meshes, values: Values, changed: dict[str, Any], says: str
) -> None:
    await meshes.serve(values)
    client = await meshes.client()
    with pytest.raises(NuropbValidationError) as caught:
        await client.request("values", "take", {**ALL, **changed})
    assert says in str(caught.value)
    assert "hush" not in str(caught.value)
    assert values.taken == {}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("object", "object has no JSON form"),
        ("generator", "list_iterator has no JSON form"),
        ("coroutine", "coroutine has no JSON form (was it awaited?)"),
    ],
)
async def test_what_has_no_json_form_is_not_sent(
    meshes: Meshes, values: Values, what: str, says: str
) -> None:
    await meshes.serve(values)
    client = await meshes.client()
    with pytest.raises(NuropbSerializationError) as caught:  # a result
        await client.request("values", "give", {"what": what}, timeout=5)
    assert isinstance(caught.value, NuropbRemoteError)
    assert f"{says}, at result.items[3].when" in str(caught.value)
    with pytest.raises(NuropbSerializationError) as caught:  # an event of a method
        await client.request("values", "publish", {"what": what}, timeout=5)
    assert f"{says}, at event.when" in str(caught.value)
    odd = values._odd(what)
    for call in (  # what a caller sends
        client.request("values", "give", {"what": odd}),
        client.command("values", "give", {"what": odd}),
        client.publish_event("values.made", {"what": odd}),
    ):
        with pytest.raises(NuropbSerializationError) as caught:
            await call
        assert not isinstance(caught.value, NuropbRemoteError)
        assert says in str(caught.value)
        assert str(caught.value).endswith((", at params.what", ", at event.what"))
    assert await client.request("values", "publish", {"what": "time"}, timeout=5) == "published"
    await eventually(lambda: values.events == [{"when": WHEN}])


async def test_an_error_is_answered_whatever_it_says(meshes: Meshes, values: Values) -> None:
    await meshes.serve(values)
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError, match="no luck") as caught:
        await client.request("values", "fail", timeout=5)
    assert caught.value.payload is not None
    assert caught.value.payload["error"]["when"] == "2026-01-02T03:04:05+00:00Z"


async def test_rmqapi_sends_what_nuropb_sends(meshes: Meshes, values: Values) -> None:
    await meshes.client()  # it makes the exchanges
    api = RMQAPI(meshes.url, service_name="values", service_instance=values)
    await api.connect()
    try:
        for what, text in (("object", "<object object at"), ("time", "2026-01-02T03:04:05+00:00Z")):
            result = await api.request("values", "give", {"what": what}, {})
            assert result["items"][3]["when"].startswith(text)
    finally:
        await api.disconnect()


# -- names, and a mesh that was not started -------------------------------------------------


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("get_totl", "did you mean get_total?"),
        ("GetTotal", "did you mean get_total?"),
        ("get_secre", "nuropb_describe lists its methods"),
        ("xyz", "nuropb_describe lists its methods"),
    ],
)
async def test_a_misspelt_method(meshes: Meshes, values: Values, method: str, says: str) -> None:
    await meshes.serve(values)
    client = await meshes.client()
    with pytest.raises(NuropbHandlingError) as caught:
        await client.request("values", method, timeout=5)
    assert says in str(caught.value)
    assert "get_secret" not in str(caught.value), "nobody is told of what is hidden"


async def test_a_mesh_that_was_not_started_says_so(mesh_url: str) -> None:
    mesh = Mesh(mesh_url)
    for call in (
        mesh.request("values", "take"),
        mesh.request("values", "take", encrypted=False),
        mesh.command("values", "take"),
        mesh.publish_event("values.made", {}),
        mesh.describe_service("values"),
    ):
        with pytest.raises(TransportClosedError, match="not started: use async with, or await"):
            await call
    async with mesh:
        await mesh.publish_event("values.made", {})
    with pytest.raises(TransportClosedError, match="the transport is stopped"):
        await mesh.publish_event("values.made", {})
    assert len(asyncio.all_tasks()) == 1


def test_a_service_that_cannot_be_checked_is_refused_when_it_is_made() -> None:
    class Odd:
        def take(self, order: Values) -> None: ...

    with pytest.raises(NuropbConfigurationError, match="take: parameter 'order': Values cannot"):
        Mesh("amqp://localhost/", service_name="odd", service=Odd())
    RMQAPI("amqp://localhost/", service_name="odd", service_instance=Odd())
    with pytest.raises(NuropbConfigurationError, match="service: is the class Values: give an"):
        Mesh("amqp://localhost/", service=Values)
    for service in (0, lambda: 1, asyncio):
        with pytest.raises(NuropbConfigurationError, match=r"service: .* publishes nothing"):
            Mesh("amqp://localhost/", service_name="odd", service=service)
