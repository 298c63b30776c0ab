"""Tests of the methods that a service publishes; row 43 of the faults has those it does not."""

from __future__ import annotations

import functools
import inspect
import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nuropb_rmq.exceptions import NuropbConfigurationError
from nuropb_rmq.protocol.serialization import encode_strictly
from nuropb_rmq.service.decorators import (
    NuropbContextManager,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.service.methods import Published

CAPTURES = json.loads((Path(__file__).parents[2] / "data" / "nuropb-0.1.8.json").read_bytes())


class Called:
    def __call__(self) -> str:
        return "called"


def double(number: int) -> int:
    return 2 * number


class BoundPartial(functools.partial[int]):
    """As functools.partial is from Python 3.14 on: bound to the object, like a function."""

    __signature__ = inspect.signature(double)

    def __get__(self, instance: object, owner: object = None) -> Any:
        return self


class Base:
    def inherited(self) -> str:
        return "inherited"

    def overridden(self) -> str:
        return "base"


class Service(Base):
    """Order desk"""

    stored = Called()
    now = time.time
    partial = functools.partial(double)
    bound_partial = BoundPartial(double)
    static_partial = staticmethod(BoundPartial(double))
    partial_method = functools.partialmethod(double)
    Nested = Called

    def __init__(self) -> None:
        self.attribute = lambda: "attribute"
        self.shadowed = lambda: "shadow"  # type: ignore[method-assign]
        self.read = 0

    @property
    def touched(self) -> Any:
        self.read += 1
        raise RuntimeError("a property was read")

    def public(self) -> None: ...

    async def public_async(self) -> None: ...

    def overridden(self) -> str:
        return "derived"

    def shadowed(self) -> str:
        return "method"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @staticmethod
    def static(a: int) -> int:
        return a

    @functools.lru_cache  # noqa: B019
    def cached(self) -> None: ...

    @publish_to_mesh(hide_method=True)
    def hidden(self) -> None: ...

    @publish_to_mesh(description="Said")
    def _private(self) -> None: ...

    def nuropb_describe(self) -> str:
        return "not the service's to answer"

    def __mangled(self) -> None: ...

    def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None: ...

    @mesh_event("orders.*")
    def on_order(self, event: Any) -> None: ...

    @mesh_event("orders.created", "#.eu")
    async def _on_created(self, topic: str, **others: Any) -> None: ...


def test_what_is_published() -> None:
    published = Published(Service(), "orders")
    assert set(published.methods) == {
        "inherited",
        "overridden",
        "public",
        "public_async",
        "shadowed",
        "of_class",
        "static",
        "cached",
    }
    assert published.methods["overridden"].call() == "derived"
    assert published.methods["shadowed"].call() == "method"
    assert published.methods["inherited"].call() == "inherited"
    assert published.methods["of_class"].call() == "Service"
    assert published.methods["static"].call(a=1) == 1
    assert [each.name for each in published.methods.values() if each.is_async] == ["public_async"]


def test_nothing_of_the_object_is_read() -> None:
    service = Service()
    Published(service, "orders").describe()
    assert service.read == 0


def test_a_class_publishes_what_needs_no_instance_by_rmqapi() -> None:
    published = Published(Service, "orders", checks=False)
    assert set(published.methods) == {"of_class", "static"}
    assert published.methods["of_class"].call() == "Service"


class AllHidden:
    attribute = time.time

    @publish_to_mesh(hide_method=True)
    def hidden(self) -> None: ...


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (Service, r"is the class Service: give an instance of it, Service\(\)"),
        (inspect, "module publishes nothing: expected an object"),
        (lambda: 1, "function publishes nothing"),
        (Service().public, "method publishes nothing"),
        (functools.partial(len), "partial publishes nothing"),
        (0, "int publishes nothing"),
        ("orders", "str publishes nothing"),
        ({"get": len}, "dict publishes nothing"),
        (object(), "object publishes nothing"),
        (AllHidden(), "AllHidden publishes nothing"),
    ],
)
def test_what_publishes_nothing_is_no_service(service: object, says: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=says) as caught:
        Published(service, "orders")
    assert caught.value.field == "service"
    Published(service, "orders", checks=False)  # as nuropb: RMQAPI


