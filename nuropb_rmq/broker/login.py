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
from ..safe_logging import report
from .backoff import pause
from .token_source import SHARE, Asker

logger = logging.getLogger("nuropb_rmq.broker")

RENEWED_AT: Final = 0.8
"""Share of a token's life after which the next one is requested."""


class Credentials:
    """The user and secret of one connection, in all its lives. `secret` is for the next login."""

    def __init__(self, config: TransportConfig) -> None:
        broker, provider = config.broker, config.token_provider
        self.username = broker.username
        self.secret = broker.password
        self._cap = config.reconnect_cap
        self._due: float | None = None
        self._asker = None if provider is None else Asker(provider, config.connect_timeout * SHARE)

    @property
    def renewable(self) -> bool:
        """Whether the next login may have another secret."""
        return self._asker is not None

    async def renew(self) -> None:
        """Ask for the secret of the next login, where there is anyone to ask.

        Raises TokenProviderError; the secret is the old one then.
        """
        if self._asker is not None:
            token = await self._asker.ask()
            self.secret, life = token.token, token.expires_in
            now = asyncio.get_running_loop().time()
            self._due = None if life is None else now + life * RENEWED_AT

    async def keep(self, router: FrameRouter) -> None:
        """Renew the token of a connection that is up, as long as it is, at 80 % of each one's life.

        When there is none to be had the old one is kept, and the provider asked again, with
        pauses up to reconnect_cap. The broker ends the connection with the token's life, or
        (before 4.x) refuses what needs a permission: the next login asks again.
        """
        now = asyncio.get_running_loop().time
        with suppress(ConnectionLostError):
            while self._due is not None:
                await asyncio.sleep(self._due - now())
                await self._renewed()
                await router.update_secret(self.secret)
                logger.debug("the token was renewed")

    async def _renewed(self) -> None:
        failures = 0
        while True:
            try:
                await self.renew()
            except TokenProviderError as e:
                if not failures:
                    report(logger, logging.WARNING, e, "the token is not renewed: %s", e)
                else:
                    logger.warning("the token is still not renewed: %s", e)
            else:
                return
            await asyncio.sleep(pause(failures, self._cap))
            failures += 1
