"""Metrics of meshes for Prometheus, in the registry of prometheus_client.

::

    from nuropb_rmq.telemetry.prometheus import collect, serve_metrics

    mesh = Mesh("amqp://guest:guest@localhost/", service=Orders())
    collect(mesh)
    serve_metrics(9464)  # in an ASGI application rather nuropb_rmq.asgi.metrics_route(mesh)

docs/guides/prometheus.md lists the metrics. Needs prometheus_client, which the extra `prometheus`
installs; importing nuropb_rmq does not import this module.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakKeyDictionary, ref
from wsgiref.simple_server import WSGIServer

from .. import blocking
from ..exceptions import NuropbConfigurationError
from ..mesh.mesh import Mesh
from ..transport.stats import Stats
from ..transport.transport import Transport
from .histograms import BOUNDS, Distribution
from .metrics import METRICS, OWN_LABELS, Kind, Metric
from .recorder import Recorder, recording_of
from .subjects import AnyMesh, Source, source_of
from .weak import weakly

try:
    from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.utils import floatToGoString
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        "nuropb_rmq.telemetry.prometheus needs prometheus_client: "
        f"pip install 'nuropb-rmq-aio[prometheus]' ({e})",
        name=e.name,
    ) from e

__all__ = ["MetricsServer", "collect", "exposition", "serve_metrics"]

_FAMILIES: Final = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}
_BOUNDS: Final = (*map(floatToGoString, BOUNDS), "+Inf")
_HIGHEST_PORT: Final = 65_535


# -- meshes in a registry -------------------------------------------------------------------


def collect(mesh: AnyMesh, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Put the metrics of a mesh into a registry; return a function that takes them out.

    Several meshes share a registry: `nuropb_service` and `nuropb_instance` tell them apart. A mesh
    appears once it is started, for it has its instance id then. Of two with the same service and
    instance id, the one that was collected later is shown. One that is collected again is there
    once. One that is garbage collected disappears.

    Durations, and counts by method, begin now; the other counts when the mesh was made.

    Raises NuropbConfigurationError for what is no mesh.
    """
    source = source_of(mesh)
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _Collector()
            registry.register(collector)
            _collectors[registry] = collector
        return collector.add(source)


class _Entry:
    """One mesh in a registry. It must not hold the mesh."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.remove: Callable[[], None]

    def begin(self, transport: Transport) -> Callable[[], None]:
        """Record what this transport does, with nothing of an earlier one; return what ends it."""
        self.recorder, end = recording_of(transport)
        return end


class _Attached:
    """Recorder of a blocking.Mesh, which holds it: the transport is another one after a fork."""

    def __init__(self, entry: _Entry, mesh: blocking.Mesh) -> None:
        self._entry = entry
        self._end = mesh.attach(self._begin)

    def _begin(self, mesh: Mesh) -> Callable[[], None]:
        return self._entry.begin(mesh.transport)

    def end(self) -> None:
        """Record nothing more."""
        self._end()


class _Collector:
    """All meshes of one registry: in its output each metric stands once, with all their values."""

    def __init__(self) -> None:
        self._entries: WeakKeyDictionary[Source, _Entry] = WeakKeyDictionary()

    def add(self, source: Source) -> Callable[[], None]:
        """Add a mesh unless it is here; return a function that removes it."""
        entry = self._entries.get(source)
        if entry is None:
            entry = _Entry()
            if isinstance(source, Transport):
                end = entry.begin(source)
            else:
                end = weakly(_Attached(entry, source).end)
            entry.remove = partial(self._remove, ref(source), end)
            self._entries[source] = entry
        return entry.remove

    def _remove(self, reference: ref[Source], end: Callable[[], None]) -> None:
        source = reference()
        if source is not None and self._entries.pop(source, None) is not None:
            end()

    def describe(self) -> Iterator[Any]:
        """Yield the metrics without values: a registry asks for their names."""
        return map(_family, METRICS)

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of all meshes, if there are any; called in any thread."""
        read = self._read()
        return (_filled(metric, read) for metric in METRICS) if read else iter(())

    def _read(self) -> _Read:
        read: _Read = {}
        for reference in self._entries.keyrefs():  # a copy, made in one step
            source = reference()
            entry = None if source is None else self._entries.get(source)
            if source is None or entry is None:
                continue
            stats = source.stats()
            if stats.instance_id:
                read[stats.service, stats.instance_id] = stats, entry.recorder
        return read


_Read = dict[tuple[str, str], tuple[Stats, Recorder]]

_lock: Final = threading.Lock()
_collectors: Final[WeakKeyDictionary[CollectorRegistry, _Collector]] = WeakKeyDictionary()


def _family(metric: Metric) -> Any:
    labels = (*OWN_LABELS, *metric.labels)
    return _FAMILIES[metric.kind](metric.name, metric.text, labels=labels)


def _filled(metric: Metric, read: _Read) -> Any:
    family = _family(metric)
    for own, (stats, recorder) in read.items():
        for labels, value in metric.read(stats, recorder):
            if isinstance(value, Distribution):
                family.add_metric((*own, *labels), _buckets(value), value.total)
            else:
                family.add_metric((*own, *labels), value)
    return family


def _buckets(value: Distribution) -> list[tuple[str, int]]:
    return list(zip(_BOUNDS, accumulate(value.counts), strict=True))


# -- serving them ---------------------------------------------------------------------------


def exposition(accept: str, registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """Return the metrics of a registry as text, and its content type.

    `accept` is the header Accept of the request: OpenMetrics where it is asked for, else
    Prometheus's text format.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class MetricsServer:
    """A port with metrics, and the thread that serves it; see serve_metrics()."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread
        self.port: int = server.server_port

    def close(self) -> None:
        """Close the port, and wait for the end of the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve_metrics(
    port: int, addr: str = "127.0.0.1", registry: CollectorRegistry = REGISTRY
) -> MetricsServer:
    """Serve the metrics of a registry by HTTP, in a daemon thread, until close() or the exit.

    For programs without an HTTP server of their own. `port` 0 takes one that is free; the result
    has it. `addr` "0.0.0.0" admits other hosts: whoever reaches the port reads the names of
    services and methods, and counts. A forked child has no such thread: call it after the fork.

    Raises NuropbConfigurationError when the port cannot be had.
    """
    if not 0 <= port <= _HIGHEST_PORT:
        raise NuropbConfigurationError("port", f"expected 0 to {_HIGHEST_PORT}, got {port}")
    try:
        return MetricsServer(*start_http_server(port, addr, registry))
    except OSError as e:
        advice = "another program has it: give another port, or 0 for one that is free"
        why = advice if e.errno == errno.EADDRINUSE else e
        raise NuropbConfigurationError("port", f"{port} at {addr} cannot be had: {why}") from e
