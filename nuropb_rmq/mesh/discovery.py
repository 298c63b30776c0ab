"""Remember other services: their descriptions and public keys, and how old these are.

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
from ..protocol import handled
from ..protocol.encryption import Encryptor
from ..protocol.reader import short, type_of
from ..protocol.remote_errors import remote_error
from ..service.methods import DESCRIBE

__all__ = ["DESCRIBE_WITHIN", "Ask", "Description", "Discovery"]

logger = logging.getLogger("nuropb_rmq.mesh")

Ask = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Asks a service for its description; the response, which may carry an error."""

DESCRIBE_WITHIN: Final = 60.0
"""Seconds in which a service must describe itself."""
LIFETIME: Final = 300.0
"""Seconds from which on a description is fetched anew, while the known one goes on being used."""
AGAIN_AFTER: Final = 30.0
"""Seconds until that is tried again, when it failed."""


class Description:
    """What a service has said of itself; `info` is the whole of it.

    A service that cannot be described (nuropb fails at some type hints, others know no
    descriptions) has no `info` and a `problem`. Of what it said all the same, only what asks for
    encryption counts.
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
            for name, said in (methods.items() if isinstance(methods, dict) else ())
            if isinstance(said, dict) and said.get("requires_encryption")
        )
        self.due = time.monotonic() + LIFETIME

    def requires_encryption(self, method: object) -> bool:
        """Whether the description says so."""
        return isinstance(method, str) and method in self.encrypted

    @property
    def public_key(self) -> object:
        """The public key, PEM, if there is one."""
        return None if self.info is None else self.info.get("public_key")

    def known(self) -> dict[str, Any]:
        """The `info`. Raises the `problem`."""
        if self.info is None:
            raise self.problem or MalformedMessageError("no description")
        return self.info


class Discovery:
    """The descriptions that were fetched. Each is fetched once, however many wait for it."""

    def __init__(self, ask: Ask, encryptor: Encryptor) -> None:
        self._ask = ask
        self._encryptor = encryptor
        self._known: dict[str, Description] = {}
        self._fetching: dict[str, asyncio.Task[Description]] = {}

    def known(self, service: str, now: float) -> Description | None:
        """The description, when there is one; an old one is fetched anew meanwhile.

        `now` is the monotonic time.
        """
        description = self._known.get(service)
        if description is not None and now > description.due:
            description.due = now + AGAIN_AFTER
            self._fetch(service)
        return description

    async def find(self, service: str, timeout: float, *, refresh: bool = False) -> Description:
        """The description, fetched when it is not known, or when `refresh` asks for that.

        Raises NuropbTimeoutError after `timeout` seconds, NuropbNotDeliveredError when there is no
        such service, and a NuropbTransportError when the broker cannot be asked.
        """
        if not isinstance(service, str):
            raise NuropbValidationError(f"service: {type(service).__name__}, its name is needed")
        description = None if refresh else self._known.get(service)
        if description is not None:
            return description
        task = self._fetch(service)
        await asyncio.wait((task,), timeout=max(timeout, 0))
        if not task.done():
            raise NuropbTimeoutError(
                f"service {service!r} did not describe itself within {timeout:g} s: is it running? "
                "Nothing was sent that might have to be encrypted; encrypted=False does not ask"
            )
        if task.cancelled():
            raise TransportClosedError("the transport was stopped")
        return task.result()

    async def key_has_changed(self, service: str, used: object, timeout: float) -> bool:
        """Return whether the public key differs from the `used` one; fetch it if need be.

        Calls that failed together with this one may have fetched it already.
        """
        if self._encryptor.get_public_key(service) == used:
            try:
                await self.find(service, timeout, refresh=True)
            except NuropbException as e:
                logger.warning("the public key of %r could not be fetched anew: %s", service, e)
        return self._encryptor.get_public_key(service) != used

    async def close(self) -> None:
        """Fetch nothing more. What is known is kept."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._fetching.values() if task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _fetch(self, service: str) -> asyncio.Task[Description]:
        task = self._fetching.get(service)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            # It serves all that wait for it: the deadline of one of them is not its own.
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
            # Whoever waits is told; whoever uses an older one may go on.
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
                "service %r cannot be described, so its methods are called in plain unless "
                "encrypted=True says otherwise: %s",
                service,
                description.problem,
            )
        else:
            self._take_key(service, description.public_key)
        self._known[service] = description
        return description

    def _replaces(self, service: str, description: Description) -> bool:
        """Return whether it can stand for a description that is known; its key is taken then.

        Whoever answers in place of the service, or in its trouble, must not make us forget what
        requires encryption.
        """
        if description.problem is not None:
            logger.warning(
                "service %r cannot be described anew, so what it said before stays: %s",
                service,
                description.problem,
            )
            return False
        return self._take_key(service, description.public_key)

    def _take_key(self, service: str, public_key: object) -> bool:
        """Remember its public key; False when that is no key."""
        if not isinstance(public_key, str) or not public_key:
            return True
        try:
            self._encryptor.add_public_key(service, public_key)
        except EncryptionError as e:
            logger.warning("service %r cannot be called encrypted: %s", service, e)
            return False
        return True


def _problem_of(service: str, info: object) -> MalformedMessageError | None:
    """Why this is no description, if it is none."""
    problem = None
    methods = info.get("methods") if isinstance(info, dict) else None
    if not isinstance(info, dict) or not isinstance(methods, dict):
        problem = "it has no methods"
    elif not isinstance(info.get("public_key"), str | None):
        problem = f"its public_key is {type_of(info['public_key'])}, text is needed"
    else:
        for name, said in methods.items():
            if not isinstance(said, dict):
                problem = f"its method {short(name)} is {type_of(said)}, an object is needed"
            elif not isinstance(said.get("requires_encryption"), bool | None):
                given = type_of(said["requires_encryption"])
                problem = f"requires_encryption of {short(name)} is {given}, a bool is needed"
    if problem is None:
        return None
    return MalformedMessageError(
        f"service {service!r}: what it answers to {DESCRIBE} is no description: {problem}"
    )
