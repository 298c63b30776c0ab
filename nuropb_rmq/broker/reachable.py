"""Wait for a broker that is still starting."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Final

from ..config.settings import TransportConfig
from ..exceptions import BrokerUnreachableError, ServiceNotConfigured
from ..safe_logging import ServiceLog
from ..waiting import time_limit
from .backoff import pause
from .connecting import declaring_connection
from .quiet import quietly

logger = logging.getLogger("nuropb_rmq.broker")

LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries, at most: a service waits no longer than this for nothing."""


@quietly
async def reachable(config: TransportConfig) -> None:
    """Return when the broker answers a login, at the latest after start_timeout seconds.

    Raises BrokerUnreachableError then, and at once what waiting does not mend: a refused login,
    TLS that fails.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + config.start_timeout
    tries = 0
    while True:
        try:
            await _log_in(config, min(config.connect_timeout, max(0.1, until - loop.time())))
        except ServiceNotConfigured:
            return  # it answers: only the virtual host is missing
        except BrokerUnreachableError as e:
            wait = pause(tries, LONGEST_PAUSE)
            if loop.time() + wait >= until or isinstance(e.exception, ssl.SSLError):
                raise
            if not tries:
                log = ServiceLog(logger, config.service_name, config.instance_id or "")
                log.warning("%s; trying for %g s (start_timeout)", e, config.start_timeout)
            tries += 1
            await asyncio.sleep(wait)
        else:
            return


async def _log_in(config: TransportConfig, timeout: float) -> None:
    try:
        async with time_limit(timeout):
            connection = await declaring_connection(config)
    except TimeoutError as e:
        raise BrokerUnreachableError(f"{config.broker}: no answer in {timeout:g} s") from e
    await connection.shut()
