"""Row 43: a call of something that is no published method: a private one, say, or an attribute.

Published are the public methods of the object's class and its bases; all else gets a typed error.
"""

from __future__ import annotations

import asyncio
import functools
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import pika
import pytest

from nuropb_rmq import (
    NuropbContextManager,
    NuropbHandlingError,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.protocol.constants import MessageType
from nuropb_rmq.service.handler import Serving
from nuropb_rmq.service.methods import Published

from ..compat.apis import Apis
from ..encrypting import DL_QUEUE, HEADERS, TAP_QUEUE, Tap, tapping
from ..mesh.support import Meshes
from ..support import Transports

RAN: Final[list[str]] = []
"""Names of all that was called here."""


class Callback:
    """A callable that is no method."""

    def __call__(self, **_: Any) -> str:
        RAN.append("callback")
        return "ran"


class Meta(type):
    def of_the_class_of_the_class(cls) -> None:
        RAN.append("of_the_class_of_the_class")


def ran(name: str) -> str:
    RAN.append(name)
    return "ran"


class Base(ABC):
    @abstractmethod
    def of_the_base(self) -> str: ...

    def inherited(self) -> str:
        return ran("inherited")

    def withdrawn(self) -> str:
        return ran("withdrawn")

    @publish_to_mesh(hide_method=True)
    def hidden_in_the_base(self) -> str:
        return ran("hidden_in_the_base")

    @publish_to_mesh(hide_method=True)
    def overridden(self) -> str:
        return ran("overridden in the base")


class Mixin(dict[str, int]):
    """A mixin that is a dict: methods of dict are not published, nor is anything of `object`."""

    def mixed_in(self) -> str:
        return ran("mixed_in")


class Service(Base, Mixin):
    _service_name = "orders"
    stored = Callback()
    Nested = Callback
    partial = functools.partial(ran, "partial")
    partial_method = functools.partialmethod(ran)
    text = "text"
    withdrawn = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.of_the_instance = Callback()
        self.monkey = lambda: ran("monkey")

    def public(self) -> str:
        return ran("public")

    async def public_async(self) -> str:
        return ran("public_async")

    def of_the_base(self) -> str:
        return ran("of_the_base")

    def overridden(self) -> str:
        """An override says for itself what it is."""
        return ran("overridden")

    @classmethod
    def of_the_class(cls) -> str:
        return ran("of_the_class")

    @staticmethod
    def static() -> str:
        return ran("static")

    @nuropb_context
    def with_context(self, ctx: NuropbContextManager) -> str:
        return ran("with_context")

    @property
    def evaluated(self) -> Callable[[], str]:
        RAN.append("evaluated")
        return lambda: ran("evaluated")

    @functools.cached_property
    def evaluated_once(self) -> Callable[[], str]:
        RAN.append("evaluated_once")
        return lambda: ran("evaluated_once")

    def _private(self) -> str:
        return ran("_private")

    def __very_private(self) -> str:
        return ran("__very_private")

    @publish_to_mesh(description="It is private all the same")
    def _decorated(self) -> str:
        return ran("_decorated")

    @publish_to_mesh(hide_method=True)
    def hidden(self) -> str:
        return ran("hidden")

    also_hidden = hidden

    @publish_to_mesh(hide_method=True)
    @classmethod
    def hidden_of_the_class(cls) -> str:
        return ran("hidden_of_the_class")

    @staticmethod
    @publish_to_mesh(hide_method=True)
    def hidden_static() -> str:
        return ran("hidden_static")

    @mesh_event("orders.*")
    def on_order(self, event: Any) -> None:
        RAN.append("on_order")

    def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
        RAN.append("_handle_event_")

    def nuropb_describe(self) -> str:
        return ran("nuropb_describe")

    def __call__(self) -> str:
        return ran("__call__")


PUBLISHED: Final = {
    "public", "public_async", "of_the_base", "inherited", "overridden", "mixed_in",
    "of_the_class", "static", "with_context",
}  # fmt: skip


class Generating(Service):
    """RMQAPI serves it without these; for a Mesh they are an error (unit/service/test_methods)."""

    def generator(self) -> Iterator[str]:
        yield ran("generator")

    async def async_generator(self) -> AsyncIterator[str]:
        yield ran("async_generator")


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    """Before the test."""
    RAN.clear()


class Asked(NamedTuple):
    """A request, as Serving sees it."""

    payload: Mapping[str, Any]
    kind: MessageType = MessageType.REQUEST
    correlation_id: str = "c"
    trace_id: str | None = None
    encrypted: bool = True
    attempts: int = 1

    @classmethod
    def for_method(cls, name: str, **params: Any) -> Asked:
        return cls({"method": name, "params": params, "context": {}})


@pytest.mark.parametrize("checks", [True, False], ids=["Mesh", "RMQAPI"])
async def test_row_43_description_and_calls_agree(checks: bool) -> None:
    """Every name that there is, of the object, its class, and that one's class."""
    service = Service() if checks else Generating()
    serving = Serving(Published(service, "orders", checks=checks), threads=None)
    described = await serving.handle(Asked.for_method("nuropb_describe"))
    assert set(described["methods"]) == PUBLISHED
    names = {*dir(service), *dir(Service), *dir(Meta), *vars(service), *dir(service.stored)}
    assert len(names) > 100
    for name in names - PUBLISHED - {"nuropb_describe"}:
        with pytest.raises(NuropbHandlingError, match="Unknown method"):
            await serving.handle(Asked.for_method(name))
    assert RAN == [], "nothing ran, and no property was evaluated"
    for name in sorted(PUBLISHED):
        assert await serving.handle(Asked.for_method(name)) == "ran"
    assert sorted(PUBLISHED) == RAN


async def test_row_43_of_a_class_that_is_served() -> None:
    """By RMQAPI: it publishes what needs no instance, and nothing of its metaclass."""

    class Served(metaclass=Meta):
        def of_an_instance(self) -> str:
            return ran("of_an_instance")

        @classmethod
        def of_the_class(cls) -> str:
            return ran("of_the_class")

        @staticmethod
        def static() -> str:
            return ran("static")

    serving = Serving(Published(Served, "orders", checks=False), threads=None)
    described = await serving.handle(Asked.for_method("nuropb_describe"))
    assert set(described["methods"]) == {"of_the_class", "static"}
    for name in {*dir(Served), *dir(Meta)} - {"of_the_class", "static"}:
        with pytest.raises(NuropbHandlingError, match="Unknown method"):
            await serving.handle(Asked.for_method(name))
    assert RAN == []


# -- over the broker ------------------------------------------------------------------------

UNKNOWN, MALFORMED = "NuropbHandlingError", "MalformedMessageError"
NAMES: Final = [
    "__init__", "__class__", "__call__", "__getattribute__", "__reduce__", "_handle_event_",
    "_private", "_Service__very_private", "hidden", "also_hidden", "hidden_static",
    "hidden_in_the_base", "withdrawn", "stored", "of_the_instance", "monkey", "evaluated",
    "on_order", "generator", "update", "pop",
    "public.__call__", "public.__self__.hidden", "stored.__call__", "self.public",
    "Service.public", "orders.public", "../public", "public()", "", ".", "*", "x" * 100_000,
]  # fmt: skip
LOOKALIKES: Final = [
    "PUBLIC", " public", "public ", "public\n", "public\0", "\u200bpublic", "public\u0301",
    "\u0440ublic", "\uff50ublic", "publi\u212d",
]  # fmt: skip
"""They look like a published name, and Python itself takes the last but one for that."""
VALUES: Final = [None, 7, True, 1.5, ["public"], {"public": 1}, [["public"]]]
PARAMS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("public", {"self": {}}),
    ("of_the_class", {"cls": "x"}),
    ("with_context", {"ctx": {"user": "admin"}}),
    ("with_context", {"self": 1, "ctx": {}}),
    ("public", {"__class__": "x"}),
    ("public", {"": 1}),
]
"""Parameters that nobody may give, for they are not the caller's."""


