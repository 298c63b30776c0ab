"""Brokers for tests and demos: in memory, or private RabbitMQ nodes and clusters.

The pytest fixtures are in `pytest_plugin`, which pytest loads in every run: names are loaded when
they are first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._install import BrokerError, BrokerNotInstalled, BrokerStartError, RabbitMQCtlError
    from ._settings import TLSFiles
    from .cluster import RabbitMQCluster
    from .memory import MemoryBroker, MemoryMesh, memory_broker
    from .node import RabbitMQNode
    from .recorded import RecordedMessage

__all__ = [
    "BrokerError",
    "BrokerNotInstalled",
    "BrokerStartError",
    "MemoryBroker",
    "MemoryMesh",
    "RabbitMQCluster",
    "RabbitMQCtlError",
    "RabbitMQNode",
    "RecordedMessage",
    "TLSFiles",
    "memory_broker",
]

# tests/unit/test_public.py compares it with the imports above.
_HOMES = {
    "_install": "BrokerError BrokerNotInstalled BrokerStartError RabbitMQCtlError",
    "_settings": "TLSFiles",
    "cluster": "RabbitMQCluster",
    "memory": "MemoryBroker MemoryMesh memory_broker",
    "node": "RabbitMQNode",
    "recorded": "RecordedMessage",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # else type checkers would accept every name

    def __getattr__(name: str) -> Any:
        module = _HOME_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