def generating(self: object) -> Iterator[int]:
    yield 1


async def generating_later(self: object) -> AsyncIterator[int]:
    yield 1


@mesh_event("t")
async def generating_for_events(self: object) -> AsyncIterator[int]:
    yield 1


@functools.wraps(generating)
def wrapped(self: object) -> Any:
    return generating(self)


@pytest.mark.parametrize(
    "method",
    [
        *(generating, generating_later, wrapped, staticmethod(generating)),
        *(classmethod(generating), generating_for_events),
    ],
)
def test_a_generator_is_no_method(method: Any) -> None:
    service = type("Listing", (Base,), {"listed": method})()
    with pytest.raises(NuropbConfigurationError, match="service: listed: is a generator"):
        Published(service, "orders")
    published = Published(service, "orders", checks=False)
    assert "listed" not in published.methods
    assert published.topics == ()


def test_a_generator_that_nobody_calls_is_none_of_our_business() -> None:
    class Listing(Base):
        @publish_to_mesh(hide_method=True)
        def listed(self) -> Iterator[int]:
            yield 1

        def _each(self) -> Iterator[int]:
            yield 1

    assert set(Published(Listing(), "orders").methods) == {"inherited", "overridden"}


def test_methods_of_pythons_own_types_are_not_published() -> None:
    class Service(dict[str, int]):
        def mine(self) -> None: ...

        def pop(self, key: str) -> None:  # type: ignore[override]
            """One's own is."""

    assert set(Published(Service(), "orders").methods) == {"mine", "pop"}


def test_methods_without_a_signature_are_not_published() -> None:
    class Service(dict[str, int]):
        def mine(self) -> None: ...

        change = dict.update

    with pytest.raises(ValueError, match="signature"):
        inspect.signature(Service.change)
    assert set(Published(Service(), "orders").methods) == {"mine"}


def test_event_handlers_by_topic() -> None:
    published = Published(Service(), "orders")
    assert set(published.topics) == {"orders.*", "orders.created", "#.eu"}

    def names(topic: str) -> set[str]:
        return {each.name for each in published.handlers(topic) or published.fallback()}

    assert names("orders.cancelled") == {"on_order"}
    assert names("orders.created") == {"on_order", "_on_created"}
    assert names("invoices.eu") == {"_on_created"}
    assert names("invoices") == {"_handle_event_"}
    assert published.handlers("orders.x")[0].takes == frozenset({"event"})
    assert published.handlers("a.eu")[0].takes == frozenset({"topic", "event", "target", "context"})
    assert published.handlers("a.eu")[0].is_async
    assert published.fallback()[0].takes is None
    assert Published(Base(), "orders").handlers("x") == ()
    assert Published(Base(), "orders").fallback() == ()


async def _later(*_: Any) -> None: ...


def test_handle_event_may_be_set_on_the_object() -> None:
    """Before the service is made or after it, in place of the class's own, and taken off again."""
    service: Any = Service()
    published = Published(service, "orders")
    of_class = published.fallback()
    service._handle_event_ = _later
    (handler,) = published.fallback()
    assert handler.call is _later
    assert handler.is_async
    assert published.fallback() == (handler,)
    assert published.handlers("orders.created"), "what is marked has its turn all the same"
    service._handle_event_ = None
    assert published.fallback() == of_class
    service._handle_event_ = partial = functools.partial(_later, 1)
    assert published.fallback()[0].call is partial
    del service._handle_event_
    assert published.fallback() == of_class
    base: Any = Base()
    base._handle_event_ = _later
    assert Published(base, "orders").fallback()[0].call is _later


