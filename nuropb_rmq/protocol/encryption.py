"""Hybrid encryption of bodies: Fernet for the payload, RSA for the Fernet key.

A body is ``base64(RSA-OAEP-SHA256(key)) + b"." + base64(Fernet token)``, as in nuropb 0.1.8. The
caller makes the key and wraps it with the service's public key; the service answers with the
same key. RSA costs more than the rest of a call, so keys are reused: a caller uses one key, and
its wrapped bytes, for many calls to one service, for a limited time and number; a service caches
the keys that it has unwrapped. Old peers see no difference.

With a shared key, a body that decrypts may belong to another call: the caller must compare its
tag, correlation id and service with the message's properties and headers.
"""

from __future__ import annotations

import binascii
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ..exceptions import EncryptionError, NuropbConfigurationError
from .bounded import Bounded
from .constants import MAX_SECONDS, MessageType

KEY_USES: Final = 1000
"""Number of messages to one service that are encrypted with one key."""
KEY_LIFETIME: Final = 300.0
"""Seconds for which one key is used."""
_MOST: Final = 2**31
_TAMPERED: Final = "body cannot be decrypted: tampered with, or encrypted with another key"

_OAEP: Final = padding.OAEP(
    mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None
)


@dataclass(frozen=True, slots=True)
class _Key:
    """A Fernet key ready for use, and the bytes that carry it on the wire."""

    fernet: Fernet = field(repr=False)
    wrapped: bytes = field(repr=False)
    to_self: bool = False
    """True when we wrapped it with our own public key: a service that calls itself."""


@dataclass(slots=True)
class _Shared:
    """The key for calls to one service, until it is too old or was used too often."""

    key: _Key
    expires_at: float
    uses_left: int


@dataclass(slots=True)
class _Owed:
    """The key of a request that we serve, and the number of its deliveries still to be answered."""

    key: _Key
    deliveries: int


