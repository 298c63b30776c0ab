"""Spans and metrics that the SDK has recorded, and meshes that are instrumented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from nuropb_rmq import Mesh, Transport
from nuropb_rmq.telemetry import instrument

from ..mesh.support import Meshes
from ..support import eventually

Point = tuple[dict[str, Any], Any]
"""Attributes, and the value; of a histogram, the point itself."""


def only(given: list[Any]) -> Any:
    """The one thing that is in a list."""
    assert len(given) == 1, given
    return given[0]


class Recorded:
    """Spans and metrics, in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("the program's own")

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in the order of their begins, without those of descriptions."""
        ended = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        by_id = {span_id(each): each for each in ended}
        return [each for each in ended if not _of_description(each, by_id)]

    @property
    def names(self) -> list[str]:
        """Names of the spans."""
        return [each.name for each in self.spans]

    def named(self, name: str) -> ReadableSpan:
        """The one span of this name."""
        found: ReadableSpan = only([each for each in self.spans if each.name == name])
        return found

    async def count(self, name: str, count: int = 1) -> None:
        """Wait until so many spans of this name have ended."""
        await eventually(lambda: self.names.count(name) == count, describe=lambda: self.tree)

    async def whole(self, count: int) -> None:
        """Wait until so many spans have ended."""
        await eventually(lambda: len(self.spans) >= count, describe=lambda: self.tree)
        assert len(self.spans) == count, self.tree

    def clear(self) -> None:
        """Forget the spans."""
        self._exporter.clear()

    @property
    def tree(self) -> str:
        """The spans, a line each, their children below them."""
        lines: list[str] = []
        spans = self.spans
        known = {span_id(each) for each in spans}

        def draw(span: ReadableSpan, depth: int) -> None:
            lines.append("  " * depth + f"{span.kind.name} {span.name}")
            for each in spans:
                if each.parent is not None and each.parent.span_id == span_id(span):
                    draw(each, depth + 1)

        for each in spans:
            if each.parent is None or each.parent.span_id not in known:
                draw(each, 0)
        return "\n".join(lines)

    @property
    def metrics(self) -> dict[str, list[Point]]:
        """Points of all metrics, by name."""
        data = self._reader.get_metrics_data()
        found: dict[str, list[Point]] = {}
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = [_point(each) for each in metric.data.data_points]
        return found

    def units(self) -> dict[str, str]:
        """Units of all metrics, by name."""
        data = self._reader.get_metrics_data()
        assert data is not None
        scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics]
        return {metric.name: str(metric.unit) for scope in scopes for metric in scope.metrics}

    def total(self, name: str, **labels: Any) -> float:
        """Sum of a counter's series with these labels (`nuropb__service` for nuropb.service)."""
        wanted = {key.replace("__", "."): value for key, value in labels.items()}.items()
        points = self.metrics.get(name, [])
        return float(sum(value for attributes, value in points if wanted <= attributes.items()))


def _point(point: Any) -> Point:
    attributes = dict(point.attributes)
    return (attributes, point if isinstance(point, HistogramDataPoint) else point.value)


def _of_description(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> bool:
    """Return whether it belongs to the request for a service's description."""
    at: ReadableSpan | None = span
    while at is not None:
        if at.name.endswith("/nuropb_describe"):
            return True
        at = None if at.parent is None else by_id.get(at.parent.span_id)
    return False


def span_id(span: ReadableSpan) -> int:
    """Its id."""
    assert span.context is not None
    return int(span.context.span_id)


def trace_id(span: ReadableSpan) -> int:
    """The id of its trace."""
    assert span.context is not None
    return int(span.context.trace_id)


def parent_of(span: ReadableSpan) -> int:
    """The id of its parent; 0 for a root."""
    return 0 if span.parent is None else span.parent.span_id


def links_of(span: ReadableSpan) -> list[int]:
    """The ids of the spans that it links to."""
    return [link.context.span_id for link in span.links]


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


class Traced(Meshes):
    """Starts meshes that are instrumented."""

    def __init__(self, url: str, recorded: Recorded) -> None:
        super().__init__(url)
        self.recorded = recorded
        self.options: dict[str, Any] = {}
        self.instruments = True
        self.made: list[Mesh] = []
        self.removers: list[Callable[[], None]] = []

    def mesh(self, service: object | None = None, **options: Any) -> Mesh:
        """A mesh that is not started."""
        made = super().mesh(service, **options)
        self.made.append(made)
        if self.instruments:
            self.instrument(made)
        return made

    async def stop(self) -> None:
        """Stop everything."""
        self.made.clear()
        await super().stop()

    def instrument(self, mesh: Mesh | Transport) -> None:
        """Record what it does."""
        self.removers.append(
            instrument(
                mesh,
                tracer_provider=self.recorded.tracer_provider,
                meter_provider=self.recorded.meter_provider,
                **self.options,
            )
        )
