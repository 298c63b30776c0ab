"""Mesh: call services, send events, and serve the methods of an object."""

from .mesh import Mesh as Mesh
