"""Parts of OpenTelemetry that fail, come late, or return rubbish: no message notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

from nuropb_rmq import (
    Mesh,
    NuropbConfigurationError,
    NuropbNotDeliveredError,
    NuropbRemoteError,
)
from nuropb_rmq.telemetry import Links, instrument

from ..seams import forget_providers, observed
from ..support import eventually
from .services import Orders, Stock
from .support import Recorded, Traced


class Boom(Exception):  # noqa: N818 - a name
    """Of a part of the program's own."""


class FailingSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise Boom

    def get_description(self) -> str:
        return "fails"


class RubbishSampler(FailingSampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        return None


class FailingProcessor(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise Boom

    def on_end(self, span: ReadableSpan) -> None:
        raise SystemExit


class FailsAtTheEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise Boom


class FailingExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        raise Boom


class FailingPropagator(TextMapPropagator):
    def inject(self, *args: Any, **kwargs: Any) -> None:
        raise Boom

    def extract(self, *args: Any, **kwargs: Any) -> Context:
        raise Boom

    @property
    def fields(self) -> set[str]:
        raise Boom


class RubbishPropagator(FailingPropagator):
    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        setter.set(carrier, ["traceparent"], object())

    def extract(self, *args: Any, **kwargs: Any) -> Any:
        return "context"


class RubbishTracer(trace.NoOpTracer):
    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        return None


class RubbishProvider(trace.TracerProvider):
    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return RubbishTracer()


class FailingProvider(trace.TracerProvider):
    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        raise Boom


def sampled(sampler: Sampler) -> dict[str, Any]:
    return {"tracer_provider": TracerProvider(sampler, shutdown_on_exit=False)}


def processed(processor: SpanProcessor) -> dict[str, Any]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return {"tracer_provider": provider}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "sampler": lambda: sampled(FailingSampler()),
    "sampler, rubbish": lambda: sampled(RubbishSampler()),
    "processor": lambda: processed(FailingProcessor()),
    "processor, at the end": lambda: processed(FailsAtTheEnd()),
    "propagator": lambda: {"propagator": FailingPropagator()},
    "propagator, rubbish": lambda: {"propagator": RubbishPropagator()},
    "tracer, rubbish": lambda: {"tracer_provider": RubbishProvider()},
    "provider": lambda: {"tracer_provider": FailingProvider()},
}


@pytest.mark.parametrize("part", PARTS)
async def test_no_message_notices(
    in_memory: Traced, recorded: Recorded, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    orders, stock = Orders(), Stock()
    options = {"tracer_provider": recorded.tracer_provider, **PARTS[part]()}
    in_memory.instruments = False
    meshes: list[Mesh] = [in_memory.mesh(orders), in_memory.mesh(stock), in_memory.mesh()]
    orders.mesh = meshes[0]
    for each in meshes:
        instrument(each, meter_provider=recorded.meter_provider, **options)
        await each.start()
    client = meshes[-1]
    for number in range(5):
        assert await client.request("orders", "place", {"number": number}) == number
    with pytest.raises(Exception, match="no order for 7"):
        await client.request("orders", "fail", {"pin": "7"})
    await client.command("orders", "flaky")
    await eventually(lambda: len(stock.seen) == 15)
    await eventually(lambda: client.stats().requests_pending == 0)
    assert client.stats().answered == 7, "with the description of orders"
    assert "telemetry failed in" in caplog.text
    assert recorded.total("nuropb.telemetry.failures") > 0
    caplog.clear()


async def test_it_is_logged_once_for_each_transport(
    in_memory: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    in_memory.options = {"propagator": FailingPropagator()}
    await in_memory.serve(Stock())
    client = await in_memory.client()
    for number in range(10):
        await client.request("stock", "count", {"number": number})
    said = [each.partition("\n")[0] for each in caplog.messages if "telemetry failed" in each]
    text = "telemetry failed in {} (logged once); no message is affected"
    calls = ("probe", "inject", "extract")
    assert sorted(said) == sorted([text.format(call) for call in calls] * 2)
    assert "Boom" in caplog.text
    caplog.clear()


async def test_a_failing_exporter(in_memory: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """The SDK's own processors log it."""
    in_memory.recorded.tracer_provider.add_span_processor(SimpleSpanProcessor(FailingExporter()))
    await in_memory.serve(Stock())
    client = await in_memory.client()
    assert await client.request("stock", "count", {"number": 1}) == 1
    await eventually(lambda: "Exception while exporting" in caplog.text)
    caplog.clear()


# -- providers of the program ------------------------------------------------------------------


@pytest.fixture
def no_providers() -> Iterator[None]:
    """OpenTelemetry as it is before a program has set anything; its own once is undone."""
    before = propagate.get_global_textmap()
    yield
    forget_providers()
    propagate.set_global_textmap(before)


async def test_a_provider_that_is_set_later(
    in_memory: Traced, recorded: Recorded, no_providers: None
) -> None:
    stock = Stock()
    in_memory.instruments = False
    served, client = await in_memory.serve(stock), await in_memory.client()
    instrument(served)
    instrument(client)
    assert not observed(served.transport)
    await client.request("stock", "count", {"number": 1})
    trace.set_tracer_provider(recorded.tracer_provider)
    metrics.set_meter_provider(recorded.meter_provider)
    await eventually(lambda: observed(served.transport) and observed(client.transport))
    await client.request("stock", "count", {"number": 2})
    await recorded.whole(5)
    ((labels, point),) = recorded.metrics["rpc.client.call.duration"]
    assert (labels["rpc.method"], point.count) == ("stock/count", 1)
    assert stock.seen == [("count", 1), ("count", 2)]


async def test_looking_for_a_provider_keeps_no_context(
    in_memory: Traced, no_providers: None
) -> None:
    """That of whoever instrumented the mesh: it may hold a request, and all that belongs to it."""
    whose, seen = ContextVar("whose", default="nobody"), list[str]()

    class Provider(trace.TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            seen.append(whose.get())
            return trace.NoOpTracer()

    in_memory.instruments = False
    mesh = await in_memory.client()
    token = whose.set("a request")
    instrument(mesh)
    whose.reset(token)
    trace.set_tracer_provider(Provider())
    await eventually(lambda: seen)
    assert seen == ["nobody"]


async def test_a_provider_that_fails_keeps_the_other_part(
    in_memory: Traced, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    in_memory.instruments = False
    mesh = await in_memory.serve(Stock())
    instrument(mesh, tracer_provider=FailingProvider(), meter_provider=recorded.meter_provider)
    await mesh.request("stock", "count", {"number": 1})
    assert "rpc.client.call.duration" in recorded.metrics
    assert caplog.text.count("telemetry failed in instrument") == 1


async def test_without_a_provider_nothing_is_done(in_memory: Traced) -> None:
    in_memory.instruments = False
    mesh = in_memory.mesh(Stock())
    remove = instrument(mesh)
    await mesh.start()
    assert not observed(mesh.transport)
    remove()


async def test_it_can_be_ended_and_begun_again(in_memory: Traced, recorded: Recorded) -> None:
    await in_memory.serve(Stock())
    client = await in_memory.client()
    remove = in_memory.removers[-1]
    in_memory.instrument(client)
    remove()  # another one has taken its place
    await client.request("stock", "count", {"number": 1})
    await recorded.whole(5)
    for each in in_memory.removers:
        each()
        each()
    recorded.clear()
    await client.request("stock", "count", {"number": 2})
    assert not observed(client.transport)
    assert recorded.spans == []
    in_memory.instrument(client)
    await client.request("stock", "count", {"number": 3})
    await recorded.whole(2)


def test_what_cannot_be_instrumented() -> None:
    with pytest.raises(NuropbConfigurationError, match=r"mesh: must be a Mesh.*not str"):
        instrument("mesh")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'parent' is not a valid Links"):
        instrument(Mesh("memory://x"), links="parent")  # type: ignore[arg-type]
    assert Links("child") is Links.CHILD


async def test_a_slow_exporter_in_a_thread_holds_nothing_up(in_memory: Traced) -> None:
    """As BatchSpanProcessor has it: only its own thread waits."""
    release = threading.Event()

    class Hangs(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            release.wait(20)
            return SpanExportResult.SUCCESS

    batch = BatchSpanProcessor(Hangs(), schedule_delay_millis=1)
    in_memory.recorded.tracer_provider.add_span_processor(batch)
    try:
        await in_memory.serve(Stock())
        client = await in_memory.client()
        for number in range(20):
            assert await client.request("stock", "count", {"number": number}) == number
    finally:
        release.set()
        await asyncio.to_thread(batch.shutdown)


# -- spans that fail ---------------------------------------------------------------------------


class NoServers(trace.Tracer):
    """A tracer that makes no span of a method's call at its service."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, context: Any = None, kind: Any = None, *rest: Any) -> Any:
        if kind is trace.SpanKind.SERVER:
            raise Boom
        return self._tracer.start_span(name, context, kind, *rest)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class NoServersProvider(trace.TracerProvider):
    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return NoServers(self._provider.get_tracer(*args, **kwargs))


async def test_a_message_whose_second_span_cannot_be_made(
    in_memory: Traced, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one ends all the same."""
    in_memory.instruments = False
    mesh = in_memory.mesh(Stock())
    instrument(mesh, tracer_provider=NoServersProvider(recorded.tracer_provider))
    await mesh.start()
    client = await in_memory.client()
    assert await client.request("stock", "count", {"number": 1}, encrypted=False) == 1
    await recorded.count("process nuropb-rpc-exchange:stock:nuropb-stock-sq")
    caplog.clear()


@pytest.mark.parametrize("call", ["set_attribute", "set_attributes", "set_status", "add_link"])
async def test_a_span_that_takes_nothing_ends(
    in_memory: Traced,
    recorded: Recorded,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is exported without what it did not take."""

    def fails(*args: Any, **kwargs: Any) -> None:
        raise Boom

    orders = Orders()
    await in_memory.serve(orders)
    client = await in_memory.client()
    monkeypatch.setattr(Span, call, fails)
    await client.request("orders", "total", {"number": 1}, encrypted=False)
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "fail", encrypted=False)
    with pytest.raises(NuropbNotDeliveredError):
        await client.request("nobody", "total", encrypted=False)
    await recorded.whole(5 + 5 + 2)
    caplog.clear()
