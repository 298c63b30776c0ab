"""Read a registry as Prometheus does."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from nuropb_rmq.telemetry.prometheus import exposition

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scrape(registry: CollectorRegistry) -> list[Sample]:
    """All samples; the parser is stricter than Prometheus is."""
    text, content_type = exposition(OPENMETRICS, registry)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    return [sample for family in families for sample in family.samples]


def values(registry: CollectorRegistry, name: str, by: str, **labels: str) -> dict[str, float]:
    """The values of a metric by one label, where other labels have these values."""
    found: dict[str, float] = {}
    for sample in scrape(registry):
        if sample.name == name and labels.items() <= sample.labels.items():
            assert sample.labels[by] not in found, f"{name}: {sample.labels} is there twice"
            found[sample.labels[by]] = sample.value
    return found


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """The value of a metric where its labels have these values; None: it is not there."""
    found = [
        sample.value
        for sample in scrape(registry)
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, f"{name} {labels}: {len(found)} samples"
    return found[0] if found else None
