"""Decide when a connection stops retrying."""

from __future__ import annotations

import asyncio

from ..config.settings import TransportConfig
from ..exceptions import BrokerAuthenticationError, NuropbTransportError
from ..safe_logging import ServiceLog
from .error_translation import is_final, is_missing

REFUSED_FOR = 300.0
"""Seconds of refused tokens, one after another, until the connection gives up: an identity server
that fails for a while, or a broker without its new key, should not end a service."""


class RetryLimit:
    """Measures how long a connection was refused, or missed something, and when to give up.

    Before `settled()`, every lasting error ends the connection. Later, it retries for
    missing_timeout while a virtual host or exchange is missing. A refused password ends it at once,
    for it will not change; refused tokens end it after REFUSED_FOR seconds, as each login gets a
    new one.
    """

    def __init__(self, config: TransportConfig, log: ServiceLog, *, renewable: bool) -> None:
        self._config = config
        self._log = log
        # The credentials are tokens.
        self._renewable = renewable
        self._refused_since: float | None = None
        self._missing_since: float | None = None
        self.was_settled = False

    @property
    def missing_for(self) -> float:
        """Seconds for which a virtual host or exchange has been missing."""
        return _seconds_since(self._missing_since)

    def settled(self) -> None:
        """Begin anew: the connection is in use."""
        self.was_settled = True
        self._refused_since = None
        self._missing_since = None

    def unrelated(self) -> None:
        """End a series of refusals: an attempt failed for another reason."""
        self._refused_since = None

    def reached(self, error: NuropbTransportError) -> bool:
        """Return whether to give up after this error."""
        missing = is_missing(error)
        if not missing:
            self._missing_since = None
        if isinstance(error, BrokerAuthenticationError) and self._renewable and self.was_settled:
            if self._refused_since is None:
                self._refused_since = _now()
            return _seconds_since(self._refused_since) >= REFUSED_FOR
        if not (missing and self.was_settled):
            return is_final(error)
        limit = self._config.missing_timeout
        if self._missing_since is None:
            self._log.warning("%s; waiting for it for %g s (missing_timeout)", error, limit)
            self._missing_since = _now()
        return self.missing_for >= limit


def _now() -> float:
    return asyncio.get_running_loop().time()


def _seconds_since(moment: float | None) -> float:
    return 0.0 if moment is None else _now() - moment
