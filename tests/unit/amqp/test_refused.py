"""Tests of the fate of messages on a channel that the broker closed, by the broker's words."""

from __future__ import annotations

import pytest

from nuropb_rmq import (
    ConnectionLostError,
    MessageTooLargeError,
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbTransportError,
    TopicRefusedError,
)
from nuropb_rmq.amqp.outgoing import ALONE, Outgoing
from nuropb_rmq.amqp.refused import aftermath
from nuropb_rmq.protocol import writer

SIZE = "PRECONDITION_FAILED - message size {} is larger than configured max size {}"
TOPIC = "ACCESS_REFUSED - {}access to topic '{}' in exchange 'events' in vhost '/' refused for user"


def sent(name: str, *, size: int = 1, answer: bool = False) -> Outgoing:
    """A message with this routing key, and so many bytes."""
    method = writer.publish_method("" if answer else "events", name, False)
    return Outgoing(method, b"", b"x" * size, resend=answer)


def outcomes(text: str, *written: Outgoing, code: int = 406) -> tuple[str, dict[str, type]]:
    """The names of those that are written again, and the errors of the others."""
    after = aftermath(ConnectionLostError(f"closed: {code} {text}", code, text), written)
    return (
        "".join(name_of(each) for each in after.again),
        {name_of(each): type(error) for each, error in after.ended},
    )


def name_of(message: Outgoing) -> str:
    return message.method[7 + message.method[6] + 1 : -1].decode()


UNKNOWN: type[NuropbException] = NuropbOutcomeUnknownError


@pytest.mark.parametrize("text", [SIZE, SIZE.replace("configured ", "")])
def test_the_first_that_is_too_large_was_refused(text: str) -> None:
    """Those before it were accepted, those behind it not looked at."""
    written = sent("a", size=9), sent("b", size=11), sent("c"), sent("d", size=50), sent("e")
    refused = {"b": MessageTooLargeError, "d": MessageTooLargeError}
    assert outcomes(text.format(11, 10), *written) == ("ce", {"a": UNKNOWN, **refused})


def test_sizes_are_told() -> None:
    text = SIZE.format(11, 10)
    after = aftermath(ConnectionLostError("closed", 406, text), [sent("a", size=11)])
    ((_, error),) = after.ended
    assert isinstance(error, MessageTooLargeError)
    assert (error.size, error.limit, after.limit) == (11, 10, 10)
    assert "11 bytes" in str(error)
    assert "max_message_size is 10 bytes" in str(error)


@pytest.mark.parametrize("verb", ["", "write "], ids=["3.10", "4.3"])
def test_the_first_of_a_topic_was_refused(verb: str) -> None:
    written = [sent(name) for name in ("a", "b", "c", "b")]
    text = TOPIC.format(verb, "b")
    after = aftermath(ConnectionLostError("closed", 403, text), written)
    assert [name_of(each) for each in after.again] == ["c"]
    assert [type(error) for _, error in after.ended] == [
        UNKNOWN, TopicRefusedError, TopicRefusedError,
    ]  # fmt: skip
    assert all(error.topic == "b" for _, error in after.ended[1:] if hasattr(error, "topic"))


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        (TOPIC.format("", "b"), "bb"),
        (TOPIC.format("", "bb"), "b"),
        ((TOPIC.format("", "b" * 250))[:252] + "...", "b" * 250),
        (SIZE.format(11, 10), "b"),
        ("PRECONDITION_FAILED - unknown delivery tag 5", "b"),
        ("", "b"),
    ],
    ids=["shorter", "longer", "cut", "size of none", "something else", "no words"],
)
def test_when_it_is_unsure_nothing_is_sent_twice(text: str, topic: str) -> None:
    again, ended = outcomes(text, sent("a"), sent(topic), sent("c"))
    assert again == ""
    assert set(ended.values()) == {UNKNOWN}


def test_a_text_that_is_cut_behind_the_topic_is_sure() -> None:
    topic = "b" * 180
    text = TOPIC.format("write ", topic)[:240] + "..."
    assert outcomes(text, sent(topic), sent("c")) == ("c", {topic: TopicRefusedError})


def test_answers_are_written_again_and_alone_when_it_may_have_been_one_of_them() -> None:
    answers = [sent(name, answer=True) for name in "ac"]
    assert outcomes("NOT_FOUND", *answers, sent("d"), code=404) == ("ac", {"d": UNKNOWN})
    assert [each.resend for each in answers] == [ALONE, ALONE]
    assert outcomes("", *answers, code=320) == ("ac", {})
    assert outcomes("NOT_FOUND", answers[0], code=404) == ("", {"a": NuropbTransportError})


def test_answers_beside_what_was_refused_are_written_again() -> None:
    a, c = sent("a", answer=True), sent("c", answer=True)
    written = a, sent("b", size=11), c
    assert outcomes(SIZE.format(11, 10), *written) == ("ac", {"b": MessageTooLargeError})
    assert ALONE not in (a.resend, c.resend)
