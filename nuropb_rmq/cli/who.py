"""The services of a virtual host, as its queues tell: by the management API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from nuropb_rmq import (
    BrokerAuthenticationError,
    BrokerTLSError,
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
    TransportConfig,
)

from ..broker.management import ManagementAPI, management_api, untagged
from .conventions import FAILED, CommandError

_SERVICE_QUEUE: Final = re.compile(r"nuropb-(.+)-sq")
_COLUMNS: Final = (
    "name", "type", "consumers", "messages", "messages_ready", "messages_unacknowledged",
)  # fmt: skip
_HINT_WITHIN: Final = 2.0
"""Seconds that a hint is worth."""
_ANSWERED_WITHIN: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A service that has a queue. Counts are up to 5 s old."""

    name: str
    instances: int
    """Consumers of its queue."""
    waiting: int
    in_hand: int
    """Messages that were delivered and not acknowledged."""
    dead_letters: int | None
    """None: it has no dead-letter queue of its own, as nuropb's services."""
    type: str
    """Of its queue: classic or quorum."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Services of a virtual host, and alarms of its broker, by the management API."""

    services: list[Known]
    alarms: tuple[str, ...] | None
    """A sentence for each alarm in effect; None: they are not told."""


async def names(config: TransportConfig, management_url: str | None) -> list[str]:
    """Return the names of all services, for a hint. Raises a NuropbException."""
    async with _api(config, management_url, _HINT_WITHIN) as api:
        queues = await api.queues(config.broker.vhost)
    return sorted(found[1] for queue in queues if (found := _service(queue)))


async def services(config: TransportConfig, management_url: str | None) -> list[Known]:
    """Return all services, by name. Raises CommandError when the management API is not there."""
    with _managed():
        async with _api(config, management_url, _ANSWERED_WITHIN) as api:
            return await _services(api, config)


async def seen(config: TransportConfig, management_url: str | None) -> Seen:
    """Return all services, and alarms. Raises CommandError when the management API is not there."""
    with _managed():
        async with _api(config, management_url, _ANSWERED_WITHIN) as api:
            known, alarms = await _services(api, config), None
            # Whoever sees queues sees alarms, unless a proxy is between: then the queues count.
            with suppress(NuropbTransportError):
                alarms = tuple(map(_alarm, await api.alarms()))
            return Seen(known, alarms)


@contextmanager
def _managed() -> Iterator[None]:
    try:
        yield
    except NuropbTransportError as e:
        raise unmanaged(e) from e


async def _services(api: ManagementAPI, config: TransportConfig) -> list[Known]:
    queues = await api.queues(config.broker.vhost, *_COLUMNS)
    by_name = {str(queue.get("name")): queue for queue in queues}
    return [_known(found[1], queue, by_name) for queue in queues if (found := _service(queue))]


_BLOCKING: Final = ("memory", "disk space")
"""Resources whose alarm stops publishers; that of file descriptors stops new connections."""


def _alarm(alarm: Mapping[str, Any]) -> str:
    resource = str(alarm.get("resource"))
    blocks = ": publishers are blocked" if resource in _BLOCKING else ""
    return f"{resource} alarm on {alarm.get('node')}{blocks}"


async def topics(config: TransportConfig, service: str, management_url: str | None) -> list[str]:
    """Return the topics that the queue of a service is bound to. Raises a NuropbException."""
    async with _api(config, management_url, _HINT_WITHIN) as api:
        bindings = await api.bindings(config.broker.vhost, f"nuropb-{service}-sq")
    events = config.events_exchange
    return sorted(str(each.get("routing_key")) for each in bindings if each.get("source") == events)


def unmanaged(error: NuropbTransportError) -> CommandError:
    """Return an error about the management API that says what to do."""
    match error:
        case BrokerAuthenticationError() if not untagged(str(error)):
            fix = "is the password right? --management-url takes another user with a password"
        case BrokerAuthenticationError():
            fix = "give the user the tag `management`: rabbitmqctl set_user_tags USER management"
        case ServiceNotConfigured():
            return CommandError(f"{error}: does the virtual host exist there?", FAILED)
        case BrokerTLSError():
            fix = "name its address with --management-url"
        case BrokerUnreachableError() if isinstance(error.__cause__, TimeoutError):
            fix = "does the broker work?"
        case BrokerUnreachableError():
            fix = (
                "enable it on the broker (rabbitmq-plugins enable rabbitmq_management), or name "
                "its address with --management-url"
            )
        case _:
            fix = "name its address with --management-url"
    return CommandError(f"{error}: {fix}", FAILED)


def _api(config: TransportConfig, management_url: str | None, timeout: float) -> ManagementAPI:
    if config.broker.in_memory:
        problem = f"{config.broker} is in the memory of a process: it has no management API"
        raise NuropbConfigurationError("amqp_url", problem)
    return management_api(config, management_url, timeout=timeout)


def _service(queue: Mapping[str, Any]) -> re.Match[str] | None:
    return _SERVICE_QUEUE.fullmatch(str(queue.get("name")))


def _known(name: str, queue: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> Known:
    letters = by_name.get(f"nuropb-{name}-dlq")
    return Known(
        name=name,
        instances=_count(queue, "consumers"),
        waiting=_count(queue, "messages_ready"),
        in_hand=_count(queue, "messages_unacknowledged"),
        dead_letters=None if letters is None else _count(letters, "messages"),
        type=str(queue.get("type", "classic")),
    )


def _count(queue: Mapping[str, Any], name: str) -> int:
    value = queue.get(name)
    return value if isinstance(value, int) else 0
