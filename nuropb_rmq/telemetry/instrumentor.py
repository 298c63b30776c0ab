"""For the program opentelemetry-instrument: every mesh that is made from then on is instrumented.

::

    opentelemetry-instrument nuropb-rmq serve shop:Orders
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

try:
    from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
        BaseInstrumentor,
    )
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        "nuropb_rmq.telemetry.instrumentor needs opentelemetry-instrumentation, which "
        f"opentelemetry-distro brings: pip install opentelemetry-distro ({e})",
        name=e.name,
    ) from e

from ..transport.observable import on_new
from ..transport.transport import Transport
from .installing import instrument


class NuropbInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Instruments each mesh of the process when it is made; those from before are left alone.

    instrument() takes the arguments of nuropb_rmq.telemetry.instrument: tracer_provider,
    meter_provider, propagator, links. uninstrument() ends it, for running meshes, too.
    """

    _removers: ClassVar[WeakKeyDictionary[Transport, Callable[[], None]]] = WeakKeyDictionary()
    _begin: Callable[[Transport], None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return no packages: it comes with what it instruments."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        known = ("tracer_provider", "meter_provider", "propagator", "links")
        options = {name: kwargs[name] for name in known if kwargs.get(name) is not None}

        def begin(transport: Transport) -> None:
            self._removers[transport] = instrument(transport, **options)

        self._begin = begin
        on_new.append(begin)

    def _uninstrument(self, **_: Any) -> None:
        if self._begin is not None:
            on_new.remove(self._begin)
        for remove in tuple(self._removers.values()):
            remove()
        self._removers.clear()
