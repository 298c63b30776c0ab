"""The credentials of a connection: the password of the settings, or a token from a provider.

A token is renewed on the living connection by RabbitMQ's connection.update-secret
(https://www.rabbitmq.com/docs/oauth2), so that nothing is interrupted.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from ..amqp.router import FrameRouter
from ..config.settings import TransportConfig
from ..exceptions import ConnectionLostError, TokenProviderError
from ..safe_logging import ServiceLog, report
from .backoff import pause
from .token_source import SHARE, TokenSource

RENEWED_AT: Final = 0.8
"""Share of a token's life after which the next one is requested."""


class Credentials:
    """The user and secret of a connection and its reconnects; `secret` is for the next login."""

    def __init__(self, config: TransportConfig, log: ServiceLog) -> None:
        self._log = log
        broker, provider = config.broker, config.token_provider
        self.username = broker.username
        self.secret = broker.password
        self._cap = config.reconnect_cap
        # Loop time of the next renewal.
        self._due: float | None = None
        within = config.connect_timeout * SHARE
        self._source = None if provider is None else TokenSource(provider, within)

    @property
    def renewable(self) -> bool:
        """True when the next login may have another secret."""
        return self._source is not None

    async def renew(self) -> None:
        """Get the secret of the next login from the token provider, if there is one.

        Raises TokenProviderError, and keeps the old secret then.
        """
        if self._source is not None:
            token = await self._source.ask()
            self.secret, life = token.token, token.expires_in
            now = asyncio.get_running_loop().time()
            self._due = None if life is None else now + life * RENEWED_AT

    async def keep(self, router: FrameRouter) -> None:
        """Renew the token of an open connection until it is lost, at 80 % of each token's life.

        If the provider fails, the old token stays, and the provider is called again, with pauses up
        to reconnect_cap. When a token expires, the broker closes the connection or (before 4.x)
        refuses operations that need a permission: the next login gets a new one.
        """
        now = asyncio.get_running_loop().time
        with suppress(ConnectionLostError):
            while self._due is not None:
                await asyncio.sleep(self._due - now())
                await self._renewed()
                await router.update_secret(self.secret)
                self._log.debug("the token was renewed")

    async def _renewed(self) -> None:
        failures = 0
        while True:
            try:
                await self.renew()
            except TokenProviderError as e:
                if not failures:
                    report(self._log, logging.WARNING, e, "the token is not renewed: %s", e)
                else:
                    self._log.warning("the token is still not renewed: %s", e)
            else:
                return
            await asyncio.sleep(pause(failures, self._cap))
            failures += 1
