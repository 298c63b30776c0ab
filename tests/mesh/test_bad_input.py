"""Bad input, and handlers that go wrong: a typed error in bounded time, and the service lives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import pytest

from nuropb_rmq import (
    Mesh,
    NuropbConfigurationError,
    NuropbContextManager,
    NuropbException,
    NuropbHandlingError,
    NuropbRemoteError,
    NuropbSerializationError,
    NuropbValidationError,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)

from .support import Meshes


class OwnBaseException(BaseException):
    """Not even an Exception."""


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("hush-hush")


RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("said"),
    "SystemExit": lambda: SystemExit("said"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("said"),
    "GeneratorExit": lambda: GeneratorExit("said"),
    "CancelledError": lambda: asyncio.CancelledError("said"),
    "StopIteration": lambda: StopIteration("said"),
    "StopAsyncIteration": lambda: StopAsyncIteration("said"),
    "TimeoutError": lambda: TimeoutError("said"),
    "RecursionError": lambda: RecursionError("said"),
    "OwnBaseException": lambda: OwnBaseException("said"),
    "ExceptionGroup": lambda: ExceptionGroup("said", [ValueError(1)]),
}
# What cannot pass through a coroutine, or must not reach the loop, is told in another way.
TOLD_AS = {
    "SystemExit": "NuropbHandlingError",
    "KeyboardInterrupt": "NuropbHandlingError",
    "StopIteration": "RuntimeError",
}


class Odd:
    _service_name = "odd"
    attribute: Callable[[], str]
    release = threading.Event()

    def __init__(self) -> None:
        self.attribute = lambda: "called"

    async def echo(self, **params: Any) -> Any:
        return params

    async def fail_async(self, what: str) -> None:
        raise RAISED[what]()

    def fail_in_thread(self, what: str) -> None:
        raise RAISED[what]()

    @publish_to_mesh(in_thread=False)
    def fail_inline(self, what: str) -> None:
        raise RAISED[what]()

    def take(self, number: int, day: datetime | None = None) -> int:
        return number

    @nuropb_context
    def in_context(self, ctx: NuropbContextManager, number: int = 0) -> int:
        return number

    @publish_to_mesh(hide_method=True)
    def hidden(self) -> str:
        return "called"

    def _private(self) -> str:
        return "called"

    @mesh_event("t")
    def on_event(self) -> str:
        return "called"

    def circle(self) -> Any:
        made: list[Any] = []
        made.append(made)
        return made

    async def bad_key(self) -> Any:
        return {(1, 2): 3}

    async def unprintable(self) -> Any:
        return [Unprintable()]

    async def deep(self, levels: int = 100_000) -> Any:
        made: list[Any] = []
        for _ in range(levels - 1):
            made = [made]
        return made

    async def large(self, size: int) -> str:
        return "x" * size

    async def never(self) -> None:
        await asyncio.Event().wait()

    async def stubborn(self) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return

    def never_in_thread(self) -> None:
        assert self.release.wait(30)


LIMIT = 100_000
"""Bytes of a body."""


async def odd(meshes: Meshes, **settings: Any) -> Mesh:
    """Serve it; a client that has described it."""
    settings.setdefault("max_body_bytes", LIMIT)
    await meshes.serve(Odd(), amqp_url=meshes.config("odd", **settings))
    client = await meshes.client()
    await client.describe_service("odd")
    return client


async def lives(client: Mesh) -> None:
    """The service answers still."""
    assert await client.request("odd", "echo", {"a": 1}, timeout=5) == {"a": 1}


@pytest.mark.parametrize("what", RAISED)
async def test_whatever_a_method_raises_is_told(meshes: Meshes, what: str) -> None:
    client = await odd(meshes)
    for method in ("fail_async", "fail_in_thread", "fail_inline"):
        with pytest.raises(NuropbRemoteError) as caught:
            await client.request("odd", method, {"what": what}, timeout=5)
        assert caught.value.error == TOLD_AS.get(what, what)
        if what != "StopIteration":
            assert "said" in caught.value.description
        await client.command("odd", method, {"what": what})
    await lives(client)


class Bad(NamedTuple):
    """A request, and what its error is and says."""

    method: Any
    params: Any
    error: type[NuropbException]
    says: str
    context: Any = None


BAD: dict[str, Bad] = {
    "an unknown method": Bad("nope", {}, NuropbHandlingError, "Unknown method 'nope'"),
    "no method": Bad("", {}, NuropbHandlingError, "Unknown method ''"),
    "a private method": Bad("_private", {}, NuropbHandlingError, "Unknown method '_private'"),
    "a special method": Bad("__init__", {}, NuropbHandlingError, "Unknown method"),
    "a hidden method": Bad("hidden", {}, NuropbHandlingError, "Unknown method 'hidden'"),
    "a handler of events": Bad("on_event", {}, NuropbHandlingError, "Unknown method"),
    "a callable attribute": Bad("attribute", {}, NuropbHandlingError, "Unknown method"),
    "an attribute that is no method": Bad("release", {}, NuropbHandlingError, "Unknown method"),
    "a method of a method": Bad("echo.__self__", {}, NuropbHandlingError, "Unknown method"),
    "a very long method": Bad("m" * 50_000, {}, NuropbHandlingError, "Unknown method 'mmm"),
    "a missing parameter": Bad("take", {}, NuropbValidationError, "number: missing"),
    "an unknown parameter": Bad(
        "take", {"number": 1, "dya": 2}, NuropbValidationError, "dya: no such parameter; did you"
    ),
    "a parameter of another type": Bad(
        "take",
        {"number": "1"},
        NuropbValidationError,
        "params.number: expected an integer, got a string",
    ),
    "null": Bad(
        "take", {"number": None}, NuropbValidationError, "number: expected an integer, got null"
    ),
    "true for a number": Bad(
        "take",
        {"number": True},
        NuropbValidationError,
        "number: expected an integer, got true or false",
    ),
    "self": Bad("take", {"self": 1, "number": 1}, NuropbValidationError, "self: no such"),
    "self, where any name goes": Bad("echo", {"self": 1}, NuropbRemoteError, "TypeError"),
    "the context as a parameter": Bad(
        "in_context", {"ctx": {}}, NuropbValidationError, "ctx: no such parameter"
    ),
    "params that are a list": Bad(
        "take", [1], NuropbValidationError, "'params': expected dict, got list"
    ),
    "params that are text": Bad(
        "take", "number=1", NuropbValidationError, "'params': expected dict, got str"
    ),
    "a context that is a list": Bad("echo", {}, NuropbValidationError, "'context'", context=[1]),
    "a method that is a number": Bad(
        7, {}, NuropbValidationError, "'method': expected str, got int"
    ),
    "a method that is a list": Bad(
        ["echo"], {}, NuropbValidationError, "'method': expected str, got list"
    ),
    "params that JSON cannot carry": Bad(
        "echo", {"a": {(1, 2): 3}}, NuropbSerializationError, "params.a"
    ),
    "a result that is a circle": Bad("circle", {}, NuropbSerializationError, "Circular"),
    "a result with an odd key": Bad("bad_key", {}, NuropbSerializationError, "keys must be"),
    "a result that has no JSON form": Bad(
        "unprintable", {}, NuropbSerializationError, "Unprintable has no JSON form, at result[0]"
    ),
    "a result that is too deep": Bad("deep", {}, NuropbSerializationError, "nested too deeply"),
    "a result that is too deep by one level": Bad(
        "deep", {"levels": 100}, NuropbSerializationError, "max_json_depth (100 levels)"
    ),
    "a result that is too large": Bad(
        "large", {"size": 2 * LIMIT}, NuropbSerializationError, f"max_body_bytes ({LIMIT})"
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input(meshes: Meshes, name: str) -> None:
    bad = BAD[name]
    client = await odd(meshes)
    with pytest.raises(bad.error) as caught:
        await client.request("odd", bad.method, bad.params, context=bad.context, timeout=5)
    assert bad.says in str(caught.value)
    assert "hush" not in str(caught.value)
    assert len(str(caught.value)) < 500
    await lives(client)


@pytest.mark.parametrize("service", ["", None, 7, ["odd"], {"odd": 1}])
async def test_a_service_that_is_no_name(meshes: Meshes, service: Any) -> None:
    client = await odd(meshes)
    with pytest.raises(NuropbException) as caught:
        await client.request(service, "echo", timeout=2)
    assert not isinstance(caught.value, TimeoutError)
    await lives(client)


@pytest.mark.parametrize(
    "timeout", [0, -1, "5", True, float("nan"), float("inf"), 1e12, 10**400, [1]]
)
async def test_a_timeout_that_is_none(meshes: Meshes, timeout: Any) -> None:
    await meshes.serve(Odd())
    client = await meshes.client()
    for _ in range(2):  # before the description is known, and after
        with pytest.raises(NuropbValidationError, match="timeout"):
            await client.request("odd", "echo", timeout=timeout)
        await lives(client)


async def test_what_never_ends_is_ended_by_the_handlers_deadline(meshes: Meshes) -> None:
    client = await odd(meshes, handler_timeout=0.3)
    try:
        for method in ("never", "stubborn", "never_in_thread"):
            if method == "stubborn":  # it takes its cancellation for its end
                assert await client.request("odd", method, timeout=5) is None
            else:
                with pytest.raises(NuropbHandlingError, match="handler_timeout"):
                    await client.request("odd", method, timeout=5)
            await lives(client)
    finally:
        Odd.release.set()


async def test_threads_that_never_end_do_not_stop_the_others(meshes: Meshes) -> None:
    Odd.release.clear()
    client = await odd(meshes, handler_timeout=0.2, prefetch_count=2)
    try:
        for _ in range(3):
            with pytest.raises(NuropbHandlingError):
                await client.request("odd", "never_in_thread", timeout=5)
        assert await client.request("odd", "take", {"number": 7}, timeout=5) == 7
    finally:
        Odd.release.set()


# -- settings -------------------------------------------------------------------------------


class NeedsKey:
    _service_name = "vault"

    @publish_to_mesh(requires_encryption=True)
    def open(self) -> None: ...


class Model:
    def get(self, a: list[NeedsKey]) -> None: ...


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"service": object()}, "service_name", "is missing"),
        ({"service": NeedsKey()}, "service", "needs a _private_key"),
        ({"service": Model(), "service_name": "m"}, "service", "get: parameter 'a': list"),
        ({"service": Odd(), "service_name": ""}, "service_name", "1 to 255 bytes"),
        ({"service": Odd(), "prefetch_count": -1}, "prefetch_count", "from 0 to"),
        ({"request_timeout": 0}, "request_timeout", "seconds"),
        ({"event_bindings": ["#"]}, "event_bindings", "without a service"),
        ({"service": Odd(), "event_bindings": [7]}, "event_bindings", "string"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=says) as caught:
        Mesh("amqp://localhost/", **options)
    assert caught.value.field.startswith(field)