class Encryptor:
    """Encrypts and decrypts bodies; remembers the keys of calls under way.

    service_name: that of the service in this process; None where it only calls.
    private_key: the RSA key of that service; None where it only calls.
    key_lifetime: seconds for which one key is used for calls to one service.
    key_uses: number of messages to one service that share a key; 1 makes a new key for each
        message, as nuropb does.
    unwrapped_keys: bounds the cached keys of callers.
    calls_remembered: bounds the calls under way, in each direction.

    Methods may be called from any thread. They raise EncryptionError for anything that cannot be
    encrypted or decrypted; its text holds no key and no payload.
    """

    def __init__(
        self,
        service_name: str | None = None,
        private_key: rsa.RSAPrivateKey | None = None,
        *,
        key_lifetime: float = KEY_LIFETIME,
        key_uses: int = KEY_USES,
        unwrapped_keys: int = 1024,
        calls_remembered: int = 100_000,
    ) -> None:
        for name, bound in (
            ("key_uses", key_uses),
            ("unwrapped_keys", unwrapped_keys),
            ("calls_remembered", calls_remembered),
        ):
            if type(bound) is not int or not 1 <= bound <= _MOST:
                raise NuropbConfigurationError(name, f"must be an integer from 1 to {_MOST}")
        if type(key_lifetime) not in (int, float) or not 0 <= key_lifetime <= MAX_SECONDS:
            problem = f"must be seconds, a number from 0 to {MAX_SECONDS}"
            raise NuropbConfigurationError("key_lifetime", problem)
        self._service_name = service_name
        self._private_key = private_key
        self._own_public_key = None if private_key is None else private_key.public_key()
        self._key_lifetime = key_lifetime
        self._key_uses = key_uses
        self._lock = threading.Lock()  # guards the tables below; never held during RSA
        self._public_keys: dict[str, rsa.RSAPublicKey] = {}
        self._shared: dict[str, _Shared] = {}
        self._unwrapped: Bounded[bytes, _Key] = Bounded(unwrapped_keys)
        # Keys by correlation id, a table for each direction: one process may send and serve a call.
        self._sent: Bounded[str, _Key] = Bounded(calls_remembered)
        self._owed: Bounded[str, _Owed] = Bounded(calls_remembered)

    def __repr__(self) -> str:
        return (
            f"Encryptor(service_name={self._service_name!r}, "
            f"private_key={'set' if self._private_key is not None else None}, "
            f"public_keys_of={sorted(self._public_keys)})"
        )

    @classmethod
    def new_symmetric_key(cls) -> bytes:
        """Return a new Fernet key: 32 random bytes, base64."""
        return Fernet.generate_key()

    def add_public_key(self, service_name: str, public_key: rsa.RSAPublicKey | str | bytes) -> None:
        """Set a service's public key, an RSA key or PEM, in place of an older one."""
        key = _public_key(service_name, public_key)
        with self._lock:
            if self._public_keys.get(service_name) != key:
                self._shared.pop(service_name, None)  # wrapped for a key that is no more
            self._public_keys[service_name] = key

    def get_public_key(self, service_name: str) -> rsa.RSAPublicKey | None:
        """Return the service's public key, or None."""
        return self._public_keys.get(service_name)

    def has_public_key(self, service_name: str) -> bool:
        """Return whether the service's public key is known."""
        return service_name in self._public_keys

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        """Encrypt a request or command to `service_name`; without it, the response to a request.

        Raises EncryptionError when the service's public key is unknown, or when no encrypted
        request with this correlation id waits for its response here.
        """
        _check(payload, correlation_id, service_name or "")
        if service_name is None:
            key = self._take_owed(correlation_id)
        else:
            key = self._key_for(service_name)
            with self._lock:
                self._sent.put(correlation_id, key)
        return _seal(key, payload)

    def encrypt_unanswered(self, payload: bytes, correlation_id: str, service_name: str) -> bytes:
        """Encrypt a message that gets no response, such as a command, and remember no key for it.

        A request under way with the same correlation id keeps its key. Raises EncryptionError when
        the service's public key is unknown.
        """
        _check(payload, correlation_id, service_name)
        return _seal(self._key_for(service_name), payload)

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        """Decrypt a response to a request of ours, or else a request or command to us.

        A body is a response when the key that we sent under this correlation id decrypts it: that
        key is tried first, since an old service wraps it anew, for itself. Raises EncryptionError
        when no key of ours decrypts it. Where the kind is known, use open_response or
        open_request, which cannot confuse the two.
        """
        wrapped, token = _split(payload, correlation_id)
        with self._lock:
            sent = self._sent.get(correlation_id)
        plain = None if sent is None else _open(sent, token)
        if sent is None or plain is None:
            return self.open_request(payload, correlation_id)
        # Bytes that we wrapped may come back in a response or, when we call ourselves, in our own
        # request: only the payload tells them apart.
        if sent.to_self and wrapped == sent.wrapped and not _is_response(plain):
            self._owe(correlation_id, sent)
            return plain
        with self._lock:
            self._sent.pop(correlation_id, None)
        return plain

    def open_response(self, payload: bytes, correlation_id: str) -> bytes:
        """Decrypt a response, with the key of our request that waits for it, and no other.

        Raises EncryptionError when no request waits, or its key does not decrypt the body.
        """
        _, token = _split(payload, correlation_id)
        with self._lock:
            sent = self._sent.get(correlation_id)
        if sent is None:
            raise EncryptionError(
                "body cannot be decrypted: no encrypted request waits for it here"
            )
        plain = _open(sent, token)
        if plain is None:
            raise EncryptionError(_TAMPERED)
        with self._lock:
            self._sent.pop(correlation_id, None)
        return plain

    def open_request(self, payload: bytes, correlation_id: str) -> bytes:
        """Decrypt a request or command to us, with a key that was wrapped for us, and no other.

        So a call that we sent to another service does not decrypt if somebody routes it here.
        Raises EncryptionError when the body does not decrypt.
        """
        wrapped, token = _split(payload, correlation_id)
        key = self._unwrap(wrapped)
        plain = _open(key, token)
        if plain is None:
            raise EncryptionError(_TAMPERED)
        self._owe(correlation_id, key)
        return plain

    def needs_private_key(self, payload: bytes, correlation_id: str | None = None) -> bool:
        """Return whether decrypting this takes an RSA private operation (about a millisecond).

        Without the correlation id the answer is wrong for responses of old peers.
        """
        if self._private_key is None:
            return False
        wrapped = payload.partition(b".")[0]
        with self._lock:
            if correlation_id is not None and correlation_id in self._sent:
                return False
            return wrapped not in self._unwrapped

    def forget(self, correlation_id: str, *, sent: bool = True, received: bool = True) -> None:
        """Forget the key of a call that gets no response, as `sent` or as `received`.

        Call it when a request times out, or a delivery is not answered.
        """
        with self._lock:
            if sent:
                self._sent.pop(correlation_id, None)
            if received:
                self._drop_owed(correlation_id)

    @property
    def calls_remembered(self) -> int:
        """Number of calls under way, in both directions."""
        with self._lock:
            return len(self._sent) + len(self._owed)

    def _key_for(self, service_name: str) -> _Key:
        """Return the key for one more message to this service."""
        now = time.monotonic()
        with self._lock:
            public_key = self._public_keys.get(service_name)
            shared = self._shared.get(service_name)
            if shared is not None and shared.uses_left > 0 and now < shared.expires_at:
                shared.uses_left -= 1
                return shared.key
        if public_key is None:
            raise EncryptionError(
                f"the public key of service {service_name!r} is unknown: describe it first"
            )
        key = self._wrap(public_key)
        with self._lock:
            if self._public_keys.get(service_name) is public_key:  # not rotated meanwhile
                self._shared[service_name] = _Shared(
                    key, now + self._key_lifetime, self._key_uses - 1
                )
        return key

    def _wrap(self, public_key: rsa.RSAPublicKey) -> _Key:
        secret = self.new_symmetric_key()
        try:
            wrapped = binascii.b2a_base64(public_key.encrypt(secret, _OAEP), newline=False)
        except ValueError as error:
            raise EncryptionError("the service's RSA key is too short: use 2048 bits") from error
        key = _Key(Fernet(secret), wrapped, to_self=public_key == self._own_public_key)
        if key.to_self:  # saves unwrapping it
            with self._lock:
                self._unwrapped.put(wrapped, key)
        return key

    def _unwrap(self, wrapped: bytes) -> _Key:
        """Return the key in these bytes, from the cache or decrypted with our private key."""
        with self._lock:
            known = self._unwrapped.use(wrapped)
        if known is not None:
            return known
        if self._private_key is None:
            raise EncryptionError(
                "body cannot be decrypted: it answers no request that is waiting here, and there "
                "is no private key to read it as a request"
            )
        try:
            secret = self._private_key.decrypt(
                binascii.a2b_base64(wrapped, strict_mode=True), _OAEP
            )
            key = _Key(Fernet(secret), wrapped)
        except ValueError as error:  # binascii.Error and OAEP's refusal are ValueErrors
            raise EncryptionError(
                f"the key of this body is not wrapped for service {self._service_name!r}: the "
                "sender may have an old public key, or that of another instance: all instances of "
                "a service share one key"
            ) from error
        with self._lock:
            self._unwrapped.put(wrapped, key)
        return key

    def _owe(self, correlation_id: str, key: _Key) -> None:
        with self._lock:
            owed = self._owed.get(correlation_id)
            if owed is not None and owed.key.wrapped != key.wrapped:
                # The sender of the one could read the answer to the other.
                raise EncryptionError(
                    f"another request {correlation_id!r} is being handled, under another key"
                )
            # Delivered again while it is being handled: each delivery may be answered.
            again = owed.deliveries if owed is not None else 0
            self._owed.put(correlation_id, _Owed(key, again + 1))

    def _take_owed(self, correlation_id: str) -> _Key:
        with self._lock:
            owed = self._owed.get(correlation_id)
            self._drop_owed(correlation_id)
        if owed is None:
            raise EncryptionError(
                f"no encrypted request {correlation_id!r} is waiting for its response here"
            )
        return owed.key

    def _drop_owed(self, correlation_id: str) -> None:
        """Count one answer; call this with the lock held."""
        owed = self._owed.get(correlation_id)
        if owed is None:
            return
        owed.deliveries -= 1
        if owed.deliveries < 1:
            del self._owed[correlation_id]


