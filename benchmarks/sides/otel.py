"""OpenTelemetry's SDK as a program sets it up, with exporters that drop everything."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

SHARE = {"sampled": 0.01, "recorded": 1.0}


class Drops(SpanExporter):
    """An exporter."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


@cache
def providers(options: frozenset[str]) -> dict[str, Any]:
    """The providers that are asked for, one for all meshes of the process."""
    made: dict[str, Any] = {}
    if "metrics" in options:
        made["meter_provider"] = MeterProvider([InMemoryMetricReader()])
    for option, share in SHARE.items():
        if option in options:
            provider = TracerProvider(ParentBased(TraceIdRatioBased(share)))
            provider.add_span_processor(BatchSpanProcessor(Drops()))
            made["tracer_provider"] = provider
    return made
