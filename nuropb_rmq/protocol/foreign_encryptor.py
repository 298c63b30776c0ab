"""Use encryptors that are not ours: nuropb's, which its RMQAPI passes in, and those like it.

nuropb's encryptor keeps a key by the correlation id and forgets it at the next use of any kind. A
redelivered request would get an answer that nobody can read, and the key of a call that is never
answered would be kept for ever. So we keep its table of keys in step with the calls under way,
through the two methods that every encryptor has.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from ..exceptions import EncryptionError
from .constants import new_id

_UNREADABLE: Final = b"."
"""An empty wrapped key and token: to decrypt it, an encryptor forgets the id's key, and raises."""


class PayloadEncryptor(Protocol):
    """The two methods of every encryptor, ours and nuropb's."""

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        """Encrypt for a service or, without one, the response to the request with that id."""

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        """Decrypt a request, or the response to a request of ours."""


@dataclass(slots=True)
class _Request:
    """A request that is being handled, and the number of its deliveries here."""

    body: bytes
    deliveries: int


class ForeignEncryptor:
    """Makes an encryptor remember the keys of calls under way, and no others.

    Methods may be called from any thread; they raise the encryptor's errors.
    """

    def __init__(self, encryptor: PayloadEncryptor) -> None:
        self._encryptor = encryptor
        self._lock = threading.Lock()  # around every use: each changes the encryptor's table
        # Correlation ids of our calls that wait for a response.
        self._sent: set[str] = set()
        # Requests to us that are being handled, by correlation id.
        self._owed: dict[str, _Request] = {}

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        """Encrypt for a service or, without one, the response to the request with that id."""
        with self._lock:
            owed = self._owed.get(correlation_id)
            if service_name is None:
                if owed is not None and correlation_id in self._sent:  # not our own call's key
                    self._restore(correlation_id, owed)
                sealed = self._encryptor.encrypt_payload(payload, correlation_id)
                self._settle(correlation_id)
                return sealed
            if owed is not None:  # our own call under that id gets a key of its own
                self._drop(correlation_id)
            try:
                sealed = self._encryptor.encrypt_payload(payload, correlation_id, service_name)
            except Exception:
                self._restore(correlation_id, owed)
                raise
            self._sent.add(correlation_id)
            return sealed

    def encrypt_unanswered(self, payload: bytes, correlation_id: str, service_name: str) -> bytes:
        """Encrypt a message that gets no response, such as a command, and remember no key."""
        with self._lock:
            # Under the id of a call under way, it would replace that call's key.
            taken = correlation_id in self._sent or correlation_id in self._owed
            identity = new_id() if taken else correlation_id
            try:
                return self._encryptor.encrypt_payload(payload, identity, service_name)
            finally:
                self._drop(identity)

    def open_request(self, payload: bytes, correlation_id: str) -> bytes:
        """Decrypt a request or command; its key is remembered until it is answered or forgotten.

        Never decrypts with the key of our own call under that id: somebody may have routed that
        call back to us. (If we called ourselves, the key is wrapped for us.)
        """
        decrypt = self._encryptor.decrypt_payload
        with self._lock:
            owed = self._owed.get(correlation_id)
            if correlation_id in self._sent:
                identity = new_id()
                try:
                    plain = decrypt(payload, identity)
                finally:
                    self._drop(identity)
            else:
                try:
                    plain = decrypt(payload, correlation_id)
                except Exception:
                    self._restore(correlation_id, owed)
                    raise
                if owed is not None:
                    self._restore(correlation_id, owed)
            if owed is None:
                self._owed[correlation_id] = _Request(payload, 1)
            else:
                owed.deliveries += 1
            return plain

    def open_response(self, payload: bytes, correlation_id: str) -> bytes:
        """Decrypt the response to our request; raises EncryptionError when none waits for it."""
        with self._lock:
            if correlation_id not in self._sent:
                raise EncryptionError(
                    "body cannot be decrypted: no encrypted request waits for it here"
                )
            try:
                return self._encryptor.decrypt_payload(payload, correlation_id)
            finally:
                self._sent.discard(correlation_id)
                self._restore(correlation_id, self._owed.get(correlation_id))

    def forget(self, correlation_id: str, *, sent: bool = True, received: bool = True) -> None:
        """Forget the key of a call that gets no response, as `sent` or as `received`."""
        with self._lock:
            if sent and correlation_id in self._sent:
                self._sent.remove(correlation_id)
                self._restore(correlation_id, self._owed.get(correlation_id))
            if received and correlation_id in self._owed:
                self._drop(correlation_id)
                self._settle(correlation_id)

    def _settle(self, correlation_id: str) -> None:
        """Count one delivery as answered; the encryptor has just forgotten the key."""
        owed = self._owed.get(correlation_id)
        if owed is None:
            return
        owed.deliveries -= 1
        if owed.deliveries < 1:
            del self._owed[correlation_id]
        else:
            self._restore(correlation_id, owed)

    def _restore(self, correlation_id: str, owed: _Request | None) -> None:
        """Make the encryptor remember this request's key for the id; None: no key."""
        self._drop(correlation_id)
        if owed is not None:
            self._encryptor.decrypt_payload(owed.body, correlation_id)

    def _drop(self, correlation_id: str) -> None:
        with suppress(Exception):
            self._encryptor.decrypt_payload(_UNREADABLE, correlation_id)