def _public_key(service_name: str, value: rsa.RSAPublicKey | str | bytes) -> rsa.RSAPublicKey:
    key: object = value
    if isinstance(value, str | bytes):
        try:
            key = load_pem_public_key(value.encode() if isinstance(value, str) else value)
        except (ValueError, UnsupportedAlgorithm) as error:
            text = f"the public key of service {service_name!r} is not PEM"
            raise EncryptionError(text) from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise EncryptionError(f"the public key of service {service_name!r} is not an RSA key")
    return key


def _check(payload: object, correlation_id: object, service_name: object = "") -> None:
    arguments = (payload, correlation_id, service_name)
    if not all(map(isinstance, arguments, (bytes, str, str))):
        types = ", ".join(type(argument).__name__ for argument in arguments)
        raise EncryptionError(
            f"payload, correlation_id, service_name: expected bytes, str, str, got {types}"
        )


def _split(payload: bytes, correlation_id: str) -> tuple[bytes, bytes]:
    _check(payload, correlation_id)
    wrapped, separator, token = payload.partition(b".")
    if not separator:
        raise EncryptionError("body is not encrypted: it has no wrapped key before a '.'")
    return wrapped, token


def _seal(key: _Key, payload: bytes) -> bytes:
    return b"%b.%b" % (key.wrapped, binascii.b2a_base64(key.fernet.encrypt(payload), newline=False))


def _open(key: _Key, token: bytes) -> bytes | None:
    """Return the payload; None when this key did not encrypt it (Fernet authenticates)."""
    try:
        return key.fernet.decrypt(binascii.a2b_base64(token, strict_mode=True))
    except (InvalidToken, binascii.Error):
        return None


def _is_response(plain: bytes) -> bool:
    try:
        payload = json.loads(plain)
    except (ValueError, RecursionError):
        return False
    return isinstance(payload, dict) and payload.get("tag") == MessageType.RESPONSE
