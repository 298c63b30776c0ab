"""Fetch and cache the descriptions and public keys of other services.

Why: docs/decisions/011-nuropb-surface.md
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ..exceptions import (
    EncryptionError,
    MalformedMessageError,
    NuropbException,
    NuropbMessageError,
    NuropbTimeoutError,
    NuropbValidationError,
    TransportClosedError,
)
from ..printable import short, type_of
from ..protocol import handled
from ..protocol.encryption import Encryptor
from ..protocol.remote_errors import remote_error
from ..service.methods import DESCRIBE

logger = logging.getLogger("nuropb_rmq.mesh")

Ask = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Asks a service for its description; returns the response, which may carry an error."""

DESCRIBE_WITHIN: Final = 60.0
"""Seconds after which a service that has not described itself is asked again."""
LIFETIME: Final = 300.0
"""Seconds after which a description is fetched anew; the old one is used meanwhile."""
AGAIN_AFTER: Final = 30.0
"""Seconds before a refresh that failed is tried again."""


class Description:
    """A service's description; `info` is its whole content.

    A service that cannot be described (nuropb fails at some type hints, other services know no
    descriptions) has a `problem` and no `info`. From an invalid description, only the methods that
    require encryption are taken.
    """

    __slots__ = ("due", "encrypted", "info", "problem")

    def __init__(self, info: object, problem: NuropbMessageError | None = None) -> None:
        self.problem = problem
        self.info: dict[str, Any] | None = None
        if isinstance(info, dict) and problem is None:
            self.info = info
        methods = info.get("methods") if isinstance(info, dict) else None
        self.encrypted = frozenset(
            name
            for name, method in (methods.items() if isinstance(methods, dict) else ())
            if isinstance(method, dict) and method.get("requires_encryption")
        )
        self.due = time.monotonic() + LIFETIME
        """Monotonic time from which on it is fetched anew."""

    def requires_encryption(self, method: object) -> bool:
        """Return whether the description says that calls of a method must be encrypted."""
        return isinstance(method, str) and method in self.encrypted

    @property
    def public_key(self) -> object:
        """The public key, in PEM, or None."""
        return None if self.info is None else self.info.get("public_key")

    def known(self) -> dict[str, Any]:
        """Return `info`. Raises `problem`."""
        if self.info is None:
            raise self.problem or MalformedMessageError("no description")
        return self.info


