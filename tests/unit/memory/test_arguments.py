"""Texts for arguments of Queue.Declare; the conformance suite has RabbitMQ say them."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq.memory.arguments import check, compare
from nuropb_rmq.memory.errors import ChannelError

WHERE = "queue 'q' in vhost 'v'"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1, "the value '1' of type 'byte'"), (127, "the value '127' of type 'byte'"),
        (500, "the value '500' of type 'short'"),
        (100_000, "the value '100000' of type 'signedint'"),
        (2**40, f"the value '{2**40}' of type 'long'"), (True, "the value 'true' of type 'bool'"),
        ("x", "the value 'x' of type 'longstr'"),
    ],
)  # fmt: skip
def test_a_value_is_told_with_its_type(value: Any, said: str) -> None:
    for wanted, there, text in (
        ({"x-overflow": value}, {}, f"received {said} but current is none"),
        ({}, {"x-overflow": value}, f"received none but current is {said}"),
    ):
        with pytest.raises(ChannelError) as raised:
            compare(WHERE, (), wanted, there)
        assert raised.value.text == (
            f"PRECONDITION_FAILED - inequivalent arg 'x-overflow' for {WHERE}: {text}"
        )


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ({}, {}), ({}, {"x-queue-type": "classic"}), ({"x-queue-type": "classic"}, {}),
        ({"x-own": 1}, {}), ({}, {"x-own": 1}), ({"x-max-length": 5}, {"x-max-length": 5}),
    ],
)  # fmt: skip
def test_alike(wanted: dict[str, Any], there: dict[str, Any]) -> None:
    compare(WHERE, (("durable", True, True),), wanted, there)


def test_properties_come_first() -> None:
    with pytest.raises(ChannelError, match=r"'durable'.*received 'true' but current is 'false'"):
        compare(WHERE, (("durable", True, False),), {"x-max-length": 1}, {})


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"x-message-ttl": 0}, {"x-max-length": 0}, {"x-max-priority": 0},
        {"x-max-priority": 255}, {"x-overflow": "reject-publish-dlx"}, {"x-own": object()},
        {"x-queue-type": "quorum", "x-delivery-limit": -1},
        {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"},
        {"x-single-active-consumer": False},
    ],
    ids=str,
)  # fmt: skip
def test_possible(arguments: dict[str, Any]) -> None:
    check(WHERE, arguments, {"exclusive-owner": False})


@pytest.mark.parametrize(
    ("arguments", "properties", "text"),
    [
        ({"x-max-length": True}, {}, '"expected integer, got bool"'),
        ({"x-max-priority": 1.5}, {}, '"expected integer, got float"'),
        ({"x-queue-type": "stream"}, {}, "unsupported queue type 'stream'"),
        ({"x-queue-type": "quorum"}, {"non-durable": True}, "property 'non-durable'"),
        ({"x-queue-type": "quorum", "x-max-priority": 1}, {}, "of queue type rabbit_quorum_queue"),
        ({"x-delivery-limit": 1}, {}, "of queue type rabbit_classic_queue"),
    ],
)
def test_impossible(arguments: dict[str, Any], properties: dict[str, bool], text: str) -> None:
    with pytest.raises(ChannelError) as raised:
        check(WHERE, arguments, properties)
    assert text in raised.value.text
