"""What a NuroPb program imports from nuropb.nuropb_api and nuropb.rmq_lib, beside the classes.

All of it is synchronous, as it is there, and may be called while a loop runs in the same thread,
which waits meanwhile. TLS is verified unless `verify` is False, over HTTP too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from .broker import AmqpUrl, Broker, typed
from .config import TransportConfig
from .protocol import (
    DEFAULT_DL_EXCHANGE,
    DEFAULT_EVENTS_EXCHANGE,
    DEFAULT_RPC_EXCHANGE,
    new_id,
)
from .rmq_api import RMQAPI
from .setup import configure

if TYPE_CHECKING:
    from .management import ManagementAPI

__all__ = [
    "MeshService",
    "build_amqp_url",
    "build_rmq_api_url",
    "configure_mesh",
    "configure_nuropb_rmq",
    "create_client",
    "create_service",
    "create_virtual_host",
    "delete_virtual_host",
    "rmq_api_url_from_amqp_url",
]

DEFAULT_MESH: Final = "nuropb"
"""The virtual host of create_client, create_service and configure_mesh."""
DEFAULT_DL_QUEUE: Final = "nuropb-dl-queue"
_HTTPS: Final = ("amqps", "https")

EventCallback = Callable[[str, Any, Any, Any, str | None], Awaitable[None] | None]


# -- nuropb_api -----------------------------------------------------------------------------


class MeshService:
    """A service without methods, whose events go to `event_callback`.

    event_callback(topic, event, target, context, trace_id): a function or coroutine function.
    """

    def __init__(
        self,
        service_name: str,
        instance_id: str | None = None,
        event_bindings: Sequence[str] | None = None,
        event_callback: EventCallback | None = None,
    ) -> None:
        self._service_name = service_name
        self._instance_id = instance_id or new_id()
        self._event_bindings = list(event_bindings or ())
        self._event_callback = event_callback

    async def _handle_event_(
        self, topic: str, event: Any, target: Any, context: Any, trace_id: str | None = None
    ) -> None:
        if self._event_callback is not None:
            waiting = self._event_callback(topic, event, target, context, trace_id)
            if waiting is not None:
                await waiting


def create_client(
    name: str | None = None,
    instance_id: str | None = None,
    connection_properties: str | dict[str, Any] | None = None,
    transport_settings: Mapping[str, Any] | None = None,
    transport: type[RMQAPI] | None = None,
) -> RMQAPI:
    """A client that is not connected; `name` is its own, and {vhost}-client without it.

    connection_properties: a URL, or host, port, vhost, username, password, ssl, verify, of which
    those that are missing are guest's on localhost, virtual host nuropb.
    """
    return (transport or RMQAPI)(
        amqp_url=_amqp_url(connection_properties),
        service_name=name,
        instance_id=instance_id,
        transport_settings={**(transport_settings or {}), "client_only": True},
    )


def create_service(  # noqa: PLR0917 - nuropb's signature
    name: str,
    instance_id: str | None = None,
    service_instance: object | None = None,
    connection_properties: str | dict[str, Any] | None = None,
    transport_settings: Mapping[str, Any] | None = None,
    transport: type[RMQAPI] | None = None,
    event_bindings: Sequence[str] | None = None,
    event_callback: EventCallback | None = None,
) -> RMQAPI:
    """A service that is not connected; without a service_instance, one for events alone."""
    settings = dict(transport_settings or {})
    if event_bindings is not None:
        settings["event_bindings"] = list(event_bindings)
    if service_instance is None:
        service_instance = MeshService(name, instance_id, event_bindings, event_callback)
    return (transport or RMQAPI)(
        amqp_url=_amqp_url(connection_properties),
        service_name=name,
        instance_id=instance_id,
        service_instance=service_instance,
        transport_settings=settings,
    )


def configure_mesh(
    mesh_name: str | None = None,
    connection_properties: str | dict[str, Any] | None = None,
    transport_settings: Mapping[str, Any] | None = None,
) -> None:
    """Make the virtual host, the exchanges and a dead-letter queue, where they are missing.

    Raises what configure() raises.
    """
    settings = dict(transport_settings or {})
    configure_nuropb_rmq(
        rmq_url=_amqp_url(connection_properties, vhost=mesh_name),
        events_exchange=settings.get("events_exchange") or DEFAULT_EVENTS_EXCHANGE,
        rpc_exchange=settings.get("rpc_exchange") or DEFAULT_RPC_EXCHANGE,
        dl_exchange=settings.get("dl_exchange") or DEFAULT_DL_EXCHANGE,
        dl_queue=settings.get("dl_queue") or DEFAULT_DL_QUEUE,
    )


def _amqp_url(given: str | dict[str, Any] | None, vhost: str | None = None) -> AmqpUrl:
    """What was given, with nuropb's defaults for what is missing; verify stays True."""
    if isinstance(given, str):
        return given
    defaults = {
        "host": "localhost",
        "username": "guest",
        "password": "guest",
        "vhost": vhost or DEFAULT_MESH,
    }
    return {**defaults, **typed("connection_properties", given or {}, dict, "a URL or a dict")}


