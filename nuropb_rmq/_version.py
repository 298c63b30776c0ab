"""The version of this package: pyproject.toml and what peers are told read it here."""

__version__ = "0.2.0"
