"""RabbitMQ's management API over HTTP: virtual hosts, queues, overview.

Follows the API's own reference, which every broker serves at /api/index.html. Exchanges and
bindings are not made here: AMQP declares them.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from types import TracebackType
from typing import Any, Final, Self

import httpx

from ..config.address import TLSConfig, utf8
from ..config.settings import TransportConfig
from ..config.tokens import TokenProvider
from ..exceptions import (
    BrokerAuthenticationError,
    BrokerTLSError,
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbTransportError,
    ServiceNotConfigured,
    TransportClosedError,
)
from ..printable import shorten
from .management_address import segment, split_credentials
from .token_source import SHARE, TokenSource

logger = logging.getLogger("nuropb_rmq.broker.management")

ANSWER_MAX: Final = 32 * 2**20
"""Bytes of the longest answer that is read: a list of some ten thousand queues."""
_REASON_MAX: Final = 300  # characters of the broker's reason in an error
_NO_SUCH_USER: Final = "vhost_or_user_not_found"  # reason of a 400 for permissions, 3.x and 4.x
_MISSING: Final = 404
_UNHEALTHY: Final = 503


class ManagementAPI:
    """A client of one broker's management API, as one user. An async context manager.

    base_url: http(s)://host:port, with or without a trailing /api; a path prefix is kept.
    username, password: both or neither. Without them those in `base_url` are used; in either
        case they are removed from the URL, which httpx logs at INFO.
    token_provider: called before each call for an AccessToken, which is used in place of the
        password; `username` may then be passed alone. It must answer within half of `timeout`.
    verify: for https. True: check certificate and host name by the system's authorities, as for
        AMQP over TLS; an SSLContext: check by its settings; False: accept any server.
    timeout: seconds for each call, from connecting to the last byte of the answer.
    proxy: URL of an HTTP proxy. HTTP_PROXY and the like have no effect: they are for the web, while
        this API belongs to a broker that AMQP reaches directly, and a plain http call would show
        the proxy the password.

    Nothing is opened before the first call. Raises NuropbConfigurationError for a bad URL, or for
    missing or incomplete credentials.

    Every call raises BrokerUnreachableError when nobody answers in time; BrokerTLSError when TLS
    fails; BrokerAuthenticationError for refused or insufficient credentials (401, 403);
    TokenProviderError when there is no token; ServiceNotConfigured for a 404 that the call does
    not expect; NuropbTransportError, with the status and the broker's reason, for any other
    refusal, and for answers that are not as documented, compressed, or longer than ANSWER_MAX;
    TransportClosedError after aclose(). Calls may be repeated: a second time changes nothing.
    """

    def __init__(
        self,
        base_url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token_provider: TokenProvider | None = None,
        verify: ssl.SSLContext | bool = True,
        timeout: float = 10.0,
        proxy: str | None = None,
    ) -> None:
        self._base_url, found = split_credentials(base_url)
        if username is not None and password is None and token_provider is not None:
            password = ""
        if (username is None) != (password is None):
            raise NuropbConfigurationError("username, password", "give both or neither")
        credentials = found if username is None or password is None else (username, password)
        if credentials is None:
            raise NuropbConfigurationError("username, password", "missing, in base_url too")
        self._username, self._password = credentials
        utf8("username", self._username)
        utf8("password", self._password)
        within = timeout * SHARE
        self._source = None if token_provider is None else TokenSource(token_provider, within)
        self._timeout = timeout
        self.date = ""
        """The broker's clock as its latest answer tells it (HTTP's Date, in seconds)."""
        try:
            self._client = httpx.AsyncClient(
                verify=_context_for(self._base_url) if verify is True else verify,
                timeout=None,  # noqa: S113 - _send() has one deadline for the whole call instead
                proxy=proxy,
                trust_env=False,
                headers={"Accept-Encoding": "identity"},
            )
        except (ValueError, httpx.InvalidURL):
            # From None, here and below: their text may quote the URL with the password.
            raise NuropbConfigurationError("proxy", "not the URL of an HTTP proxy") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r}, username={self._username!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; may be called again."""
        await self._client.aclose()

    async def get(self, *path: str, query: str = "") -> Any:
        """Return what is at /api/PATH, for what has no method here; None when it is missing."""
        *before, last = (segment("path", each) for each in path)
        return await self._get(*before, f"{last}?{query}" if query else last)

    async def overview(self) -> dict[str, Any]:
        """Return the broker's overview: `rabbitmq_version`, `cluster_name`, `object_totals`, …"""
        return self._object(await self._call("GET", "overview"))

    async def alarms(self) -> list[dict[str, Any]]:
        """Return the alarms in effect, of all nodes: each has a `node` and a `resource`.

        The resource is `memory`, `disk space` or `file descriptors`. They are of now. Where the
        broker does not tell, there are none.
        """
        path = ("health", "checks", "alarms")
        response = await self._send("GET", path)
        if response.status_code == _MISSING:
            return []
        if response.status_code != _UNHEALTHY:
            self._check("GET", path, response)
        found = self._object(self._decode(response)).get("alarms", [])
        return self._objects(found, "alarms")

    async def vhosts(self) -> list[dict[str, Any]]:
        """Return the virtual hosts that the user may see."""
        return self._objects(await self._call("GET", "vhosts"), "virtual hosts")

    async def vhost_exists(self, name: str) -> bool:
        """Return whether the virtual host exists. The user needs the tag `administrator`."""
        return await self._get("vhosts", segment("name", name)) is not None

    async def create_vhost(self, name: str) -> None:
        """Make the virtual host if it is missing, and let this user configure, write and read all.

        Permissions that the user has there already do not change. A user of another authentication
        backend (LDAP, OAuth 2) gets none: that backend decides. The user needs the tag
        `administrator`.
        """
        vhost, user = segment("name", name), segment("username", self._username)
        if await self._get("vhosts", vhost) is None:
            await self._call("PUT", "vhosts", vhost, body={})
            logger.info("virtual host %r created", name)
        if await self._get("permissions", vhost, user) is None:
            await self._grant(name, vhost, user)

    async def delete_vhost(self, name: str) -> None:
        """Delete the virtual host with all that is in it; do nothing if it is missing.

        The user needs the tag `administrator`.
        """
        if await self._delete("vhosts", segment("name", name)):
            logger.info("virtual host %r deleted", name)

    async def queue(
        self, vhost: str, name: str, *, statistics: bool = True
    ) -> dict[str, Any] | None:
        """Return the queue; None when it, or its virtual host, is missing.

        Counts such as `messages` are the broker's statistics: up to 5 seconds old, and so is all
        else with them. Without `statistics` it is of now; policies are there from 4.0 on only.
        """
        last = segment("name", name) + ("" if statistics else "?disable_stats=true")
        found = await self._get("queues", segment("vhost", vhost), last)
        return None if found is None else self._object(found)

    async def queues(self, vhost: str, *columns: str) -> list[dict[str, Any]]:
        """Return the queues of a virtual host, with counts as in `queue`.

        With `columns`, only these fields of each, which is less work for the broker. Raises
        ServiceNotConfigured when the virtual host is missing.
        """
        query = f"?columns={','.join(columns)}" if columns else ""
        found = await self._call("GET", "queues", segment("vhost", vhost) + query)
        return self._objects(found, "queues")

    async def bindings(self, vhost: str, queue: str) -> list[dict[str, Any]]:
        """Return the bindings of a queue: each has a `source`, an exchange, and a `routing_key`.

        Raises ServiceNotConfigured when the queue or the virtual host is missing.
        """
        path = ("queues", segment("vhost", vhost), segment("name", queue), "bindings")
        return self._objects(await self._call("GET", *path), "bindings")

    async def delete_queue(self, vhost: str, name: str) -> None:
        """Delete the queue with its messages; do nothing if it is missing."""
        if await self._delete("queues", segment("vhost", vhost), segment("name", name)):
            logger.info("queue %r of virtual host %r deleted", name, vhost)

    async def _grant(self, name: str, vhost: str, user: str) -> None:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        path = ("permissions", vhost, user)
        response = await self._send("PUT", path, everything)
        if response.status_code == 400 and _NO_SUCH_USER in _reason(response):
            logger.info("user %r has another backend: no permissions set", self._username)
            return
        self._check("PUT", path, response)
        logger.info("user %r may do everything in virtual host %r", self._username, name)

    async def _get(self, *path: str) -> Any:
        """Return the decoded answer; None for a 404."""
        response = await self._send("GET", path)
        if response.status_code == _MISSING:
            return None
        self._check("GET", path, response)
        return self._decode(response)

    async def _delete(self, *path: str) -> bool:
        """Delete; return False for a 404."""
        response = await self._send("DELETE", path)
        if response.status_code == _MISSING:
            return False
        self._check("DELETE", path, response)
        return True

    async def _call(self, method: str, *path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the decoded answer; None when it is empty."""
        response = await self._send(method, path, body)
        self._check(method, path, response)
        return self._decode(response) if response.content else None

    async def _send(
        self, method: str, path: tuple[str, ...], body: dict[str, Any] | None = None
    ) -> httpx.Response:
        """Return the answer, with any status; the only place where httpx's errors become ours."""
        if self._client.is_closed:
            raise TransportClosedError(f"management API {self._base_url}: closed")
        url = "/".join((self._base_url, "api", *path))
        try:
            async with asyncio.timeout(self._timeout):
                if self._source is not None:
                    self._password = (await self._source.ask()).token
                credentials = httpx.BasicAuth(self._username, self._password)
                async with self._client.stream(
                    method, url, json=body, auth=credentials
                ) as response:
                    return await self._read(response)
        except TimeoutError as error:
            raise BrokerUnreachableError(
                f"management API {self._base_url}: no answer within {self._timeout:g} s"
            ) from error
        except (httpx.NetworkError, httpx.ProxyError) as error:
            kind = BrokerTLSError if _tls_failed(error) else BrokerUnreachableError
            raise kind(
                f"management API {self._base_url}: {self._mask(str(error)) or 'connection lost'}"
            ) from error
        except httpx.HTTPError as error:
            raise NuropbTransportError(
                f"management API {self._base_url}: {type(error).__name__}: {self._mask(str(error))}"
            ) from error

    async def _read(self, response: httpx.Response) -> httpx.Response:
        """Read the whole answer, up to ANSWER_MAX bytes; a compressed one could become any size."""
        self.date = response.headers.get("date", "")
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise NuropbTransportError(
                f"management API {self._base_url}: expected an uncompressed answer, got "
                f"content-encoding {shorten(encoding)!r}: does a proxy do that?"
            )
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > ANSWER_MAX:
                raise NuropbTransportError(
                    f"management API {self._base_url}: the answer is larger than {ANSWER_MAX} "
                    "bytes; is this RabbitMQ?"
                )
        return httpx.Response(
            response.status_code, content=bytes(content), extensions=response.extensions
        )

    def _check(self, method: str, path: tuple[str, ...], response: httpx.Response) -> None:
        """Raise the error for a status other than 2xx."""
        if response.is_success:
            return
        what = f"management API {self._base_url}: {method} /api/{'/'.join(path)}"
        text = f"{what}: {response.status_code} {self._mask(_reason(response))}".rstrip()
        match response.status_code:
            case 401 | 403:
                raise BrokerAuthenticationError(f"{text} (user {self._username!r})")
            case 404:
                raise ServiceNotConfigured(text)
            case _:
                raise NuropbTransportError(text)

    def _decode(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise NuropbTransportError(
                f"management API {self._base_url}: the answer is not JSON; is this RabbitMQ?"
            ) from error

    def _objects(self, value: Any, what: str) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise NuropbTransportError(
                f"management API {self._base_url}: expected a list of {what}"
            )
        return [self._object(item) for item in value]

    def _object(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise NuropbTransportError(f"management API {self._base_url}: not a JSON object")
        return value

    def _mask(self, text: str) -> str:
        """Return `text` without our secrets, which a proxy or server may have sent back."""
        pair = base64.b64encode(f"{self._username}:{self._password}".encode()).decode()
        for secret in (pair, self._password):
            text = text.replace(secret, "***") if secret else text
        return text[:_REASON_MAX]


def management_api(
    config: TransportConfig, api_url: str | None, *, timeout: float = 10.0
) -> ManagementAPI:
    """Return the management API of a configuration's broker, with its user; not connected yet.

    api_url: its address, with a user of its own or without one; None: derived from the AMQP URL.
    Raises NuropbConfigurationError.
    """
    broker = config.broker
    own = api_url is None or "@" not in api_url
    return ManagementAPI(
        api_url or broker.management_url(),
        username=broker.username if own else None,
        password=broker.password if own else None,
        token_provider=config.token_provider if own else None,
        verify=True if broker.tls is None else broker.tls.context(),
        timeout=timeout,
    )


def untagged(why: str) -> bool:
    """Return whether an error's text says that the user lacks a tag; else the login is wrong."""
    return "Not management user" in why or ": 403 " in why


def _context_for(base_url: str) -> ssl.SSLContext:
    # For plain http one that trusts nobody: to read the system's certificates takes 38 ms.
    https = base_url.startswith("https:")
    return TLSConfig().context() if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _tls_failed(error: BaseException | None) -> bool:
    """Return whether OpenSSL's error is behind those of httpx and its libraries."""
    for _ in range(8):  # not to the end: a chain of errors may be a circle
        if error is None or isinstance(error, ssl.SSLError):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, ssl.SSLError)


def _reason(response: httpx.Response) -> str:
    """Return `error: reason` of the broker's JSON, else the name of the status.

    No other body is quoted, for it may hold anything.
    """
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return response.reason_phrase
    return ": ".join(str(body[key]) for key in ("error", "reason") if body.get(key))