class Discovery:
    """Cache of descriptions. Concurrent waiters for one service share one fetch."""

    def __init__(self, ask: Ask, encryptor: Encryptor) -> None:
        self._ask = ask
        self._encryptor = encryptor
        self._known: dict[str, Description] = {}
        self._fetching: dict[str, asyncio.Task[Description]] = {}

    def known(self, service: str, now: float) -> Description | None:
        """Return the cached description or None; begin to fetch an old one anew.

        `now` is the monotonic time.
        """
        description = self._known.get(service)
        if description is not None and now > description.due:
            description.due = now + AGAIN_AFTER
            self._fetch(service)
        return description

    async def find(self, service: str, timeout: float, *, refresh: bool = False) -> Description:
        """Return the description, fetched if it is not cached or `refresh` is True.

        Raises NuropbTimeoutError after `timeout` seconds, NuropbNotDeliveredError when the service
        has no queue, and other NuropbTransportErrors. Cancelling ends only the wait.
        """
        if not isinstance(service, str):
            raise NuropbValidationError(f"service: expected a name, got {type_of(service)}")
        description = None if refresh else self._known.get(service)
        if description is not None:
            return description
        left, ends = timeout, time.monotonic() + timeout
        while True:
            task = self._fetch(service)
            await asyncio.wait((task,), timeout=max(left, 0))
            left = ends - time.monotonic()
            if task.cancelled():
                raise TransportClosedError("the transport was stopped")
            if task.done() and not isinstance(task.exception(), NuropbTimeoutError):
                return task.result()
            # A fetch that timed out may have begun long ago, for another caller: it begins anew.
            if left <= 0 or not task.done():
                raise NuropbTimeoutError(
                    f"service {service!r} did not describe itself within {timeout:g} s (is it "
                    "running?)"
                )

    async def key_has_changed(self, service: str, used: object, timeout: float) -> bool:
        """Return whether the public key differs from the `used` one, fetching it if needed.

        Another call that failed at the same time may have fetched it already. A failed fetch
        is logged.
        """
        if self._encryptor.get_public_key(service) == used:
            try:
                await self.find(service, timeout, refresh=True)
            except NuropbException as e:
                logger.warning("service %r: its key could not be fetched anew: %s", service, e)
        return self._encryptor.get_public_key(service) != used

    async def close(self) -> None:
        """Cancel all fetches of this loop. Cached descriptions are kept."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._fetching.values() if task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _fetch(self, service: str) -> asyncio.Task[Description]:
        task = self._fetching.get(service)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            # Shared by all waiters, so it must not inherit the deadline of one of them.
            task = asyncio.create_task(
                self._describe(service),
                name=f"nuropb-describe-{service}",
                context=handled.outside(),
            )
            self._fetching[service] = task
            task.add_done_callback(lambda done: self._fetched(service, done))
        return task

    def _fetched(self, service: str, task: asyncio.Task[Description]) -> None:
        if self._fetching.get(service) is task:
            del self._fetching[service]
        if not task.cancelled() and task.exception() is not None:
            # Waiters get the error; callers with a cached description go on.
            logger.info("service %r could not be described: %s", service, task.exception())

    async def _describe(self, service: str) -> Description:
        response = await self._ask(service)
        info = response["result"]
        if response["error"] is not None:
            description = Description(None, remote_error(response))
        else:
            description = Description(info, _problem_of(service, info))
        before = self._known.get(service)
        if before is not None and before.info is not None:
            if not self._replaces(service, description):
                return description
        elif description.problem is not None:
            logger.warning(
                "service %r cannot be described, so its methods are called in plain text unless "
                "encrypted=True is given: %s",
                service,
                description.problem,
            )
        else:
            self._take_key(service, description.public_key)
        self._known[service] = description
        return description

    def _replaces(self, service: str, description: Description) -> bool:
        """Return whether it may replace a valid description; if so, take its key.

        A service in trouble, or an impostor, must not make us forget what requires encryption.
        """
        if description.problem is not None:
            logger.warning(
                "service %r cannot be described anew, so its old description is kept: %s",
                service,
                description.problem,
            )
            return False
        return self._take_key(service, description.public_key)

    def _take_key(self, service: str, public_key: object) -> bool:
        """Remember the service's public key; return False when it is invalid."""
        if not isinstance(public_key, str) or not public_key:
            return True
        try:
            self._encryptor.add_public_key(service, public_key)
        except EncryptionError as e:
            logger.warning("service %r cannot be called encrypted: %s", service, e)
            return False
        return True


def _problem_of(service: str, info: object) -> MalformedMessageError | None:
    """Return the error of an invalid description, or None."""
    problem = None
    methods = info.get("methods") if isinstance(info, dict) else None
    if not isinstance(info, dict) or not isinstance(methods, dict):
        problem = "it has no methods"
    elif not isinstance(info.get("public_key"), str | None):
        problem = f"public_key: expected text, got {type_of(info['public_key'])}"
    else:
        for name, method in methods.items():
            if not isinstance(method, dict):
                problem = f"method {short(name)}: expected an object, got {type_of(method)}"
            elif not isinstance(method.get("requires_encryption"), bool | None):
                kind = type_of(method["requires_encryption"])
                problem = f"requires_encryption of {short(name)}: expected a bool, got {kind}"
    if problem is None:
        return None
    return MalformedMessageError(
        f"service {service!r}: its answer to {DESCRIBE} is no description: {problem}"
    )
