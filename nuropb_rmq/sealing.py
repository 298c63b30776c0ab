"""Encryption as a stage of the flow: when it runs, and where.

Sealing is done in place, so messages to one destination cannot overtake each other: with a key in
use it costs microseconds, and wrapping a new key (a public-key operation) less than a thread
switch is worth. Unsealing a request may need the private key, which costs a millisecond or more:
that leaves the event loop, and is awaited.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .encryption import Encryptor
from .exceptions import EncryptionError, MalformedMessageError
from .wire.frames import Content

OFFLOAD_BYTES = 256 * 1024
"""Bodies from this size on are unsealed in a thread."""


class PayloadEncryptor(Protocol):
    """What is asked of an encryptor; ours and nuropb's have it."""

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        """Encrypt for a service, or (without one) the response to a request of that id."""

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        """Decrypt a request, or the response to a request of ours."""


class Sealing:
    """The stage; without an encryptor it refuses, in both directions."""

    def __init__(self, encryptor: PayloadEncryptor | None) -> None:
        self._encryptor = encryptor
        self._ours = encryptor if isinstance(encryptor, Encryptor) else None

    def seal(self, body: bytes, correlation_id: str, service: str | None) -> bytes:
        """Encrypt a request or command for `service`, or a response (None).

        Raises EncryptionError.
        """
        if self._encryptor is None:
            raise EncryptionError("encrypted: this transport has no encryptor")
        try:
            return self._encryptor.encrypt_payload(body, correlation_id, service)
        except EncryptionError:
            raise
        except Exception as e:  # any encryptor may be given; its errors are its own
            raise EncryptionError(f"cannot be encrypted: {type(e).__name__}") from e

    def unseal_now(self, body: bytes, correlation_id: str) -> bytes:
        """Decrypt in place. Raises EncryptionError."""
        if self._encryptor is None:
            raise EncryptionError("the message is encrypted, and this transport has no encryptor")
        try:
            return self._encryptor.decrypt_payload(body, correlation_id)
        except EncryptionError:
            raise
        except Exception as e:  # any encryptor may be given; its errors are its own
            raise EncryptionError(f"cannot be decrypted: {type(e).__name__}") from e

    async def unseal(self, body: bytes, correlation_id: str) -> bytes:
        """Decrypt, in a thread where that takes long. Raises EncryptionError."""
        ours = self._ours
        if ours is not None and not ours.needs_private_key(body) and len(body) < OFFLOAD_BYTES:
            return self.unseal_now(body, correlation_id)
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self.unseal_now, body, correlation_id)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on, and remembers a key that nobody will ask for.
            opening.add_done_callback(lambda done: self._abandon(done, correlation_id))
            raise

    def _abandon(self, opening: asyncio.Future[bytes], correlation_id: str) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.forget_received(correlation_id)

    def forget_sent(self, correlation_id: str) -> None:
        """A message of ours expects no response any more: its key is not needed."""
        if self._ours is not None:
            self._ours.forget(correlation_id, received=False)

    def forget_received(self, correlation_id: str) -> None:
        """What came in is settled, answered or not: its key is not needed."""
        if self._ours is not None:
            self._ours.forget(correlation_id, sent=False)


def whole_body(content: Content) -> bytes:
    """The body. Raises MalformedMessageError when it was too large to be kept."""
    if len(content.body) != content.body_size:
        raise MalformedMessageError(
            f"the body of {content.body_size} bytes is larger than max_body_bytes"
        )
    return content.body
