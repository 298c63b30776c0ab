"""Check the arguments of a Mesh, and convert them to settings of its transport."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, TypedDict

from ..broker.provision import configure, declare_all
from ..broker.watch import Declare
from ..config.address import AmqpUrl
from ..config.settings import TransportConfig
from ..exceptions import NuropbConfigurationError
from ..service.methods import Published
from ..service.retry import Retry

CLIENT_NAME: Final = "client"
"""The name of a Mesh that has no service_name."""

Configured = bool | Literal["exchanges"]
"""Parts that a Mesh may make on the broker: all, none, or all but the virtual host."""


def transport_settings(
    amqp_url: AmqpUrl | TransportConfig, service: object | None, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that the arguments make; those that are None change nothing.

    Raises NuropbConfigurationError.
    """
    settings = {name: value for name, value in arguments.items() if value is not None}
    settings["client_only"] = service is None
    if isinstance(amqp_url, TransportConfig):
        if amqp_url.client_only and service is not None:
            raise NuropbConfigurationError("client_only", "is True, but a service is given")
        settings.setdefault("service_name", amqp_url.service_name)
    elif "service_name" not in settings:
        settings["service_name"] = (
            CLIENT_NAME if service is None else getattr(service, "_service_name", None)
        )
        if settings["service_name"] is None:
            raise NuropbConfigurationError(
                "service_name", "is missing: give it, or give the service a _service_name"
            )
    return settings


def transport_config(
    amqp_url: AmqpUrl | TransportConfig,
    settings: Mapping[str, Any],
    topics: Sequence[str],
    retry: object,
    retries: Sequence[Retry],
) -> TransportConfig:
    """Return the configuration of the transport, with these topics and the delays of Retrys, too.

    Raises NuropbConfigurationError.
    """
    used = list(retries)
    if isinstance(retry, Retry):
        used.append(retry)
    elif retry is not None:
        problem = f"expected a Retry or None, got {type(retry).__name__}"
        raise NuropbConfigurationError("retry", problem)
    delays = [delay for one in used if one.attempts > 1 for delay in one.delays]
    if isinstance(amqp_url, TransportConfig):
        settings = {
            **settings,
            "event_bindings": (*amqp_url.event_bindings, *topics),
            "retry_delays": (*amqp_url.retry_delays, *delays),
        }
        return dataclasses.replace(amqp_url, **settings)
    return TransportConfig(
        amqp_url=amqp_url, **settings, event_bindings=tuple(topics), retry_delays=tuple(delays)
    )


def check_keys(published: Published) -> None:
    """Raise NuropbConfigurationError when a method can never be called, for lack of a key."""
    if published.needs_private_key:
        methods = ", ".join(published.needs_private_key)
        raise NuropbConfigurationError(
            "service", f"needs a _private_key (RSA): these methods require encryption: {methods}"
        )


class ProvisionHooks(TypedDict):
    """The hooks of a transport that make what is missing on the broker."""

    configure: Callable[[], Coroutine[Any, Any, None]] | None
    declare: Declare | None


def provision_hooks(
    config: TransportConfig, configured: object, management_url: str | None
) -> ProvisionHooks:
    """Return the hooks for Mesh's argument `configure`. Raises NuropbConfigurationError."""
    if not isinstance(configured, bool) and configured != "exchanges":
        expected = 'True, False or "exchanges" (all but the virtual host)'
        raise NuropbConfigurationError("configure", f"must be {expected}, not {configured!r}")
    if not configured:
        return {"configure": None, "declare": None}
    vhost = configured is True
    before = partial(configure, config, api_url=management_url, create_vhost=vhost)
    return {"configure": before, "declare": declare_all}
