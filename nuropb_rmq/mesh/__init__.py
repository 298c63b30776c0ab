"""Mesh: requests, commands and events, and an object that serves them."""

from .mesh import Mesh as Mesh
