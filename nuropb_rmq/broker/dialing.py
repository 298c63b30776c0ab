"""Open the socket of an attempt to connect: hosts and addresses in turn, TLS, the first bytes.

Why: docs/decisions/009-logs-of-other-libraries.md
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from socket import socket
from typing import Any

import pamqp.frame
from aiormq.connection import TransportFactory
from pamqp import commands
from yarl import URL

from ..amqp.router import PROTOCOL_HEADER, FrameRouter
from ..config.address import Broker
from ..exceptions import ConnectionLostError, NuropbConfigurationError, TokenProviderError
from ..safe_logging import ServiceLog
from .addresses import connect, none_of, resolve
from .forked import cut_off, ends_in_children
from .login import Credentials

_SHARE = 0.9
"""Share of connect_timeout until the login begins."""
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_SILENT = (
    "a connection was accepted, and nothing was sent on it: is this the port of AMQP, and does the "
    "broker work?"
)


class LoginWriter(asyncio.StreamWriter):
    """aiormq's writer to the socket; puts our secret and virtual host into its login.

    aiormq takes both from a URL, which it may log, and in which it reads every %2F as a slash, also
    where the name of the virtual host has these three characters. Its protocol header is dropped:
    the router has sent one, to see whether the host answers.
    """

    def __init__(self, *socket: Any, credentials: Credentials, vhost: str) -> None:
        super().__init__(*socket)
        self._credentials: Credentials | None = credentials
        self._vhost = vhost

    def write(self, data: Any) -> None:
        """Write; up to Connection.Open, each call has exactly one frame."""
        super().write(data if self._credentials is None else self._completed(data))

    def _completed(self, data: bytes) -> bytes:
        if data == PROTOCOL_HEADER:
            return b""
        _, _, frame = pamqp.frame.unmarshal(data)
        match frame:
            case commands.Connection.StartOk():
                assert self._credentials is not None  # noqa: S101 - narrows for mypy
                frame.response = f"\0{self._credentials.username}\0{self._credentials.secret}"
            case commands.Connection.Open():
                frame.virtual_host = self._vhost
                self._credentials = None
            case _:
                return data
        return pamqp.frame.marshal(frame, 0)


class RouterFactory(TransportFactory):
    """Opens the socket of every attempt; raises only OSError, on which aio-pika retries."""

    def __init__(
        self,
        broker: Broker,
        credentials: Credentials,
        connect_timeout: float,
        log: ServiceLog,
        *,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        self._broker = broker
        self._log = log
        self._credentials = credentials
        # With several hosts, time must be left for the login at the last of them; with one, for an
        # error that says where the attempt stopped.
        shares = len(broker.hosts) + (len(broker.hosts) > 1)
        longest = connect_timeout * _SHARE
        self._timeout = max(min(1.0, longest), longest / shares)
        self._on_blocked = on_blocked
        self._on_lost = on_lost
        self._next_host = 0
        self.attempts = 0
        self.no_token: TokenProviderError | None = None
        """The token provider's error, if the latest attempt failed with it."""
        self.router: FrameRouter | None = None
        # The socket of the latest attempt. A socket object, because the number of a closed one
        # may belong to another file.
        self._socket: socket | None = None
        ends_in_children(self)

    def abandon(self) -> None:
        """Close the socket without its event loop, which is closed itself."""
        if self._socket is not None:
            self._socket.close()

    def disown(self) -> None:
        """Keep writes in this process, a forked child, from reaching the parent's socket."""
        if self._socket is not None and (descriptor := self._socket.fileno()) >= 0:
            cut_off(descriptor)

    async def create(self, url: URL, **kwargs: Any) -> _Streams:
        """Get a token, if one is needed, and connect to the first host that answers.

        Begins with the host after the one used last.
        """
        self.attempts += 1
        self.router = None
        await self._renew_credentials()
        context = await self._tls_context()
        hosts = self._broker.hosts
        errors: dict[str, OSError] = {}
        for _ in hosts:
            host, port = hosts[self._next_host % len(hosts)]
            self._next_host += 1
            try:
                return await self._open(host, port, context)
            except OSError as e:
                errors[f"{host}:{port}"] = e
            except ValueError as e:  # a host name that cannot be encoded
                errors[f"{host}:{port}"] = OSError(f"{host}: {e}")
        raise none_of("hosts", errors)

    async def _renew_credentials(self) -> None:
        self.no_token = None
        try:
            await self._credentials.renew()
        except TokenProviderError as e:
            self.no_token = e
            raise OSError(f"{e}") from None  # the provider's own error may quote a secret

    async def _tls_context(self) -> ssl.SSLContext | None:
        tls = self._broker.tls
        if tls is None:
            return None
        try:
            # Read for each attempt, so that renewed certificates are used.
            return await asyncio.get_running_loop().run_in_executor(None, tls.context)
        except NuropbConfigurationError as e:
            raise ssl.SSLError(f"{e}") from e

    async def _open(self, host: str, port: int, context: ssl.SSLContext | None) -> _Streams:
        """Connect to the first address of a host that answers; each has its share of the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        errors: dict[str, OSError] = {}
        accepted = False
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await resolve(host, port)
                while addresses:
                    try:
                        address, sock = await connect(addresses)
                    except OSError as e:
                        errors[", ".join(map(str, addresses))] = e
                        break
                    accepted = True
                    share = (deadline - loop.time()) / len(addresses)
                    addresses.remove(address)
                    try:
                        async with asyncio.timeout(share):
                            return await self._greeted(sock, host, context)
                    except OSError as e:
                        errors[str(address)] = e
                raise none_of("addresses", errors)
        except TimeoutError as e:
            silent = f"; {_SILENT}" if accepted else ""
            raise TimeoutError(f"no answer in {self._timeout:.3g} s{silent}") from e

    async def _greeted(self, sock: socket, host: str, context: ssl.SSLContext | None) -> _Streams:
        self._socket = sock
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        router = FrameRouter(
            *(reader, loop, self._log), on_blocked=self._on_blocked, on_lost=self._on_lost
        )
        transport, _ = await loop.create_connection(
            lambda: router, sock=sock, ssl=context, server_hostname=host if context else None
        )
        self.router = router
        # A host may accept and stay silent: then the next one is tried.
        await router.greet()
        writer = LoginWriter(
            *(transport, router, reader, loop),
            credentials=self._credentials,
            vhost=self._broker.vhost,
        )
        return reader, writer
