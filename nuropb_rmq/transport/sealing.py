"""Encrypt and decrypt messages, in the event loop or in a thread.

Encrypting is done in place, so that messages to one destination cannot overtake each other. It
takes microseconds, and wrapping a new key (a public-key operation) less than a thread switch.
Decrypting a request may need the private key, which takes a millisecond or more: it runs in a
thread, and is awaited.

Why: docs/decisions/004-encryption-in-place.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..exceptions import EncryptionError
from ..protocol.encryption import Encryptor
from ..protocol.foreign_encryptor import ForeignEncryptor, PayloadEncryptor
from ..waiting import shielded

OFFLOAD_BYTES = 256 * 1024
"""Size in bytes from which on incoming requests and commands are decrypted in a thread."""

_NO_ENCRYPTOR = "encrypted, but this transport has no encryptor: give it one (encryptor)"


class Sealing:
    """The encryptor of a transport. Without one, all methods that need it raise EncryptionError."""

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

        `awaited` keeps the key until the response has been read, or forget_sent(). Raises
        EncryptionError.
        """
        encryptor = self._encryptor
        if encryptor is None:
            raise EncryptionError(_NO_ENCRYPTOR)
        try:
            if service is None or awaited:
                sealed = encryptor.encrypt_payload(body, correlation_id, service)
            else:
                sealed = encryptor.encrypt_unanswered(body, correlation_id, service)
        except EncryptionError:
            raise
        except Exception as e:  # an encryptor of the program may raise anything
            raise EncryptionError(f"cannot be encrypted: {type(e).__name__}") from e
        return _bytes_of(sealed, "encrypt_payload")

    def unseal_response(self, body: bytes, correlation_id: str) -> bytes:
        """Decrypt a response, in place. Raises EncryptionError."""
        if self._encryptor is None:
            raise EncryptionError(_NO_ENCRYPTOR)
        return self._decrypt(self._encryptor.open_response, body, correlation_id)

    def _decrypt(self, decrypt: Callable[[bytes, str], bytes], body: bytes, id_: str) -> bytes:
        try:
            plain = decrypt(body, id_)
        except EncryptionError:
            raise
        except Exception as e:  # an encryptor of the program may raise anything
            raise EncryptionError(f"cannot be decrypted: {type(e).__name__}") from e
        return _bytes_of(plain, "decrypt_payload")

    async def unseal(self, body: bytes, correlation_id: str) -> bytes:
        """Decrypt a request, in a thread if that takes long. Raises EncryptionError.

        Cancelling ends only the wait: the thread goes on, and its key is forgotten then.
        """
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
            opening.add_done_callback(lambda done: self._abandon(done, correlation_id))
            raise

    def owe_again(self, body: bytes, correlation_id: str) -> None:
        """Decrypt a request again for its key, which an undelivered answer has used up.

        In place, since this is rare. Raises EncryptionError.
        """
        encryptor = self._encryptor
        if encryptor is None:
            raise EncryptionError(_NO_ENCRYPTOR)
        self._decrypt(encryptor.open_request, body, correlation_id)

    def _abandon(self, opening: asyncio.Future[bytes], correlation_id: str) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self.forget_received(correlation_id)

    def forget_sent(self, correlation_id: str) -> None:
        """Forget the key of a message that we sent: no response is awaited any more."""
        if self._encryptor is not None:
            self._encryptor.forget(correlation_id, received=False)

    def forget_received(self, correlation_id: str) -> None:
        """Forget the key of a message that came in: it will not be answered any more."""
        if self._encryptor is not None:
            self._encryptor.forget(correlation_id, sent=False)


def _bytes_of(value: object, method: str) -> bytes:
    """Check the value that an encryptor returned. Raises EncryptionError if it is not bytes."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise EncryptionError(f"the encryptor's {method}: expected bytes, got {type(value).__name__}")


def sealed_size(size: int, wrapped: int) -> int:
    """Return the size of an encrypted body from its plain `size`; all in bytes.

    `wrapped` is the size of the wrapped key before it.
    """
    # A Fernet token has version, time, IV and HMAC around the text, which AES-CBC pads to whole
    # blocks. The token is base64, and base64 again on the wire.
    token = 1 + 8 + 16 + 16 * (size // 16 + 1) + 32
    return wrapped + len(b".") + _base64_size(_base64_size(token))


def _base64_size(size: int) -> int:
    return (size + 2) // 3 * 4
