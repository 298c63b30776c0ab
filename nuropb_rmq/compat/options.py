"""Convert between the settings of nuropb's transport, in milliseconds, and TransportConfig."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, TypedDict

from ..config.address import AmqpUrl
from ..config.settings import TransportConfig
from ..exceptions import NuropbConfigurationError

logger = logging.getLogger("nuropb_rmq.compat")

_NAMES: Final = (
    "rpc_exchange",
    "events_exchange",
    "dl_exchange",
    "dl_queue",
    "service_queue",
    "response_queue",
)
_BINDINGS: Final = ("rpc_bindings", "event_bindings")
_OPTIONS: Final = (*_NAMES, *_BINDINGS, "prefetch_count")
_CONFIGURED: Final = ("rpc_exchange", "events_exchange", "dl_exchange", "dl_queue")


class RabbitMQConfiguration(TypedDict):
    """The value of rmq_configuration; default_ttl is in milliseconds."""

    rpc_exchange: str
    events_exchange: str
    dl_exchange: str
    dl_queue: str
    service_queue: str
    response_queue: str
    rpc_bindings: list[str]
    event_bindings: list[str]
    default_ttl: int
    client_only: bool


class _Setting:
    """Read-only attribute under a private name of nuropb's transport."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, transport: object, owner: type) -> Any:
        return self if transport is None else self._read(transport)

    def __set__(self, transport: object, value: object) -> None:
        raise AttributeError(
            f"{self._name} cannot be set: give {self._name[1:]} to {type(transport).__name__}()"
        )


def _configured(name: str) -> _Setting:
    return _Setting(lambda transport: transport.rmq_configuration[name])


class PrivateSettings:
    """The private settings of nuropb's transport, for programs that read them."""

    _service_name = _Setting(attrgetter("service_name"))
    _instance_id = _Setting(attrgetter("instance_id"))
    _rpc_exchange = _configured("rpc_exchange")
    _events_exchange = _configured("events_exchange")
    _dl_exchange = _configured("dl_exchange")
    _dl_queue = _configured("dl_queue")
    _service_queue = _configured("service_queue")
    _response_queue = _configured("response_queue")
    _rpc_bindings = _Setting(lambda transport: set(transport.rmq_configuration["rpc_bindings"]))
    _event_bindings = _Setting(lambda transport: set(transport.rmq_configuration["event_bindings"]))
    _prefetch_count = _Setting(attrgetter("core.config.prefetch_count"))
    _default_ttl = _configured("default_ttl")
    _client_only = _configured("client_only")
    _message_callback = _Setting(attrgetter("_arguments.message_callback"))
    _encryptor = _Setting(attrgetter("_arguments.encryptor"))

    is_leader: bool = True
    """Copied into the metadata of messages; no other effect."""

    @property
    def _is_leader(self) -> bool:
        return self.is_leader

    @_is_leader.setter
    def _is_leader(self, value: bool) -> None:
        self.is_leader = value


def options(default_ttl: object, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Convert RMQTransport's options to settings of TransportConfig; log unknown ones once.

    As in nuropb, every false value means the default, except a prefetch_count of 0. Raises
    NuropbConfigurationError.
    """
    stray = sorted(set(kwargs) - set(_OPTIONS))
    if stray:
        logger.warning("RMQTransport has no option %s; ignored", ", ".join(stray))
    settings = {name: kwargs[name] for name in (*_NAMES, *_BINDINGS) if kwargs.get(name)}
    if kwargs.get("prefetch_count") is not None:
        settings["prefetch_count"] = kwargs["prefetch_count"]
    if default_ttl:
        if isinstance(default_ttl, bool) or not isinstance(default_ttl, int | float):
            raise NuropbConfigurationError("default_ttl", "must be a number of milliseconds")
        # Bounded: an integer may be too large for a float.
        settings["default_ttl"] = max(-1, min(default_ttl, 2**64)) / 1000
    return settings


def configuration(
    config: TransportConfig, instance_id: str, response_queue: str
) -> RabbitMQConfiguration:
    """Return the settings as nuropb's rmq_configuration.

    response_queue: the name in use, or "".
    """
    bindings = dict.fromkeys((config.service_name, *config.rpc_bindings))
    return {
        "rpc_exchange": config.rpc_exchange,
        "events_exchange": config.events_exchange,
        "dl_exchange": config.dl_exchange,
        "dl_queue": config.dl_queue_name,
        "service_queue": config.service_queue_name,
        "response_queue": response_queue or config.response_queue_name(instance_id),
        "rpc_bindings": [config.service_name] if config.client_only else list(bindings),
        "event_bindings": [] if config.client_only else list(config.event_bindings),
        "default_ttl": round(config.default_ttl * 1000),
        "client_only": config.client_only,
    }


def reconfigured(
    config: TransportConfig, changes: Mapping[str, Any], amqp_url: AmqpUrl | None
) -> TransportConfig:
    """Return `config` with the changes of an rmq_configuration and another amqp_url."""
    names = {name: changes[name] for name in _CONFIGURED if changes.get(name)}
    return replace(
        config,
        amqp_url=amqp_url or config.amqp_url,
        client_only=changes.get("client_only", config.client_only),
        **names,
    )
