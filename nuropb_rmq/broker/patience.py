"""How long an established connection keeps retrying before an error counts as final."""

from __future__ import annotations

import asyncio
import logging

from ..config.settings import TransportConfig
from ..exceptions import BrokerAuthenticationError, NuropbTransportError
from .error_translation import is_final, is_missing

logger = logging.getLogger("nuropb_rmq.broker")

REFUSED_FOR = 300.0
"""Seconds for which refusals of one token after the other are borne: an identity server that is
wrong for a while, or a broker that does not know its new key yet, should not end a service."""


class Patience:
    """Knows since when a connection has been refused, or misses something, and when that is enough.

    A first connection has none. A virtual host or exchange that is missing is waited for during
    missing_timeout. A refusal is final, for a password is not going to be another. A token is:
    refusals are borne for REFUSED_FOR seconds, and each login asks for a new one.
    """

    def __init__(self, config: TransportConfig, *, renewable: bool) -> None:
        self._config = config
        self._renewable = renewable
        self._refused_since: float | None = None
        self._missing_since: float | None = None
        self.was_settled = False

    @property
    def missing_for(self) -> float:
        """Seconds for which a virtual host or exchange has been missing."""
        return _seconds_since(self._missing_since)

    def settled(self) -> None:
        """The connection is in use: whatever was in its way is over."""
        self.was_settled = True
        self._refused_since = None
        self._missing_since = None

    def unrelated(self) -> None:
        """An attempt failed of something else, so refusals no longer follow on each other."""
        self._refused_since = None

    def is_over(self, error: NuropbTransportError) -> bool:
        """Return whether retrying makes no sense after this error."""
        missing = is_missing(error)
        if not missing:
            self._missing_since = None
        if isinstance(error, BrokerAuthenticationError) and self._renewable and self.was_settled:
            if self._refused_since is None:
                self._refused_since = _now()
            return _seconds_since(self._refused_since) >= REFUSED_FOR
        if not (missing and self.was_settled):
            return is_final(error)
        patience = self._config.missing_timeout
        if self._missing_since is None:
            logger.warning("%s; waiting for it for %g s (missing_timeout)", error, patience)
            self._missing_since = _now()
        return self.missing_for >= patience


def _now() -> float:
    return asyncio.get_running_loop().time()


def _seconds_since(moment: float | None) -> float:
    return 0.0 if moment is None else _now() - moment
