"""An encryptor that toggles what it remembers is kept in step with the calls under way."""

from __future__ import annotations

from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.fernet import Fernet, InvalidToken

from nuropb_rmq import EncryptionError
from nuropb_rmq.protocol.foreign_encryptor import ForeignEncryptor

from ...seams import keys_of


class Toggling:
    """Remembers and forgets as nuropb's does; the key goes along unencrypted, to see it."""

    def __init__(self, *, serves: bool = False) -> None:
        self._serves = serves
        self.keys: dict[str, bytes] = {}

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        if service_name is None and not self._serves:
            raise ValueError("no private key")
        if correlation_id in self.keys:
            key = self.keys.pop(correlation_id)
        else:
            key = self.keys[correlation_id] = Fernet.generate_key()
        return b64encode(key) + b"." + b64encode(Fernet(key).encrypt(payload))

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        wrapped, token = payload.split(b".", 1)
        if correlation_id in self.keys:
            key = self.keys.pop(correlation_id)
        elif not self._serves:
            raise ValueError("no private key")
        else:
            key = b64decode(wrapped, validate=True)
            if len(key) != 44:
                raise ValueError("not a wrapped key")
            self.keys[correlation_id] = key
        return Fernet(key).decrypt(b64decode(token))


class Ends:
    """A requester and a service."""

    def __init__(self) -> None:
        self.theirs, self.own = Toggling(), Toggling(serves=True)
        self.requester, self.service = ForeignEncryptor(self.theirs), ForeignEncryptor(self.own)

    def nothing_remembered(self) -> bool:
        """Neither remembers a key, nor we a call."""
        ends = (self.requester, self.service)
        calls = [each for end in ends for each in (keys_of(end).sent, keys_of(end).owed)]
        return not (self.theirs.keys or self.own.keys or any(calls))


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_a_call_and_its_answer(ends: Ends) -> None:
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    assert ends.service.open_request(request, "c") == b"question"
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    assert ends.nothing_remembered()


@pytest.mark.parametrize("deliveries", [2, 3, 4])
def test_each_delivery_of_a_request_can_be_answered(ends: Ends, deliveries: int) -> None:
    key = ends.requester.encrypt_payload(b"question", "c", "orders")
    for _ in range(deliveries):
        assert ends.service.open_request(key, "c") == b"question"
    answers = [ends.service.encrypt_payload(b"answer", "c") for _ in range(deliveries)]
    original = Fernet(b64decode(key.split(b".")[0]))
    for answer in answers:
        assert original.decrypt(b64decode(answer.split(b".")[1])) == b"answer"
    assert ends.requester.open_response(answers[0], "c") == b"answer"
    assert ends.nothing_remembered()


def test_a_request_that_is_called_again_is_answered_readably(ends: Ends) -> None:
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    for _ in range(2):
        assert ends.service.open_request(request, "c") == b"question"
        ends.service.forget("c", sent=False)
        assert ends.own.keys == {}
    assert ends.service.open_request(request, "c") == b"question"
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    assert ends.nothing_remembered()


def test_one_delivery_of_two_is_not_answered(ends: Ends) -> None:
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    ends.service.open_request(request, "c")
    ends.service.open_request(request, "c")
    ends.service.forget("c", sent=False)
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    assert ends.nothing_remembered()


def test_calls_that_are_not_answered_are_forgotten(ends: Ends) -> None:
    command = ends.requester.encrypt_payload(b"do it", "c", "orders")
    ends.requester.forget("c", received=False)
    assert ends.service.open_request(command, "c") == b"do it"
    ends.service.forget("c", sent=False)
    assert ends.nothing_remembered()
    ends.requester.forget("never heard of")
    ends.service.forget("never heard of")
    assert ends.nothing_remembered()


@pytest.mark.parametrize("body", [b".", b"no key", b"bm8=.bm8=", b64encode(b"x" * 44) + b".bm8="])
def test_what_cannot_be_read_leaves_nothing(ends: Ends, body: bytes) -> None:
    with pytest.raises((ValueError, InvalidToken)):
        ends.service.open_request(body, "c")
    assert ends.nothing_remembered()


