"""The HTTP part of RabbitMQ's management API: virtual hosts, queues, overview.

It follows the API's own reference, which every broker serves at /api/index.html. Exchanges and
bindings are not made here: AMQP declares them.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from ..config.address import TLSConfig, utf8
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
from .token_source import SHARE, Asker

__all__ = ["ManagementAPI"]

logger = logging.getLogger("nuropb_rmq.broker.management")

ANSWER_MAX: Final = 32 * 2**20
"""Bytes of the longest answer that is read: the list of some ten thousand queues."""
_ENCODING_MAX: Final = 40  # characters of a foreign header in an error
_REASON_MAX: Final = 300  # characters of the broker's own words in an error
_NO_SUCH_USER: Final = "vhost_or_user_not_found"  # reason of a 400 for permissions, 3.x and 4.x
_MISSING: Final = 404


class ManagementAPI:
    """The management API of one broker, as one user. An async context manager.

    base_url: http(s)://host:port, with or without a trailing /api; a path prefix is kept.
    username, password: both or neither. Without them those in `base_url` are used; in either
        case they are taken out of the URL, which ends up in logs (httpx's, at INFO).
    token_provider: asked before each call for an AccessToken, which is used in the password's
        place: with a username alone, too. It has half of `timeout` to answer in.
    verify: for https. True: the system's certificate authorities and the host name, as AMQP
        over TLS does; an SSLContext: whatever it says; False: anyone may answer.
    timeout: seconds for each call, from connecting to the last byte of the answer.
    proxy: URL of an HTTP proxy. Proxies are used only when given here: HTTP_PROXY and its like
        are for the web, while this API stands beside a broker that AMQP reaches directly; a
        plain http call through a proxy also shows it the password.

    Nothing is opened before the first call. Raises NuropbConfigurationError for a bad URL or for
    credentials that are missing or incomplete.

    Every call raises BrokerUnreachableError when nobody answers in time, BrokerTLSError when not
    with acceptable TLS; BrokerAuthenticationError for credentials refused or not sufficient (401,
    403); TokenProviderError when there is no token; ServiceNotConfigured for a 404 that the call
    does not expect; NuropbTransportError, with the status and the broker's reason, for any other
    refusal, and for answers that make no sense, are compressed, or are longer than ANSWER_MAX;
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
        self._base_url, found = _split_credentials(base_url)
        if username is not None and password is None and token_provider is not None:
            password = ""
        if (username is None) != (password is None):
            raise NuropbConfigurationError("username, password", "give both or neither")
        given = found if username is None or password is None else (username, password)
        if given is None:
            raise NuropbConfigurationError("username, password", "missing, in base_url too")
        self._username, self._password = given
        utf8("username", self._username)
        utf8("password", self._password)
        self._asker = None if token_provider is None else Asker(token_provider, timeout * SHARE)
        self._timeout = timeout
        try:
            self._client = httpx.AsyncClient(
                verify=TLSConfig().context() if verify is True else verify,
                timeout=None,  # noqa: S113 - one deadline surrounds the whole call instead
                proxy=proxy,
                trust_env=False,
                headers={"Accept-Encoding": "identity"},
            )
        except (ValueError, httpx.InvalidURL):
            # From None, here and below: their text may quote the URL, password and all.
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
        """Close the connections. More than once is harmless."""
        await self._client.aclose()

    async def overview(self) -> dict[str, Any]:
        """The broker's overview: `rabbitmq_version`, `cluster_name`, `object_totals`, …"""
        return self._object(await self._call("GET", "overview"))

    async def vhosts(self) -> list[dict[str, Any]]:
        """The virtual hosts that the user may see."""
        return self._objects(await self._call("GET", "vhosts"), "virtual hosts")

    async def vhost_exists(self, name: str) -> bool:
        """Return whether the virtual host exists. The user needs the tag `administrator`."""
        return await self._get("vhosts", _segment("name", name)) is not None

    async def create_vhost(self, name: str) -> None:
        """Make the virtual host if it is missing, and let this user configure, write and read all.

        Permissions that the user has there already are left as they are. A user of another
        authentication backend (LDAP, OAuth 2) is not the broker's to grant to: that backend says
        what the user may do. The user needs the tag `administrator`.
        """
        vhost, user = _segment("name", name), _segment("username", self._username)
        if await self._get("vhosts", vhost) is None:
            await self._call("PUT", "vhosts", vhost, body={})
            logger.info("virtual host %r created", name)
        if await self._get("permissions", vhost, user) is None:
            await self._grant(name, vhost, user)

    async def delete_vhost(self, name: str) -> None:
        """Delete the virtual host with all that is in it; one that is missing is deleted already.

        The user needs the tag `administrator`.
        """
        if await self._delete("vhosts", _segment("name", name)):
            logger.info("virtual host %r deleted", name)

    async def queue(self, vhost: str, name: str) -> dict[str, Any] | None:
        """The queue; None when it, or its virtual host, is missing.

        Counts such as `messages` are the broker's statistics: up to 5 seconds old.
        """
        found = await self._get("queues", _segment("vhost", vhost), _segment("name", name))
        return None if found is None else self._object(found)

    async def queues(self, vhost: str) -> list[dict[str, Any]]:
        """The virtual host's queues, with counts as in `queue`. ServiceNotConfigured without it."""
        found = await self._call("GET", "queues", _segment("vhost", vhost))
        return self._objects(found, "queues")

    async def delete_queue(self, vhost: str, name: str) -> None:
        """Delete the queue with its messages; one that is missing is deleted already."""
        if await self._delete("queues", _segment("vhost", vhost), _segment("name", name)):
            logger.info("queue %r of virtual host %r deleted", name, vhost)

    async def _grant(self, name: str, vhost: str, user: str) -> None:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        path = ("permissions", vhost, user)
        response = await self._send("PUT", path, everything)
        if response.status_code == 400 and _NO_SUCH_USER in _reason(response):
            logger.info("user %r is not the broker's own: no permissions set", self._username)
            return
        self._check("PUT", path, response)
        logger.info("user %r may do everything in virtual host %r", self._username, name)

    async def _get(self, *path: str) -> Any:
        """What is there; None for a 404."""
        response = await self._send("GET", path)
        if response.status_code == _MISSING:
            return None
        self._check("GET", path, response)
        return self._decode(response)

    async def _delete(self, *path: str) -> bool:
        """Whether it was there to be deleted."""
        response = await self._send("DELETE", path)
        if response.status_code == _MISSING:
            return False
        self._check("DELETE", path, response)
        return True

    async def _call(self, method: str, *path: str, body: dict[str, Any] | None = None) -> Any:
        """The decoded answer, None when it is empty."""
        response = await self._send(method, path, body)
        self._check(method, path, response)
        return self._decode(response) if response.content else None

    async def _send(
        self, method: str, path: tuple[str, ...], body: dict[str, Any] | None = None
    ) -> httpx.Response:
        """The answer, whatever its status. The one place where httpx's errors become ours."""
        if self._client.is_closed:
            raise TransportClosedError(f"management API {self._base_url}: closed")
        url = "/".join((self._base_url, "api", *path))
        try:
            async with asyncio.timeout(self._timeout):
                if self._asker is not None:
                    self._password = (await self._asker.ask()).token
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
            kind = BrokerTLSError if _about_tls(error) else BrokerUnreachableError
            raise kind(
                f"management API {self._base_url}: {self._mask(str(error)) or 'connection lost'}"
            ) from error
        except httpx.HTTPError as error:
            raise NuropbTransportError(
                f"management API {self._base_url}: {type(error).__name__}: {self._mask(str(error))}"
            ) from error

    async def _read(self, response: httpx.Response) -> httpx.Response:
        """The whole answer, within ANSWER_MAX bytes; a compressed one could become any size."""
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise NuropbTransportError(
                f"management API {self._base_url}: the answer is compressed, and was asked for as "
                f"it is ({encoding[:_ENCODING_MAX]!r}): does a proxy do that?"
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
        """Raise what a status other than 2xx stands for."""
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
            raise NuropbTransportError(f"management API {self._base_url}: no list of {what}")
        return [self._object(each) for each in value]

    def _object(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise NuropbTransportError(f"management API {self._base_url}: not a JSON object")
        return value

    def _mask(self, text: str) -> str:
        """`text` without our secrets: a proxy or server may send back what it was sent."""
        pair = base64.b64encode(f"{self._username}:{self._password}".encode()).decode()
        for secret in (pair, self._password):
            text = text.replace(secret, "***") if secret else text
        return text[:_REASON_MAX]


def _split_credentials(base_url: str) -> tuple[str, tuple[str, str] | None]:
    """The URL without user, password and /api; and the two, decoded, when the URL holds both."""
    try:
        parts = urlsplit(base_url)
        host = parts.netloc.rpartition("@")[2]
        path = parts.path.rstrip("/").removesuffix("/api")
        url = f"{parts.scheme}://{host}{path}"
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        if not sound or parts.query or parts.fragment or "@" in path:
            raise ValueError(base_url)
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise NuropbConfigurationError(
            "base_url",
            "should be http(s)://host:port; percent-encode what is special in user and password",
        ) from None
    if parts.username is None or parts.password is None:
        return url, None
    return url, (unquote(parts.username), unquote(parts.password))


def _segment(field: str, name: str) -> str:
    """`name` as one segment of a path. Empty, `.` and `..` would address something else."""
    if name in {"", ".", ".."}:
        raise NuropbConfigurationError(field, f"{name!r} cannot be addressed over HTTP")
    return quote(utf8(field, name), safe="")


def _about_tls(error: BaseException | None) -> bool:
    """Whether it was TLS that failed; httpx has two errors of its own around OpenSSL's."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _reason(response: httpx.Response) -> str:
    """The broker's own words: `error: reason` of its JSON, else what the status is called.

    Any other body is not quoted: it is not known what it says.
    """
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return response.reason_phrase
    return ": ".join(str(body[key]) for key in ("error", "reason") if body.get(key))
