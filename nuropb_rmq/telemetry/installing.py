"""Turn OpenTelemetry on for a mesh, and off again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Final, TypeVar
from weakref import WeakKeyDictionary, ref

try:
    from opentelemetry import metrics, trace
    from opentelemetry.propagators.textmap import TextMapPropagator
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        f"nuropb_rmq.telemetry.instrument needs OpenTelemetry: pip install 'nuropb-rmq-aio[otel]' "
        f"({e})",
        name=e.name,
    ) from e

from .. import blocking
from .._version import __version__
from ..broker.state import State
from ..compat.rmq_api import RMQAPI
from ..compat.rmq_transport import RMQTransport
from ..exceptions import NuropbConfigurationError, NuropbTransportError
from ..mesh.mesh import Mesh
from ..printable import type_of
from ..transport.transport import Transport
from .counts import Counts
from .destinations import SCHEMA, Destinations
from .durations import Durations, Histograms
from .guard import Guard
from .propagation import Propagation
from .spans import Links, Spans
from .weak import weakly

SCOPE: Final = "nuropb_rmq"
LOOKS_EVERY: Final = 1.0
"""Seconds between two looks for a provider that the program has not set yet."""

Instrumentable = Mesh | Transport | RMQAPI | RMQTransport | blocking.Mesh
Remove = Callable[[], None]
_P = TypeVar("_P")


def instrument(
    mesh: Instrumentable,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    propagator: TextMapPropagator | None = None,
    links: Links = Links.LINK,
) -> Remove:
    """Make spans and metrics of a mesh's messages; return a function that ends it.

    Providers and propagator: None stands for those that the program sets for OpenTelemetry as a
    whole. They may be set later: a running mesh looks for them once a second, and without them
    nothing is done. `links` places events, retries, call-agains and replays among the traces.

    A second call for the same mesh takes the place of the first. Raises NuropbConfigurationError
    for anything but a Mesh, Transport, RMQAPI, RMQTransport or blocking.Mesh.
    """
    if isinstance(mesh, blocking.Mesh):
        again = partial(
            instrument,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            propagator=propagator,
            links=links,
        )
        return mesh.attach(again)
    transport = _transport_of(mesh)
    before = _installed_on(transport)
    if before is not None:
        before.remove()
    made = _Installed(transport, tracer_provider, meter_provider, propagator, Links(links))
    _installed[transport] = ref(made)
    return weakly(made.remove)


def _transport_of(mesh: Mesh | Transport | RMQAPI | RMQTransport) -> Transport:
    match mesh:
        case Transport():
            return mesh
        case Mesh():
            return mesh.transport
        case RMQTransport():
            return mesh.core
        case RMQAPI():
            return mesh.transport.core
    raise NuropbConfigurationError(
        "mesh",
        f"must be a Mesh, Transport, RMQAPI, RMQTransport or blocking.Mesh, not {type_of(mesh)}",
    )


class _Instruments:
    """Instruments of one meter provider; making them twice would be a conflict there."""

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = provider.get_meter(SCOPE, __version__, SCHEMA)
        self.histograms = Histograms(meter)
        self.counts = Counts(meter)


_instruments: WeakKeyDictionary[metrics.MeterProvider, _Instruments] = WeakKeyDictionary()


class _Installed:
    """Telemetry of one transport, begun as soon as there is a provider.

    The transport holds it, as a callback of its state; nothing else may, see weakly().
    """

    def __init__(
        self,
        transport: Transport,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
        propagator: TextMapPropagator | None,
        links: Links,
    ) -> None:
        self._transport = ref(transport)
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._links = links
        self.guard = Guard()
        self._propagation = Propagation(propagator, self.guard)
        self._destinations = Destinations(transport.config, transport.methods)
        self._timer: asyncio.TimerHandle | None = None
        self._measures = False
        self._traces = False
        self._end_tracing: Remove | None = None
        self._ends: list[Remove] = [transport.on_state_change(self._changed)]
        self._look()

    def remove(self) -> None:
        """End it; a second call does nothing."""
        self._rest()
        ends, self._ends = self._ends, []
        for end in ends:
            end()
        if self._end_tracing is not None:
            self._end_tracing()
        transport = self._transport()
        if transport is not None and _installed_on(transport) is self:
            del _installed[transport]

    def _changed(self, state: State, _: NuropbTransportError | None) -> None:
        if state is State.CONNECTING:
            self._traces = False  # its instance id may be another one
        self._rest()
        if not state.over:
            self._look()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Begin what there is a provider for; look again later for the rest."""
        transport = self._transport()
        if transport is None or not self._ends:
            return
        for begin in (self._trace, self._measure):
            try:
                begin(transport)
            except Exception as e:  # noqa: BLE001 - a provider's own
                self.guard.failed("instrument", e)
        if (self._traces and self._measures) or transport.state.over:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the next change of its state comes in the loop
            return
        self._timer = loop.call_later(LOOKS_EVERY, self._look, context=Context())

    def _trace(self, transport: Transport) -> None:
        provider = self._tracer_provider or _configured(trace.get_tracer_provider())
        if self._traces or provider is None:
            return
        self._traces = True
        spans = Spans(
            provider.get_tracer(SCOPE, __version__, SCHEMA),
            self._propagation,
            self._destinations,
            links=self._links,
            texts=transport.config.log_error_text,
            instance_id=transport.instance_id,
            guard=self.guard,
        )
        self._end_tracing = transport.trace(spans)

    def _measure(self, transport: Transport) -> None:
        provider = self._meter_provider or _configured(metrics.get_meter_provider())
        if self._measures or provider is None:
            return
        self._measures = True
        made = _instruments.get(provider)
        if made is None:
            made = _instruments[provider] = _Instruments(provider)
        durations = Durations(made.histograms, self._destinations, self.guard)
        self._ends += [transport.observe(durations), made.counts.add(transport, self.guard)]


_installed: WeakKeyDictionary[Transport, ref[_Installed]] = WeakKeyDictionary()


def _installed_on(transport: Transport) -> _Installed | None:
    reference = _installed.get(transport)
    return None if reference is None else reference()


def _configured(provider: _P) -> _P | None:
    """Return a provider, or None for one of the interface itself, which records nothing."""
    module = type(provider).__module__
    return None if module.startswith(("opentelemetry.trace", "opentelemetry.metrics")) else provider
