"""Everything that metrics can be collected of."""

from __future__ import annotations

from .. import blocking
from ..compat.rmq_api import RMQAPI
from ..compat.rmq_transport import RMQTransport
from ..exceptions import NuropbConfigurationError
from ..mesh.mesh import Mesh
from ..transport.transport import Transport

AnyMesh = Mesh | blocking.Mesh | RMQAPI | RMQTransport | Transport
"""A mesh of any kind, or a transport."""
Source = Transport | blocking.Mesh
"""The owner of the counts. A blocking.Mesh has another transport after a fork."""


def source_of(mesh: AnyMesh) -> Source:
    """Return the object that has the counts of a mesh, and lives as long.

    Raises NuropbConfigurationError.
    """
    match mesh:
        case Transport() | blocking.Mesh():
            return mesh
        case Mesh():
            return mesh.transport
        case RMQAPI():
            return mesh.transport.core
        case RMQTransport():
            return mesh.core
    raise NuropbConfigurationError(
        "mesh", f"expected a Mesh, an RMQAPI or a Transport, got {type(mesh).__name__}"
    )
