"""Requests and commands to services, encrypted where that is asked for or required.

Before anything goes to a service for the first time, its description is fetched: only then is it
known which of its methods require encryption.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ..exceptions import EncryptionError, EncryptionRequiredError, NuropbTimeoutError
from ..protocol import handled, payloads, writer
from ..protocol.constants import ResponsePayloadDict
from ..protocol.encryption import Encryptor
from ..service.methods import DESCRIBE
from ..transport.sender import seconds
from ..transport.transport import Transport
from .discovery import DESCRIBE_WITHIN, Description, Discovery

__all__ = ["Caller"]

_ENCRYPTION_REQUIRED: Final = EncryptionRequiredError.__name__
_NOTHING_SAID: Final = Description(None)


class Caller:
    """Calls other services through a transport.

    `encrypted` is True, False, or None: as the method's description says. With False nothing is
    fetched, and the service refuses a method that requires encryption.
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
        """The response to a request, which may carry an error. See Mesh.request."""
        started = time.monotonic()
        if encrypted is not False:
            description = self._described(payload, encrypted, started)
            if description is None:
                if self._inherits:
                    timeout = handled.bounded(timeout)
                description = await self._describe(payload, timeout)
                timeout = _left(timeout, started)
            if encrypted or (
                description.encrypted and description.requires_encryption(payload["method"])
            ):
                return await self._request_encrypted(payload, timeout, priority)
        response = await self._transport.request(payload, timeout=timeout, priority=priority)
        error = response["error"]
        if error is None or encrypted is False or error.get("error") != _ENCRYPTION_REQUIRED:
            return response
        # Refused, so not run: the service has changed since it was described.
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
            # A service that cannot read a request has not run it; perhaps its key is another now.
            rest = _left(timeout, started)
            if not await self.discovery.key_has_changed(service, key, rest):
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
        """Send a command; returns when the broker has confirmed it. See Mesh.command."""
        started = time.monotonic()
        if encrypted is not False:
            description = self._described(payload, encrypted, started)
            if description is None:
                description = await self._describe(payload, timeout)
                timeout = _left(timeout, started)
            encrypted = encrypted or description.requires_encryption(payload["method"])
            if encrypted:
                self._check_key(payload["service"])
        await self._transport.send(
            payload, ttl=ttl, priority=priority, encrypted=encrypted, timeout=timeout
        )

    def _described(
        self, payload: Mapping[str, Any], encrypted: bool | None, now: float
    ) -> Description | None:
        service = payload["service"]
        description = self.discovery.known(service, now) if type(service) is str else None
        if description is None and encrypted is None and payload["method"] == DESCRIBE:
            return _NOTHING_SAID
        return description

    async def _describe(self, payload: Mapping[str, Any], timeout: float) -> Description:
        writer.check_outgoing(payload)  # what cannot be sent needs no description
        return await self.discovery.find(payload["service"], seconds("timeout", timeout))

    def has_public_key(self, service: str) -> bool:
        """Return whether the service's public key is known."""
        return self._encryptor.has_public_key(service)

    def _check_key(self, service: str) -> None:
        if not self.has_public_key(service):
            raise EncryptionError(
                f"service {service!r} has no public key in its description, so nothing can be "
                "encrypted for it: give it a private key (_private_key)"
            )

    async def _ask(self, service: str) -> ResponsePayloadDict:
        payload = payloads.call("request", service, DESCRIBE, {})
        return await self._transport.request(payload, timeout=DESCRIBE_WITHIN)


def _left(timeout: float, started: float) -> float:
    """The seconds that are left. Raises NuropbTimeoutError when none are."""
    left = timeout - (time.monotonic() - started)
    if left <= 0:
        raise NuropbTimeoutError(f"not done within {timeout:g} s")
    return left
