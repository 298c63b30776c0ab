"""Traces and metrics of a mesh: OpenTelemetry and Prometheus, each an extra.

::

    from nuropb_rmq.telemetry import instrument

    instrument(mesh)

A name's module is loaded when the name is first used, so that neither extra needs the other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .installing import instrument
    from .spans import Links

__all__ = ["Links", "instrument"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.installing"), name)
