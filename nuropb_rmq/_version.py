"""The version of this package: pyproject.toml reads it here, and so do messages to peers."""

__version__ = "0.2.0"
