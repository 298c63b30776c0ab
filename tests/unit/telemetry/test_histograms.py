"""Histograms: buckets as Prometheus has them, and quantiles."""

from __future__ import annotations

import pytest

from nuropb_rmq.telemetry.histograms import BOUNDS, Histogram


def test_a_bound_belongs_to_the_bucket_below() -> None:
    """Prometheus's buckets are "less than or equal"."""
    histogram = Histogram()
    for seconds in (0.0, 0.005, 0.0051, 10.0, 10.1, 1e9):
        histogram.add(seconds)
    read = histogram.read()
    assert read.counts == (2, 1, *[0] * 11, 1, 2)
    assert read.count == 6
    assert read.total == pytest.approx(1e9 + 20.1101)


def test_what_was_read_stays() -> None:
    histogram = Histogram()
    read = histogram.read()
    histogram.add(1)
    assert (read.count, read.total) == (0, 0.0)


def test_quantiles() -> None:
    histogram = Histogram()
    assert histogram.read().quantile(0.5) is None
    for _ in range(100):
        histogram.add(0.2)
    read = histogram.read()
    assert read.quantile(0) == pytest.approx(0.1)
    assert read.quantile(0.5) == pytest.approx(0.175)
    assert read.quantile(0.99) == pytest.approx(0.2485)
    assert read.quantile(1) == pytest.approx(0.25)
    for _ in range(100):
        histogram.add(60)
    assert histogram.read().quantile(0.5) == pytest.approx(0.25)
    assert histogram.read().quantile(0.99) == BOUNDS[-1]
