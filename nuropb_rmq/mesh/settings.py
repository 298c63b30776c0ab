"""The arguments of a Mesh, checked, and as settings of its transport."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal

from ..config.address import AmqpUrl
from ..config.settings import TransportConfig
from ..exceptions import NuropbConfigurationError

CLIENT_NAME: Final = "client"
"""The name of a Mesh that has no service_name."""

Configured = bool | Literal["exchanges"]
"""What a Mesh may make on the broker: all, nothing, or all but the virtual host."""


def transport_config(
    amqp_url: AmqpUrl | TransportConfig, service: object | None, given: Mapping[str, Any]
) -> TransportConfig:
    """The settings of the transport; arguments that are None leave them as they are."""
    settings = {name: value for name, value in given.items() if value is not None}
    settings["client_only"] = service is None
    if isinstance(amqp_url, TransportConfig):
        if amqp_url.client_only and service is not None:
            raise NuropbConfigurationError("client_only", "is True, and there is a service")
        return dataclasses.replace(amqp_url, **settings)
    if "service_name" not in settings:
        settings["service_name"] = (
            CLIENT_NAME if service is None else getattr(service, "_service_name", None)
        )
        if settings["service_name"] is None:
            raise NuropbConfigurationError(
                "service_name", "is missing: give it, or let the service have a _service_name"
            )
    return TransportConfig(amqp_url=amqp_url, **settings)


def configured(configure: object) -> Configured:
    """The argument of that name, if it is one of its values."""
    if isinstance(configure, bool):
        return configure
    if configure == "exchanges":
        return "exchanges"
    wanted = 'True, False or "exchanges" (all but the virtual host)'
    raise NuropbConfigurationError("configure", f"must be {wanted}, not {configure!r}")
