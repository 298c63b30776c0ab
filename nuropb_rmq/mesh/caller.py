"""Call services, encrypted where the caller or the called method requires it.

Before the first call of a service its description is fetched, which says which of its methods
require encryption.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ..config.times import seconds
from ..exceptions import (
    EncryptionError,
    EncryptionRequiredError,
    NuropbNotSentError,
    NuropbTimeoutError,
    NuropbValidationError,
)
from ..protocol import handled, payloads, writer
from ..protocol.constants import ResponsePayloadDict
from ..protocol.encryption import Encryptor
from ..service.methods import DESCRIBE
from ..transport.transport import Transport
from .discovery import DESCRIBE_WITHIN, Description, Discovery

_ENCRYPTION_REQUIRED: Final = EncryptionRequiredError.__name__
_NO_DESCRIPTION: Final = Description(None)


class Caller:
    """Caller of other services through a transport.

    `encrypted`: True always encrypts; False never does, and fetches no description; None encrypts
    where the method's description requires it.
    """

    def __init__(self, transport: Transport, encryptor: Encryptor) -> None:
        self._transport = transport
        self._inherits = transport.config.inherit_deadline
        self._encryptor = encryptor
        self.discovery = Discovery(self._ask, encryptor)

    async def request(
        self,
        payload: Mapping[str, Any],
        *,
        timeout: float,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> ResponsePayloadDict:
        """Return the response to a request, which may carry an error. See Mesh.request."""
        started = time.monotonic()
        if encrypted is not False:
            description = self._cached(payload, encrypted, started)
            if description is None:
                if self._inherits:
                    timeout = handled.bounded(timeout)
                description, timeout = await self._describe(payload, timeout, started)
            if encrypted or (
                description.encrypted and description.requires_encryption(payload["method"])
            ):
                return await self._request_encrypted(payload, timeout, priority)
        response = await self._transport.request(payload, timeout=timeout, priority=priority)
        error = response["error"]
        if error is None or encrypted is False or error.get("error") != _ENCRYPTION_REQUIRED:
            return response
        # It was refused, not run: the service has changed since it was described.
        if self._inherits:
            timeout = handled.bounded(timeout)
        timeout = _left(timeout, started)
        await self.discovery.find(payload["service"], timeout, refresh=True)
        return await self._request_encrypted(payload, _left(timeout, started), priority)

    async def _request_encrypted(
        self, payload: Mapping[str, Any], timeout: float, priority: int | None
    ) -> ResponsePayloadDict:
        started = time.monotonic()
        service = payload["service"]
        key = self._encryptor.get_public_key(service)
        try:
            self._check_key(service)
            return await self._transport.request(
                payload, timeout=timeout, priority=priority, encrypted=True
            )
        except EncryptionError:
            # A service that cannot decrypt a request has not run it. Its key may have changed.
            left = _left(timeout, started)
            if not await self.discovery.key_has_changed(service, key, left):
                raise
        return await self._transport.request(
            payload, timeout=_left(timeout, started), priority=priority, encrypted=True
        )

    async def command(
        self,
        payload: Mapping[str, Any],
        *,
        timeout: float,
        ttl: float | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> None:
        """Send a command; return when the broker has confirmed it. See Mesh.command."""
        started = time.monotonic()
        if encrypted is not False:
            description = self._cached(payload, encrypted, started)
            if description is None:
                description, timeout = await self._describe(payload, timeout, started)
            encrypted = encrypted or description.requires_encryption(payload["method"])
            if encrypted:
                self._check_key(payload["service"])
        await self._transport.send(
            payload, ttl=ttl, priority=priority, encrypted=encrypted, timeout=timeout
        )

    def _cached(
        self, payload: Mapping[str, Any], encrypted: bool | None, now: float
    ) -> Description | None:
        """Return the cached description, or an empty one if the call itself asks for it."""
        service = payload["service"]
        description = self.discovery.known(service, now) if type(service) is str else None
        if description is None and encrypted is None and payload["method"] == DESCRIBE:
            return _NO_DESCRIPTION
        return description

    async def _describe(
        self, payload: Mapping[str, Any], timeout: float, started: float
    ) -> tuple[Description, float]:
        """Return the description of the service to call, and the seconds left of `timeout`."""
        writer.check_outgoing(payload)  # refuse what cannot be sent before anything is fetched
        try:
            found = await self.discovery.find(payload["service"], seconds("timeout", timeout))
            return found, _left(timeout, started)
        except NuropbTimeoutError as e:
            raise NuropbNotSentError(
                f"{e}. The call was not sent; with encrypted=False it is sent without a description"
            ) from None

    # -- what services say of themselves ----------------------------------------------------

    async def describe(
        self, service: str, within: float = DESCRIBE_WITHIN, *, refresh: bool = False
    ) -> dict[str, Any]:
        """Return a service's description, a cached one unless `refresh`. See Mesh."""
        return (await self.discovery.find(service, within, refresh=refresh)).known()

    async def requires_encryption(self, service: str, method: str) -> bool:
        """Return whether calls of a method must be encrypted. See Mesh."""
        info = (await self.describe(service))["methods"].get(method)
        if info is None:
            raise NuropbValidationError(f"service {service!r} has no method {method!r}")
        return bool(info.get("requires_encryption"))

    async def has_public_key(self, service: str) -> bool:
        """Return whether a service has a public key. See Mesh."""
        await self.describe(service)
        return self._encryptor.has_public_key(service)

    def _check_key(self, service: str) -> None:
        if not self._encryptor.has_public_key(service):
            raise EncryptionError(
                f"service {service!r} has no public key in its description, so its calls cannot be "
                "encrypted: give the service a _private_key"
            )

    async def _ask(self, service: str) -> ResponsePayloadDict:
        payload = payloads.call("request", service, DESCRIBE, {})
        return await self._transport.request(payload, timeout=DESCRIBE_WITHIN)


def _left(timeout: float, started: float) -> float:
    """Return the seconds left of `timeout`. Raises NuropbTimeoutError when none are."""
    left = timeout - (time.monotonic() - started)
    if left <= 0:
        raise NuropbTimeoutError(f"not done within {timeout:g} s")
    return left
