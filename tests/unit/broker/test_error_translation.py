"""Tests of the broker's words: the error that they become, and whether to try again makes sense."""

from __future__ import annotations

import re

import pytest
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelClosed,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from nuropb_rmq.broker.error_translation import ending, is_final, refusal, translated
from nuropb_rmq.config.address import Broker
from nuropb_rmq.exceptions import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    ConnectionLostError,
    InstanceInUseError,
    NuropbTransportError,
    ServiceNotConfigured,
)

BROKER = Broker.parse("amqp://user:hush@localhost/v")
FOR_GOOD, FOR_NOW = True, False

# Texts of 3.10.8 and 4.3.6, shortened.
STEPS: list[tuple[AMQPError, type[NuropbTransportError], bool]] = [
    (ChannelNotFoundEntity("no exchange 'x' in vhost 'v'"), ServiceNotConfigured, FOR_GOOD),
    (ChannelNotFoundEntity("no queue 'x' in vhost 'v'"), ServiceNotConfigured, FOR_NOW),
    (
        ChannelNotFoundEntity("home node 'rabbit@b' of durable queue 'x' in vhost 'v' is down"),
        ConnectionLostError,
        FOR_NOW,
    ),
    (
        ChannelNotFoundEntity("queue 'x' in vhost 'v' process is stopped by supervisor"),
        ConnectionLostError,
        FOR_NOW,
    ),
    (
        ChannelPreconditionFailed("inequivalent arg 'durable' for queue 'x' in vhost 'v'"),
        ServiceNotConfigured,
        FOR_GOOD,
    ),
    (
        ChannelPreconditionFailed("cannot declare queue 'x': queue limit in vhost 'v' is reached"),
        ConnectionLostError,
        FOR_NOW,
    ),
    (ChannelAccessRefused("access to queue 'x' refused"), BrokerAuthenticationError, FOR_GOOD),
    (ChannelAccessRefused("queue 'x' in vhost 'v' in exclusive use"), InstanceInUseError, FOR_NOW),
    (ChannelLockedResource("cannot obtain exclusive access"), InstanceInUseError, FOR_NOW),
    (ChannelClosed(541, "INTERNAL_ERROR"), ConnectionLostError, FOR_NOW),
]


@pytest.mark.parametrize(("said", "error", "final"), STEPS, ids=lambda each: str(each)[:40])
def test_of_a_step(said: AMQPError, error: type[NuropbTransportError], final: bool) -> None:
    with pytest.raises(NuropbTransportError) as caught, translated("queue 'x'"):
        raise said
    assert caught.type is error
    assert is_final(caught.value) is final
    assert re.search("(queue|exchange) 'x'", str(caught.value))
    assert str(said) in str(caught.value)


QUEUE = "access to queue 'x' in vhost 'v' refused for user 'shop'"
EXCHANGE = "access to exchange 'e' in vhost 'v' refused for user 'shop'"


@pytest.mark.parametrize(
    ("said", "right", "words"),
    [
        (f"ACCESS_REFUSED - configure {QUEUE}", "", "may not configure queue 'x'"),
        (f"ACCESS_REFUSED - read {QUEUE}", "configure", "may not read queue 'x'"),
        (f"ACCESS_REFUSED - write {EXCHANGE}", "configure", "may not write exchange 'e'"),
        (f"ACCESS_REFUSED - {QUEUE}", "configure", "may not configure queue 'x'"),
        (f"ACCESS_REFUSED - {QUEUE}", "", None),
        (f"ACCESS_REFUSED - {EXCHANGE}", "configure", None),
        ("ACCESS_REFUSED - whatever", "configure", None),
    ],
)
def test_a_missing_permission_in_words(said: str, right: str, words: str | None) -> None:
    """RabbitMQ 3.10 does not say which right; the step knows it, if it is about its own queue."""
    with pytest.raises(BrokerAuthenticationError) as caught, translated("queue 'x'", right):
        raise ChannelAccessRefused(said)
    end = said if words is None else f"{said}; user 'shop' {words}"
    assert str(caught.value) == f"queue 'x': permission refused: {end}"


LOGINS: list[tuple[int, str, type[NuropbTransportError]]] = [
    (403, "ACCESS_REFUSED - Login was refused", BrokerAuthenticationError),
    (530, "NOT_ALLOWED - vhost v not found", ServiceNotConfigured),
    (530, "access to vhost 'v' refused for user 'user'", BrokerAuthenticationError),
    (530, "access to vhost 'limit' refused for user 'user'", BrokerAuthenticationError),
    (
        530,
        "access to vhost 'v' refused for user 'user': connection limit (1) is reached",
        BrokerUnreachableError,
    ),
    (530, "refused for user 'user': user connection limit (0) is reached", BrokerUnreachableError),
    (541, "access to vhost 'v' refused for user 'user': vhost is down", BrokerUnreachableError),
    (540, "NOT_IMPLEMENTED - whatever", BrokerUnreachableError),
    (320, "CONNECTION_FORCED - vhost 'v' is deleted", BrokerUnreachableError),
]


@pytest.mark.parametrize(("code", "text", "error"), LOGINS)
def test_of_a_login(code: int, text: str, error: type[NuropbTransportError]) -> None:
    said = refusal(BROKER, ConnectionLostError(text, code, text))
    assert type(said) is error
    assert is_final(said) is (error is not BrokerUnreachableError)
    assert "hush" not in f"{said!r}"


@pytest.mark.parametrize(
    ("code", "text", "final"),
    [
        (403, "ACCESS_REFUSED - write access to exchange 'x' refused", FOR_GOOD),
        (403, "ACCESS_REFUSED - write access to topic 'a.b' in exchange 'x' refused", FOR_NOW),
        (404, "NOT_FOUND - no exchange 'x'", FOR_NOW),  # the next session looks for it
        (406, "PRECONDITION_FAILED - unknown delivery tag 1", FOR_NOW),
        (541, "INTERNAL_ERROR", FOR_NOW),
        (0, "", FOR_NOW),
    ],
)
def test_of_a_session_that_was_ready(code: int, text: str, final: bool) -> None:
    assert is_final(ending(BROKER, ConnectionLostError(text, code, text))) is final
