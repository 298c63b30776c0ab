"""Settings, where the broker is, and access tokens; checked when they are made."""

from .settings import TransportConfig as TransportConfig
