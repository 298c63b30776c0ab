"""Encryption: nuropb 0.1.8's captured messages, key reuse, and memory that ends empty."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nuropb_rmq.exceptions import EncryptionError
from nuropb_rmq.protocol.encryption import Encryptor
from nuropb_rmq.transport.sealing import sealed_size

CAPTURES: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "nuropb-0.1.8.json").read_text()
)
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
REQUEST = b'{"tag": "request", "correlation_id": "c"}'
RESPONSE = b'{"tag": "response", "correlation_id": "c"}'


def load_key(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


KEY = load_key(CAPTURES["service_private_key_pem"])
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def captured(name: str) -> tuple[bytes, str]:
    capture = CAPTURES[name]
    message = capture[0] if isinstance(capture, list) else capture
    return base64.b64decode(message["body_b64"]), message["properties"]["correlation_id"]


def service(**settings: Any) -> Encryptor:
    return Encryptor("orders", KEY, **settings)


def requester(**settings: Any) -> Encryptor:
    made = Encryptor(**settings)
    made.add_public_key("orders", KEY.public_key())
    return made


def wrapped(body: bytes) -> bytes:
    return body.partition(b".")[0]


class OldPeer:
    """A peer that encrypts as nuropb 0.1.8 does, from WIRE.md: its side of a call, one key each."""

    def __init__(self, public_key: rsa.RSAPublicKey) -> None:
        self.public_key = public_key
        self.secret = Fernet.generate_key()

    def seal(self, payload: bytes) -> bytes:
        key = base64.b64encode(self.public_key.encrypt(self.secret, OAEP))
        return key + b"." + base64.b64encode(Fernet(self.secret).encrypt(payload))

    def open(self, body: bytes) -> bytes:
        return Fernet(self.secret).decrypt(base64.b64decode(body.partition(b".")[2]))

    def open_request(self, body: bytes, private_key: rsa.RSAPrivateKey) -> bytes:
        self.secret = private_key.decrypt(base64.b64decode(wrapped(body)), OAEP)
        return self.open(body)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


# Old peers


def test_captured_request_opens_and_its_answer_can_be_read_by_the_old_requester() -> None:
    body, correlation_id = captured("request_encrypted")
    ours = service()
    payload = json.loads(ours.decrypt_payload(body, correlation_id))
    assert payload["tag"] == "request"
    assert payload["correlation_id"] == correlation_id

    old = OldPeer(KEY.public_key())
    old.open_request(body, KEY)
    answer = ours.encrypt_payload(RESPONSE, correlation_id)
    assert wrapped(answer) == wrapped(body)
    assert old.open(answer) == RESPONSE
    assert ours.calls_remembered == 0


def test_captured_response_opens_for_the_requester_of_the_captured_request() -> None:
    request_body, correlation_id = captured("request_encrypted")
    response_body, response_id = captured("response_encrypted")
    assert response_id == correlation_id
    secret = KEY.decrypt(base64.b64decode(wrapped(request_body)), OAEP)

    ours = requester()
    with pytest.MonkeyPatch.context() as patch:  # the key of this call is the captured one
        patch.setattr(Encryptor, "new_symmetric_key", classmethod(lambda _: secret))
        ours.encrypt_payload(REQUEST, correlation_id, "orders")
    payload = json.loads(ours.decrypt_payload(response_body, correlation_id))
    assert payload["tag"] == "response"
    assert payload["correlation_id"] == correlation_id
    assert ours.calls_remembered == 0


def test_old_service_reads_our_request_and_its_rewrapped_answer_is_read() -> None:
    ours, old = requester(), OldPeer(KEY.public_key())
    assert old.open_request(ours.encrypt_payload(REQUEST, "c", "orders"), KEY) == REQUEST
    answer = old.seal(RESPONSE)
    assert not ours.needs_private_key(answer, "c")
    assert ours.decrypt_payload(answer, "c") == RESPONSE
    assert ours.calls_remembered == 0


def test_old_service_answers_a_requester_that_has_a_private_key_itself() -> None:
    ours, old = Encryptor("billing", OTHER_KEY), OldPeer(KEY.public_key())
    ours.add_public_key("orders", KEY.public_key())
    old.open_request(ours.encrypt_payload(REQUEST, "c", "orders"), KEY)
    answer = old.seal(RESPONSE)
    assert not ours.needs_private_key(answer, "c")
    assert ours.decrypt_payload(answer, "c") == RESPONSE


# Between two of ours


def test_call_between_two_of_ours() -> None:
    ours, theirs = requester(), service()
    body = ours.encrypt_payload(REQUEST, "c", "orders")
    assert theirs.decrypt_payload(body, "c") == REQUEST
    answer = theirs.encrypt_payload(RESPONSE, "c")
    assert ours.decrypt_payload(answer, "c") == RESPONSE
    assert ours.calls_remembered == theirs.calls_remembered == 0


def test_one_key_serves_many_calls_and_costs_one_rsa_operation() -> None:
    ours, theirs = requester(), service()
    bodies = [ours.encrypt_payload(REQUEST, str(i), "orders") for i in range(10)]
    assert len({wrapped(body) for body in bodies}) == 1
    assert len(set(bodies)) == 10
    assert theirs.needs_private_key(bodies[0])
    theirs.decrypt_payload(bodies[0], "0")
    assert not any(theirs.needs_private_key(body) for body in bodies)
    assert not ours.needs_private_key(bodies[0])  # a requester has none to use


def test_a_key_ends_with_its_uses_and_its_lifetime(clock: Callable[[float], None]) -> None:
    ours = requester(key_uses=3, key_lifetime=60)

    def keys(number: int) -> int:
        bodies = [ours.encrypt_payload(REQUEST, "c", "orders") for _ in range(number)]
        return len({wrapped(body) for body in bodies})

    assert keys(3) == 1
    assert keys(4) == 2
    first = wrapped(ours.encrypt_payload(REQUEST, "c", "orders"))
    clock(59)
    assert wrapped(ours.encrypt_payload(REQUEST, "c", "orders")) == first
    clock(61)
    assert wrapped(ours.encrypt_payload(REQUEST, "c", "orders")) != first


def test_a_call_outlives_the_key_it_was_made_with() -> None:
    ours, theirs = requester(key_uses=1), service()
    body = ours.encrypt_payload(REQUEST, "c", "orders")
    ours.encrypt_payload(REQUEST, "d", "orders")
    theirs.decrypt_payload(body, "c")
    assert ours.decrypt_payload(theirs.encrypt_payload(RESPONSE, "c"), "c") == RESPONSE


def test_services_do_not_share_keys() -> None:
    ours = requester()
    ours.add_public_key("billing", KEY.public_key())
    first = ours.encrypt_payload(REQUEST, "c", "orders")
    assert wrapped(first) != wrapped(ours.encrypt_payload(REQUEST, "d", "billing"))


def test_a_rotated_public_key_ends_the_shared_key() -> None:
    ours = requester()
    ours.encrypt_payload(REQUEST, "c", "orders")
    ours.add_public_key("orders", OTHER_KEY.public_key())
    body = ours.encrypt_payload(REQUEST, "d", "orders")
    assert Encryptor("orders", OTHER_KEY).decrypt_payload(body, "d") == REQUEST
    ours.add_public_key("orders", OTHER_KEY.public_key())  # the same again: nothing ends
    assert wrapped(ours.encrypt_payload(REQUEST, "e", "orders")) == wrapped(body)


def test_a_redelivered_request_opens_again_and_each_delivery_may_be_answered() -> None:
    ours, theirs = requester(), service()
    body = ours.encrypt_payload(REQUEST, "c", "orders")
    assert theirs.decrypt_payload(body, "c") == REQUEST
    assert theirs.decrypt_payload(body, "c") == REQUEST
    first, second = theirs.encrypt_payload(RESPONSE, "c"), theirs.encrypt_payload(RESPONSE, "c")
    assert ours.decrypt_payload(second, "c") == RESPONSE
    assert theirs.calls_remembered == 0
    with pytest.raises(EncryptionError, match="answers no request"):
        ours.decrypt_payload(first, "c")


def test_a_second_request_of_an_id_that_is_in_hand_gets_no_answer_of_the_first() -> None:
    """Its sender has a key of its own, and would read what is meant for somebody else."""
    ours, stranger, theirs = requester(), requester(), service()
    theirs.open_request(ours.encrypt_payload(REQUEST, "c", "orders"), "c")
    intruding = stranger.encrypt_payload(REQUEST, "c", "orders")
    with pytest.raises(EncryptionError, match="another request 'c' is being handled"):
        theirs.open_request(intruding, "c")
    answer = theirs.encrypt_payload(RESPONSE, "c")
    assert ours.open_response(answer, "c") == RESPONSE
    with pytest.raises(EncryptionError):
        stranger.open_response(answer, "c")
    assert theirs.open_request(intruding, "c") == REQUEST, "once the first is answered"


@pytest.mark.parametrize("redelivered", [1, 2])
def test_a_service_that_calls_itself(redelivered: int) -> None:
    both = service()
    both.add_public_key("orders", KEY.public_key())
    body = both.encrypt_payload(REQUEST, "c", "orders")
    for _ in range(redelivered):
        assert both.decrypt_payload(body, "c") == REQUEST
    answers = [both.encrypt_payload(RESPONSE, "c") for _ in range(redelivered)]
    assert both.decrypt_payload(answers[0], "c") == RESPONSE
    assert both.calls_remembered == 0


def test_a_call_of_ours_that_is_led_back_to_us_does_not_open() -> None:
    """Its key is one of ours, and was wrapped for somebody else."""
    ours = Encryptor("billing", OTHER_KEY)
    ours.add_public_key("orders", KEY.public_key())
    body = ours.encrypt_payload(REQUEST, "c", "orders")
    with pytest.raises(EncryptionError, match="not wrapped for service 'billing'"):
        ours.open_request(body, "c")
    theirs = service()
    theirs.open_request(body, "c")
    answer = theirs.encrypt_payload(RESPONSE, "c")
    assert ours.open_response(answer, "c") == RESPONSE, "the call itself goes on"
    assert ours.calls_remembered == 0


def test_a_response_opens_with_the_key_of_a_call_that_waits_and_no_other() -> None:
    """Not with our private key: that would cost a millisecond, and be remembered."""
    both, stranger = service(), requester()
    body = stranger.encrypt_payload(RESPONSE, "c", "orders")
    with pytest.raises(EncryptionError, match="no encrypted request waits"):
        both.open_response(body, "c")
    both.add_public_key("billing", OTHER_KEY.public_key())
    both.encrypt_payload(REQUEST, "c", "billing")
    with pytest.raises(EncryptionError, match="tampered with"):
        both.open_response(body, "c")
    assert both.needs_private_key(body), "it was not unwrapped"
    assert both.calls_remembered == 1, "the call still waits"


def test_a_service_that_calls_itself_unwraps_nothing() -> None:
    both = service()
    both.add_public_key("orders", KEY.public_key())
    body = both.encrypt_payload(REQUEST, "c", "orders")
    assert not both.needs_private_key(body)
    assert both.open_request(body, "c") == REQUEST
    assert both.open_response(both.encrypt_payload(RESPONSE, "c"), "c") == RESPONSE
    assert both.calls_remembered == 0


@pytest.mark.parametrize("old", [True, False])
def test_a_call_to_ones_own_service_answered_by_another_instance(old: bool) -> None:
    ours = service()
    ours.add_public_key("orders", KEY.public_key())
    body = ours.encrypt_payload(REQUEST, "c", "orders")
    if old:
        peer = OldPeer(KEY.public_key())
        peer.open_request(body, KEY)
        answer = peer.seal(RESPONSE)
    else:
        other = service()
        other.decrypt_payload(body, "c")
        answer = other.encrypt_payload(RESPONSE, "c")
    assert ours.decrypt_payload(answer, "c") == RESPONSE
    assert ours.calls_remembered == 0


def test_serving_and_sending_under_one_correlation_id() -> None:
    """billing serves a request and, under the same id, asks orders: old peers on both sides."""
    billing, old_requester = Encryptor("billing", OTHER_KEY), OldPeer(OTHER_KEY.public_key())
    billing.add_public_key("orders", KEY.public_key())
    request = old_requester.seal(REQUEST)
    assert billing.decrypt_payload(request, "c") == REQUEST

    old_service = OldPeer(KEY.public_key())
    old_service.open_request(billing.encrypt_payload(REQUEST, "c", "orders"), KEY)
    assert billing.decrypt_payload(request, "c") == REQUEST  # redelivered in between
    assert billing.decrypt_payload(old_service.seal(RESPONSE), "c") == RESPONSE
    for _ in range(2):
        assert old_requester.open(billing.encrypt_payload(RESPONSE, "c")) == RESPONSE
    assert billing.calls_remembered == 0


# Memory


def test_forget_drops_both_sides_or_one() -> None:
    both = service()
    both.add_public_key("orders", KEY.public_key())
    body = both.encrypt_payload(REQUEST, "c", "orders")
    both.decrypt_payload(body, "c")
    assert both.calls_remembered == 2
    both.forget("c", sent=False)
    assert both.calls_remembered == 1
    both.forget("c")
    both.forget("never seen")
    assert both.calls_remembered == 0


def test_memory_is_bounded() -> None:
    ours = requester(calls_remembered=5)
    theirs = service(calls_remembered=5, unwrapped_keys=2)
    bodies = []
    for i in range(10):
        ours.add_public_key("orders", (OTHER_KEY if i % 2 else KEY).public_key())
        bodies.append(ours.encrypt_payload(REQUEST, str(i), "orders"))
    assert ours.calls_remembered == 5
    for i in range(0, 10, 2):
        theirs.decrypt_payload(bodies[i], str(i))
        theirs.decrypt_payload(bodies[0], f"again {i}")  # in use: never the one dropped
    assert theirs.calls_remembered == 5
    assert [theirs.needs_private_key(bodies[i]) for i in (0, 2, 4, 6, 8)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_threads_may_share_an_encryptor() -> None:
    ours, theirs = requester(key_uses=7), service(unwrapped_keys=3)
    failures: list[BaseException] = []

    def calls(worker: int) -> None:
        try:
            for i in range(60):
                name = f"{worker}-{i}"
                body = ours.encrypt_payload(REQUEST, name, "orders")
                assert theirs.decrypt_payload(body, name) == REQUEST
                answer = theirs.encrypt_payload(RESPONSE, name)
                assert ours.decrypt_payload(answer, name) == RESPONSE
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            failures.append(error)

    workers = [threading.Thread(target=calls, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert ours.calls_remembered == theirs.calls_remembered == 0


@pytest.mark.parametrize("bits", [2048, 3072])
def test_the_size_of_what_is_encrypted_is_known_before(bits: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    encryptor = Encryptor()
    encryptor.add_public_key("orders", key.public_key())
    for size in (*range(70), 1_000, 99_999):
        body = encryptor.encrypt_unanswered(b"x" * size, "c", "orders")
        assert sealed_size(size, len(wrapped(body))) == len(body)
