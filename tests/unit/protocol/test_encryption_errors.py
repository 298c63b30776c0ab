"""Encryption that is refused: what is said, what is not said, and that waiting calls survive."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nuropb_rmq.exceptions import EncryptionError, NuropbConfigurationError
from nuropb_rmq.protocol.encryption import Encryptor

from ...seams import keys_of
from .test_encryption import KEY, OAEP, OTHER_KEY, REQUEST, RESPONSE, requester, service, wrapped


def test_unknown_service_is_named() -> None:
    with pytest.raises(EncryptionError, match="'billing'"):
        requester().encrypt_payload(REQUEST, "c", "billing")


def test_response_without_a_request() -> None:
    with pytest.raises(EncryptionError, match="no encrypted request 'c'"):
        service().encrypt_payload(RESPONSE, "c")


@pytest.mark.parametrize("wrong", [None, 1, "text", [], {}, bytearray()])
def test_wrong_types_are_encryption_errors(wrong: Any) -> None:
    """Catching EncryptionError catches everything."""
    ours, theirs = requester(), service()
    body = ours.encrypt_payload(REQUEST, "c", "orders")
    for method in ("decrypt_payload", "open_request", "open_response"):
        with pytest.raises(EncryptionError, match="payload, correlation_id"):
            getattr(theirs, method)(wrong, "c")
        if wrong != "text":
            with pytest.raises(EncryptionError, match="expected bytes, str"):
                getattr(theirs, method)(body, wrong)
    for method in ("encrypt_payload", "encrypt_unanswered"):
        with pytest.raises(EncryptionError, match="payload, correlation_id"):
            getattr(ours, method)(wrong, "c", "orders")
        with pytest.raises(EncryptionError):
            getattr(ours, method)(REQUEST, "c", wrong or 1)
    assert theirs.decrypt_payload(body, "c") == REQUEST


def flip(body: bytes, place: int) -> bytes:
    changed = b"A" if body[place : place + 1] != b"A" else b"B"
    return body[:place] + changed + body[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"",
        lambda body: b"{}",
        lambda body: b".",
        lambda body: wrapped(body) + b".",
        lambda body: wrapped(body) + b".@@@",
        lambda body: b"@@@." + body.partition(b".")[2],
        lambda body: b"AAAA." + body.partition(b".")[2],
        lambda body: b"!" + body,
        lambda body: b".!".join(body.split(b".")),
        lambda body: flip(body, 40),
        lambda body: flip(body, len(body) - 40),
        lambda body: body[:-8],
    ],
)
def test_spoilt_bodies_are_refused_and_remembered_calls_survive(
    spoil: Callable[[bytes], bytes],
) -> None:
    ours, theirs = requester(), service()
    body = ours.encrypt_payload(REQUEST, "c", "orders")
    with pytest.raises(EncryptionError):
        theirs.decrypt_payload(spoil(body), "c")
    assert theirs.calls_remembered == 0
    theirs.decrypt_payload(body, "c")
    answer = theirs.encrypt_payload(RESPONSE, "c")
    bad = spoil(answer)
    if bad.partition(b".")[2] != answer.partition(b".")[2]:  # its key is not what opens an answer
        with pytest.raises(EncryptionError):
            ours.decrypt_payload(bad, "c")
        assert ours.calls_remembered == 1
    assert ours.decrypt_payload(answer, "c") == RESPONSE


def test_a_body_for_another_service() -> None:
    body = requester().encrypt_payload(REQUEST, "c", "orders")
    with pytest.raises(EncryptionError, match="not wrapped for service 'billing'"):
        Encryptor("billing", OTHER_KEY).decrypt_payload(body, "c")


def test_instances_that_each_make_a_key_are_told_to_share_one() -> None:
    body = requester().encrypt_payload(REQUEST, "c", "orders")
    another_instance = Encryptor("orders", OTHER_KEY)
    with pytest.raises(EncryptionError, match="all instances of a service share one key"):
        another_instance.decrypt_payload(body, "c")


def test_a_wrapped_secret_that_is_no_fernet_key() -> None:
    bad = base64.b64encode(KEY.public_key().encrypt(b"short", OAEP)) + b".AAAA"
    with pytest.raises(EncryptionError):
        service().decrypt_payload(bad, "c")


def test_public_keys_as_objects_and_pem() -> None:
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for given in (KEY.public_key(), pem, pem.decode()):
        ours = Encryptor()
        assert not ours.has_public_key("orders")
        assert ours.get_public_key("orders") is None
        ours.add_public_key("orders", given)
        assert ours.has_public_key("orders")
        assert ours.get_public_key("orders") == KEY.public_key()


def test_public_keys_that_are_none() -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = elliptic.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    wrong: list[Any] = [elliptic, pem, "nonsense", b"", None]
    for given in wrong:
        with pytest.raises(EncryptionError, match="'orders' is not"):
            Encryptor().add_public_key("orders", given)


@pytest.mark.parametrize(
    "settings",
    [
        *({"key_uses": wrong} for wrong in (0, "1000", 1.5, True, None, 10**5000, -(10**5000))),
        {"unwrapped_keys": 0},
        {"calls_remembered": 0},
        *(
            {"key_lifetime": wrong}
            for wrong in (-1.0, math.nan, math.inf, "300", True, None, 10**400, -(10**5000))
        ),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_bounds_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(NuropbConfigurationError, match=next(iter(settings))):
        Encryptor(**settings)


def test_no_text_shows_a_key() -> None:
    both = service()
    both.add_public_key("orders", KEY.public_key())
    body = both.encrypt_payload(REQUEST, "c", "orders")
    both.decrypt_payload(body, "c")
    secret = KEY.decrypt(base64.b64decode(wrapped(body)), OAEP).decode()
    sent, owed, shared, _ = keys_of(both)  # what was unwrapped is found by its wrapped key
    texts = [repr(both), str(both), repr(sent), repr(owed), repr(shared)]
    for text in texts:
        assert secret not in text
        assert wrapped(body).decode()[:20] not in text
    assert repr(both) == (
        "Encryptor(service_name='orders', private_key=set, public_keys_of=['orders'])"
    )
    assert Fernet(Encryptor.new_symmetric_key())