def _generator(*_: Any) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "what"), [(1, "not a int"), (_generator, "not a generator function")]
)
def test_a_handle_event_that_cannot_be_called_is_refused(value: object, what: str) -> None:
    service: Any = Base()
    service._handle_event_ = value
    with pytest.raises(NuropbConfigurationError, match=f"_handle_event_ must be .*{what}"):
        Published(service, "orders")


def test_a_handle_event_set_on_the_object_drops_no_guard() -> None:
    class Guarded:
        @publish_to_mesh(authorize_func=lambda _: True)
        def _handle_event_(self, *_: Any) -> None: ...

    service: Any = Guarded()
    service._handle_event_ = _later
    with pytest.raises(NuropbConfigurationError, match="overrides a method that has authorize"):
        Published(service, "orders")


def test_methods_that_could_never_be_called_are_refused() -> None:
    class Positional:
        def get(self, a: int, /) -> None: ...

    with pytest.raises(NuropbConfigurationError, match="get: parameter 'a' is positional-only"):
        Published(Positional(), "orders")

    class Handler:
        @mesh_event("t")
        def on(self, order: int) -> None: ...

    with pytest.raises(NuropbConfigurationError, match=r"on: .* not order"):
        Published(Handler(), "orders")

    class Sealed:
        @mesh_event("t")
        @publish_to_mesh(requires_encryption=True)
        def on(self, event: int) -> None: ...

    with pytest.raises(NuropbConfigurationError, match="on: requires encryption, and events are"):
        Published(Sealed(), "orders")

    class Key:
        _private_key = "-----BEGIN"

    with pytest.raises(NuropbConfigurationError, match="_private_key must be an RSAPrivateKey"):
        Published(Key(), "orders")


# -- the description ------------------------------------------------------------------------


def captured_description() -> dict[str, Any]:
    (message,) = CAPTURES["response_describe"]
    result: dict[str, Any] = json.loads(b64decode(message["body_b64"]))["result"]
    return result


def captured_key() -> rsa.RSAPrivateKey:
    key = load_pem_private_key(CAPTURES["service_private_key_pem"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


class Captured:
    """Order desk"""

    _service_name = "orders"
    _version = "1.2.0"
    _private_key = captured_key()

    def get_total(self, order_id: str, currency: str = "EUR") -> None:
        """Total of an order"""

    def fail(self) -> None: ...

    async def fail_async(self) -> None: ...

    def refuse(self) -> None: ...

    def slow(self, **kw: Any) -> None: ...

    def success(self) -> None: ...

    @nuropb_context
    @publish_to_mesh(requires_encryption=True)
    def secret(self, ctx: NuropbContextManager, pin: str) -> None: ...


def test_the_description_is_the_captured_one() -> None:
    described = json.loads(json.dumps(Published(Captured(), "orders").describe()))
    expected = captured_description()
    # The one thing that 0.1.8 says and that is not so: **kw is no required parameter "kw".
    expected["methods"]["slow"]["parameters"] = {
        "type": "object",
        "properties": [],
        "required": [],
        "additionalProperties": True,
    }
    for method in described["methods"].values():
        assert method.pop("params_schema")["type"] == "object"
        assert method.pop("result_schema").keys() <= {"type"}
    assert described == expected


def test_any_version_can_be_described() -> None:
    class Version:
        def __str__(self) -> str:
            return "1.2"

    for version, told in ((Version(), "1.2"), ((1, 2), (1, 2)), ("1", "1"), (None, None)):
        service = type("Orders", (Base,), {"_version": version})()
        described = Published(service, "orders").describe()
        assert described["service_version"] == told
        encode_strictly(described)


def test_a_service_without_a_key_says_what_cannot_be_called() -> None:
    class Service:
        @publish_to_mesh(requires_encryption=True)
        def secret(self) -> None: ...

    published = Published(Service(), "orders")
    assert published.needs_private_key == ("secret",)
    described = published.describe()
    assert described["public_key"] is None
    assert "secret" in described["warnings"][0]
    assert described["description"] is None
