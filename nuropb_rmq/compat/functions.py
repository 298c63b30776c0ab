"""Functions that NuroPb programs import from nuropb_api, rmq_lib, contexts and utils.

Synchronous functions block, as in nuropb; a loop that runs in the same thread waits meanwhile. TLS
is verified unless `verify` is False, over HTTP too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from ..broker.provision import configure
from ..config.address import AmqpUrl, Broker, typed
from ..config.settings import TransportConfig
from ..exceptions import ServiceNotConfigured
from ..protocol.constants import (
    DEFAULT_DL_EXCHANGE,
    DEFAULT_EVENTS_EXCHANGE,
    DEFAULT_RPC_EXCHANGE,
    new_id,
)
from ..protocol.message import describe
from ..service.marks import marks_of
from ..service.methods import Published
from .rmq_api import RMQAPI
from .rmq_transport import run_blocking

if TYPE_CHECKING:
    from ..broker.management import ManagementAPI

T = TypeVar("T")

DEFAULT_MESH: Final = "nuropb"
"""The virtual host of create_client, create_service and configure_mesh."""
DEFAULT_DL_QUEUE: Final = "nuropb-dl-queue"
_DEFAULTS: Final = {
    "host": "localhost",
    "username": "guest",
    "password": "guest",
    "vhost": DEFAULT_MESH,
}
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
            returned = self._event_callback(topic, event, target, context, trace_id)
            if returned is not None:
                await returned


def default_connection_properties(connection_properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties with defaults: guest on localhost, virtual host nuropb.

    A cafile means TLS, as in nuropb, but TLS is verified, where nuropb has verify=False. Raises
    NuropbConfigurationError.
    """
    properties = typed("connection_properties", connection_properties, dict, "a dict")
    tls = bool(properties.get("ssl") or properties.get("cafile"))
    return {**_DEFAULTS, "ssl": tls, "verify": tls, "port": 5671 if tls else 5672, **properties}


async def connect(instance_id: str | None = None) -> RMQAPI:
    """Return a connected client of the mesh nuropb on localhost.

    Raises what RMQAPI.connect() raises.
    """
    client = create_client(instance_id=instance_id)
    await client.connect()
    return client


def create_client(
    name: str | None = None,
    instance_id: str | None = None,
    connection_properties: str | dict[str, Any] | None = None,
    transport_settings: Mapping[str, Any] | None = None,
    transport: type[RMQAPI] | None = None,
) -> RMQAPI:
    """Return a client, not connected; its default name is {vhost}-client.

    connection_properties: a URL, or host, port, vhost, username, password, ssl and verify, with the
        defaults of default_connection_properties().

    Raises NuropbConfigurationError.
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
    """Return a service, not connected; without a service_instance, one for events only.

    Raises NuropbConfigurationError.
    """
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
    """Make the virtual host, the exchanges and a dead-letter queue if they are missing.

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


def _amqp_url(address: str | dict[str, Any] | None, vhost: str | None = None) -> AmqpUrl:
    """Return the address, with nuropb's defaults for missing parts; verify stays True."""
    if isinstance(address, str):
        return address
    properties = typed("connection_properties", address or {}, dict, "a URL or a dict")
    if vhost is not None and "vhost" not in properties:
        properties = {**properties, "vhost": vhost}
    return default_connection_properties(properties)


# -- rmq_lib --------------------------------------------------------------------------------


def build_amqp_url(  # noqa: PLR0917 - nuropb's signature
    host: str, port: str | int, username: str, password: str, vhost: str, scheme: str = "amqp"
) -> str:
    """Return a URL for AMQP. Parts that are percent-encoded already stay as they are."""
    return f"{scheme}://{_credentials(username, password)}{host}:{port}/{_quoted(vhost)}"


def build_rmq_api_url(
    scheme: str, host: str, port: str | int, username: str | None, password: str | None
) -> str:
    """Return a URL for the management API."""
    return f"{scheme}://{_credentials(username, password)}{host}:{port}/api"


def rmq_api_url_from_amqp_url(
    amqp_url: str, scheme: str | None = None, port: int | str | None = None
) -> str:
    """Return the URL of a broker's management API: its port is the AMQP port plus 10000."""
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
    """Make the virtual host of `vhost_url` if it is missing, as the user of `api_url`.

    Raises what ManagementAPI raises, a NuropbTransportError or NuropbConfigurationError.
    """
    run_blocking(_with_vhost(api_url, vhost_url, lambda api, vhost: api.create_vhost(vhost)))


def delete_virtual_host(api_url: str, vhost_url: AmqpUrl) -> None:
    """Delete the virtual host of `vhost_url` and everything in it.

    Raises what create_virtual_host() raises.
    """
    run_blocking(_with_vhost(api_url, vhost_url, lambda api, vhost: api.delete_vhost(vhost)))


def get_virtual_hosts(api_url: str, vhost_url: AmqpUrl) -> list[dict[str, Any]]:
    """Return the virtual hosts that the user of `api_url` sees, as the management API has them.

    Raises what create_virtual_host() raises.
    """
    return run_blocking(_with_vhost(api_url, vhost_url, lambda api, _: api.vhosts()))


def get_virtual_host_queues(api_url: str, vhost_url: AmqpUrl) -> list[dict[str, Any]] | None:
    """Return the queues of the virtual host, or None when it is missing.

    Raises what create_virtual_host() raises.
    """
    try:
        return run_blocking(_with_vhost(api_url, vhost_url, lambda api, vhost: api.queues(vhost)))
    except ServiceNotConfigured:
        return None


def configure_nuropb_rmq(
    rmq_url: AmqpUrl,
    events_exchange: str,
    rpc_exchange: str,
    dl_exchange: str,
    dl_queue: str,
    **kwargs: Any,
) -> bool:
    """Declare the exchanges and the dead-letter queue, unless client_only; return True.

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
    run_blocking(configure(config))
    return True


async def _with_vhost(
    api_url: str,
    vhost_url: AmqpUrl,
    call: Callable[[ManagementAPI, str], Coroutine[Any, Any, T]],
) -> T:
    from ..broker.management import ManagementAPI  # noqa: PLC0415 - loads httpx

    broker = Broker.parse(vhost_url, field="vhost_url")
    own = "@" in api_url  # else the broker's user
    async with ManagementAPI(
        api_url,
        username=None if own else broker.username,
        password=None if own else broker.password,
        verify=True if broker.tls is None else broker.tls.context(),
    ) as api:
        return await call(api, broker.vhost)


def _credentials(username: str | None, password: str | None) -> str:
    if not username:
        return ""
    return f"{_quoted(username)}:{_quoted(password)}@" if password else f"{_quoted(username)}@"


def _quoted(part: str) -> str:
    return quote(part, safe="%")


# -- contexts and utils ---------------------------------------------------------------------


def describe_service(class_instance: object) -> dict[str, Any]:
    """Return the answer of this object's service to nuropb_describe.

    Raises NuropbConfigurationError for methods that could never be called.
    """
    return Published(class_instance, getattr(class_instance, "_service_name", "")).describe()


def method_requires_nuropb_context(method: Callable[..., Any]) -> bool:
    """Return whether a method is decorated with @nuropb_context."""
    return marks_of(method).context_parameter is not None


def error_dict_from_exception(exception: BaseException) -> dict[str, Any]:
    """Return class name and text of an error, as in a response."""
    return describe(exception)


def obfuscate_credentials(url_with_credentials: AmqpUrl) -> str:
    """Return the broker's URL without its password. Raises NuropbConfigurationError."""
    return str(Broker.parse(url_with_credentials, field="url_with_credentials"))