# -- rmq_lib --------------------------------------------------------------------------------


def build_amqp_url(  # noqa: PLR0917 - nuropb's signature
    host: str, port: str | int, username: str, password: str, vhost: str, scheme: str = "amqp"
) -> str:
    """A URL for AMQP. What is percent-encoded already stays so."""
    return f"{scheme}://{_credentials(username, password)}{host}:{port}/{_quoted(vhost)}"


def build_rmq_api_url(
    scheme: str, host: str, port: str | int, username: str | None, password: str | None
) -> str:
    """A URL for the management API."""
    return f"{scheme}://{_credentials(username, password)}{host}:{port}/api"


def rmq_api_url_from_amqp_url(
    amqp_url: str, scheme: str | None = None, port: int | str | None = None
) -> str:
    """The URL of the management API beside this broker: its AMQP port, or `port`, plus 10000."""
    parts = urlsplit(amqp_url)
    http = "https" if (scheme or parts.scheme) in _HTTPS else "http"
    amqp_port = port or parts.port or (5671 if http == "https" else 5672)
    host = parts.hostname or "localhost"
    return build_rmq_api_url(
        http,
        f"[{host}]" if ":" in host else host,
        int(amqp_port) + 10_000,
        parts.username,
        parts.password,
    )


def create_virtual_host(api_url: str, vhost_url: AmqpUrl) -> None:
    """Make the virtual host of `vhost_url`, where it is missing, for the user of `api_url`.

    Raises what ManagementAPI raises, a NuropbTransportError or NuropbConfigurationError.
    """
    _blocking(_with_vhost(api_url, vhost_url, lambda api, vhost: api.create_vhost(vhost)))


def delete_virtual_host(api_url: str, vhost_url: AmqpUrl) -> None:
    """Delete the virtual host of `vhost_url`, and all that is in it. Raises as for creating it."""
    _blocking(_with_vhost(api_url, vhost_url, lambda api, vhost: api.delete_vhost(vhost)))


def configure_nuropb_rmq(
    rmq_url: AmqpUrl,
    events_exchange: str,
    rpc_exchange: str,
    dl_exchange: str,
    dl_queue: str,
    **kwargs: Any,
) -> bool:
    """Declare the exchanges and the dead-letter queue; True. With client_only nothing is done.

    Raises what configure() raises.
    """
    if kwargs.get("client_only"):
        return True
    config = TransportConfig(
        amqp_url=rmq_url,
        service_name="configure",
        events_exchange=events_exchange,
        rpc_exchange=rpc_exchange,
        dl_exchange=dl_exchange,
        dl_queue=dl_queue,
    )
    _blocking(configure(config))
    return True


async def _with_vhost(
    api_url: str,
    vhost_url: AmqpUrl,
    call: Callable[[ManagementAPI, str], Coroutine[Any, Any, None]],
) -> None:
    from .management import ManagementAPI  # noqa: PLC0415 - brings httpx, as in setup

    broker = Broker.parse(vhost_url, field="vhost_url")
    own = "@" in api_url  # else the broker's user is asked for, as everywhere
    async with ManagementAPI(
        api_url,
        username=None if own else broker.username,
        password=None if own else broker.password,
        verify=True if broker.tls is None else broker.tls.context(),
    ) as api:
        await call(api, broker.vhost)


def _credentials(username: str | None, password: str | None) -> str:
    if not username:
        return ""
    return f"{_quoted(username)}:{_quoted(password)}@" if password else f"{_quoted(username)}@"


def _quoted(part: str) -> str:
    return quote(part, safe="%")


def _blocking(work: Coroutine[Any, Any, None]) -> None:
    """Do it in a loop of its own: there may be one in this thread."""
    with ThreadPoolExecutor(1, "nuropb-blocking") as thread:
        thread.submit(asyncio.run, work).result()
