"""The fixture of the mesh's own tests serves here too."""

from ..mesh.conftest import meshes

__all__ = ["meshes"]