def ask(tap: Tap, number: int, method: Any, params: Mapping[str, Any]) -> None:
    """Publish a request for this method, whatever it is."""
    payload = {"tag": "request", "service": "orders", "method": method, "params": params}
    said = {**HEADERS, "nuropb_type": "request", "encrypted": ""}
    properties = pika.BasicProperties(correlation_id=str(number), reply_to=TAP_QUEUE, headers=said)
    tap.channel.basic_publish(
        "nuropb-rpc-exchange", "orders", json.dumps({**payload, "context": {}}).encode(), properties
    )


@pytest.mark.parametrize("surface", ["Mesh", "RMQAPI"])
async def test_row_43_hostile_requests_get_typed_errors(
    mesh: Transports, meshes: Meshes, apis: Apis, surface: str
) -> None:
    service = Service()
    await (
        meshes.serve(service, dead_letter_requests=True)
        if surface == "Mesh"
        else apis.connect(service)
    )
    client = await meshes.client()
    # RMQAPI gives a method what it gets, as nuropb does: then Python refuses it.
    unfit = "NuropbValidationError" if surface == "Mesh" else "TypeError"
    calls: list[tuple[Any, dict[str, Any], str]] = [
        *((name, {}, UNKNOWN) for name in (*NAMES, *LOOKALIKES)),
        *((value, {}, MALFORMED) for value in VALUES),
        *((method, params, unfit) for method, params in PARAMS),
    ]

    def attack() -> dict[str, str]:
        for number, (method, params, _) in enumerate(calls):
            ask(tap, number, method, params)
        answers = {
            str(properties.correlation_id): json.loads(body)
            for properties, body in tap.take(count=len(calls))
        }
        assert all(len(answer["error"]["description"]) < 1000 for answer in answers.values())
        tap.take(DL_QUEUE, len(calls))
        return {number: answer["error"]["error"] for number, answer in answers.items()}

    async with tapping(mesh) as tap:
        told = await asyncio.to_thread(attack)
    expected = {str(number): error for number, (_, _, error) in enumerate(calls)}
    assert told == expected
    assert RAN == []
    for name in sorted(PUBLISHED):
        assert await client.request("orders", name) == "ran"
    assert sorted(PUBLISHED) == RAN
    assert set((await client.describe_service("orders"))["methods"]) == PUBLISHED
