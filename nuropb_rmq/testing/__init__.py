"""Private RabbitMQ nodes and clusters for tests and demos; pytest fixtures in `pytest_plugin`."""

from ._install import BrokerError, BrokerNotInstalled, BrokerStartError, RabbitMQCtlError
from .cluster import RabbitMQCluster
from .node import RabbitMQNode, TLSFiles

__all__ = [
    "BrokerError",
    "BrokerNotInstalled",
    "BrokerStartError",
    "RabbitMQCluster",
    "RabbitMQCtlError",
    "RabbitMQNode",
    "TLSFiles",
]
