"""Private RabbitMQ nodes for tests and demonstrations; pytest fixtures in `pytest_plugin`."""

from ._install import BrokerError, BrokerNotInstalled, BrokerStartError, RabbitMQCtlError
from .node import RabbitMQNode, TLSFiles

__all__ = [
    "BrokerError",
    "BrokerNotInstalled",
    "BrokerStartError",
    "RabbitMQCtlError",
    "RabbitMQNode",
    "TLSFiles",
]