def test_what_cannot_be_read_does_not_disturb_a_call_of_that_id(ends: Ends) -> None:
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    other = ForeignEncryptor(Toggling()).encrypt_payload(b"forged", "c", "orders")
    ends.service.open_request(request, "c")
    with pytest.raises(InvalidToken):
        ends.service.open_request(other, "c")
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    assert ends.nothing_remembered()


def test_a_response_that_cannot_be_read_ends_the_call(ends: Ends) -> None:
    ends.requester.encrypt_payload(b"question", "c", "orders")
    with pytest.raises(InvalidToken):
        ends.requester.open_response(b"bm8=.bm8=", "c")
    assert ends.nothing_remembered()


def test_a_service_that_calls_itself() -> None:
    toggling = Toggling(serves=True)
    both = ForeignEncryptor(toggling)
    request = both.encrypt_payload(b"question", "c", "orders")
    assert both.open_request(request, "c") == b"question"
    answer = both.encrypt_payload(b"answer", "c")
    assert both.open_response(answer, "c") == b"answer"
    assert toggling.keys == {}
    assert not keys_of(both).sent
    assert not keys_of(both).owed


def test_a_call_of_ours_that_is_led_back_to_us_does_not_open(ends: Ends) -> None:
    """A requester has no private key: its own call's key would open it, and must not."""
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    with pytest.raises(ValueError, match="no private key"):
        ends.requester.open_request(request, "c")
    assert ends.service.open_request(request, "c") == b"question"
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    assert ends.nothing_remembered()


def test_a_response_that_no_call_waits_for_does_not_open(ends: Ends) -> None:
    body = ends.requester.encrypt_payload(b"question", "c", "orders")
    with pytest.raises(EncryptionError, match="no encrypted request waits"):
        ends.service.open_response(body, "c")
    assert not ends.own.keys


def test_a_command_does_not_disturb_a_call_of_that_id(ends: Ends) -> None:
    """Neither one that we wait for, nor one that we serve, which both are of one id here."""
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    command = ends.requester.encrypt_unanswered(b"do it", "c", "orders")
    assert command.split(b".")[0] != request.split(b".")[0], "it shares no key with the call"
    assert ends.service.open_request(request, "c") == b"question"
    ends.service.encrypt_unanswered(b"do it", "c", "stock")
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    assert ends.nothing_remembered()
    assert ends.service.open_request(command, "c") == b"do it"
    ends.service.forget("c", sent=False)
    assert ends.nothing_remembered()


@pytest.mark.parametrize("ending", ["answered", "forgotten"])
def test_a_service_calls_another_under_the_id_of_the_call(ends: Ends, ending: str) -> None:
    other = ForeignEncryptor(Toggling(serves=True))
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    assert ends.service.open_request(request, "c") == b"question"
    inner = ends.service.encrypt_payload(b"inner question", "c", "stock")
    assert inner.split(b".")[0] != request.split(b".")[0], "nobody else gets the requester's key"
    if ending == "answered":
        assert other.open_request(inner, "c") == b"inner question"
        inner_answer = other.encrypt_payload(b"inner answer", "c")
        assert ends.service.open_response(inner_answer, "c") == b"inner answer"
    else:
        ends.service.forget("c", received=False)
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    assert ends.nothing_remembered()


def test_a_call_is_answered_while_another_of_that_id_is_waited_for(ends: Ends) -> None:
    request = ends.requester.encrypt_payload(b"question", "c", "orders")
    assert ends.service.open_request(request, "c") == b"question"
    ends.service.encrypt_payload(b"inner question", "c", "stock")
    answer = ends.service.encrypt_payload(b"answer", "c")
    assert ends.requester.open_response(answer, "c") == b"answer"
    ends.service.forget("c")
    assert ends.nothing_remembered()


def test_many_deliveries_at_once_in_threads(ends: Ends) -> None:
    requests = {
        str(number): ends.requester.encrypt_payload(b"%d" % number, str(number), "orders")
        for number in range(40)
    }

    def serve(identity: str) -> bytes:
        assert ends.service.open_request(requests[identity], identity) == identity.encode()
        return ends.service.encrypt_payload(b"answer", identity)

    identities = [*requests, *requests]
    with ThreadPoolExecutor(8) as threads:
        answers = dict(zip(identities, threads.map(serve, identities), strict=True))
    for identity, answer in answers.items():
        assert ends.requester.open_response(answer, identity) == b"answer"
    assert ends.nothing_remembered()
