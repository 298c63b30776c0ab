"""Encryption as a stage of the flow: when it runs, and where.

Sealing is done in place, so messages to one destination cannot overtake each other: with a key in
use it costs microseconds, and wrapping a new key (a public-key operation) less than a thread
switch is worth. Unsealing a request may need the private key, which costs a millisecond or more:
that leaves the event loop, and is awaited.

Why: docs/decisions/004-encryption-in-place.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..amqp.frames import Content
from ..exceptions import EncryptionError, MalformedMessageError
from ..protocol.encryption import Encryptor
from ..protocol.foreign_encryptor import ForeignEncryptor, PayloadEncryptor
from ..shielded import shielded

__all__ = ["OFFLOAD_BYTES", "PayloadEncryptor", "Sealing", "sealed_size", "whole_body"]

OFFLOAD_BYTES = 256 * 1024
"""Requests and commands from this size on, as they come in, are unsealed in a thread."""

_NO_ENCRYPTOR = "the message is encrypted, and this transport has no encryptor"


class Sealing:
    """The stage; without an encryptor it refuses, in both directions."""

    def __init__(self, encryptor: PayloadEncryptor | None) -> None:
        self._encryptor: Encryptor | ForeignEncryptor | None = None
        if isinstance(encryptor, Encryptor):
            self._encryptor = encryptor
        elif encryptor is not None:
            self._encryptor = ForeignEncryptor(encryptor)

    def seal(
        self, body: bytes, correlation_id: str, service: str | None, *, awaited: bool
    ) -> bytes:
        """Encrypt a request or command for `service`, or a response (None).

        `awaited`: the response to it will be read here, so its key is remembered until then, or
        until forget_sent(). Raises EncryptionError.
        """
        encryptor = self._encryptor
        if encryptor is None:
            raise EncryptionError("encrypted: this transport has no encryptor")
        try:
            if service is None or awaited:
                sealed = encryptor.encrypt_payload(body, correlation_id, service)
            else:
                sealed = encryptor.encrypt_unanswered(body, correlation_id, service)
        except EncryptionError:
            raise
        except Exception as e:  # any encryptor may be given; its errors are its own
            raise EncryptionError(f"cannot be encrypted: {type(e).__name__}") from e
        return _bytes_of(sealed, "encrypt_payload")

    def unseal_response(self, body: bytes, correlation_id: str) -> bytes:
        """Decrypt a response, in place. Raises EncryptionError."""
        if self._encryptor is None:
            raise EncryptionError(_NO_ENCRYPTOR)
        return self._decrypt(self._encryptor.open_response, body, correlation_id)

    def _decrypt(self, decrypt: Callable[[bytes, str], bytes], body: bytes, of: str) -> bytes:
        try:
            plain = decrypt(body, of)
        except EncryptionError:
            raise
        except Exception as e:  # any encryptor may be given; its errors are its own
            raise EncryptionError(f"cannot be decrypted: {type(e).__name__}") from e
        return _bytes_of(plain, "decrypt_payload")

    async def unseal(self, body: bytes, correlation_id: str) -> bytes:
        """Decrypt a request, in a thread where that takes long. Raises EncryptionError."""
        encryptor = self._encryptor
        if encryptor is None:
            raise EncryptionError(_NO_ENCRYPTOR)
        decrypt = encryptor.open_request
        if (
            isinstance(encryptor, Encryptor)
            and len(body) < OFFLOAD_BYTES
            and not encryptor.needs_private_key(body)
        ):
            return self._decrypt(decrypt, body, correlation_id)
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._decrypt, decrypt, body, correlation_id)
        try:
            return await shielded(opening)
        except asyncio.CancelledError:
            # The thread goes on, and remembers a key that nobody will ask for.
            opening.add_done_callback(lambda done: self._abandon(done, correlation_id))
            raise

    def owe_again(self, body: bytes, correlation_id: str) -> None:
        """Take the key out of a request once more: it served an answer that was not delivered.

        In place, for this is rare. Raises EncryptionError.
        """
        encryptor = self._encryptor
        if encryptor is None:
            raise EncryptionError(_NO_ENCRYPTOR)
        self._decrypt(encryptor.open_request, body, correlation_id)

    def _abandon(self, opening: asyncio.Future[bytes], correlation_id: str) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.forget_received(correlation_id)

    def forget_sent(self, correlation_id: str) -> None:
        """A message of ours expects no response any more: its key is not needed."""
        if self._encryptor is not None:
            self._encryptor.forget(correlation_id, received=False)

    def forget_received(self, correlation_id: str) -> None:
        """What came in is settled, answered or not: its key is not needed."""
        if self._encryptor is not None:
            self._encryptor.forget(correlation_id, sent=False)


def _bytes_of(made: object, method: str) -> bytes:
    """What an encryptor returned. Raises EncryptionError when it is not bytes."""
    if isinstance(made, bytes | bytearray):
        return bytes(made)
    raise EncryptionError(f"the encryptor's {method} returned {type(made).__name__}, not bytes")


def whole_body(content: Content) -> bytes:
    """The body. Raises MalformedMessageError when it was too large to be kept."""
    if len(content.body) != content.body_size:
        raise MalformedMessageError(
            f"the body of {content.body_size} bytes is larger than max_body_bytes"
        )
    return content.body


def sealed_size(size: int, wrapped: int) -> int:
    """Bytes of a body of `size` bytes when it is encrypted, behind a wrapped key of `wrapped`."""
    # A Fernet token has version, time, IV and HMAC around what AES-CBC pads to whole blocks; it is
    # base64 itself, and base64 once more on the wire.
    token = 1 + 8 + 16 + 16 * (size // 16 + 1) + 32
    return wrapped + len(b".") + _base64_size(_base64_size(token))


def _base64_size(size: int) -> int:
    return (size + 2) // 3 * 4
