"""Retry: what it takes, which errors it covers, and its delays."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq import (
    Mesh,
    NuropbAuthorizationError,
    NuropbCallAgain,
    NuropbConfigurationError,
    NuropbValidationError,
    Retry,
    RetryLater,
    TransportConfig,
    publish_to_mesh,
)
from nuropb_rmq.broker.topology import Topology
from nuropb_rmq.safe_logging import Blame, blame


def test_the_delays_of_its_attempts() -> None:
    retry = Retry(attempts=5, delays=(5, 1, 30))
    assert [retry.after(attempts) for attempts in range(1, 6)] == [5, 1, 30, 30, None]
    assert Retry(attempts=1, delays=()).after(1) is None
    assert Retry(delays=5).delays == (5,)  # type: ignore[arg-type]
    assert Retry(delays=iter((1, 2))).delays == (1, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("retry", "error", "covered"),
    [
        (Retry(), LookupError(), True),
        (Retry(), KeyboardInterrupt(), False),
        (Retry(), NuropbValidationError("no"), False),
        (Retry(), NuropbAuthorizationError("no"), False),
        (Retry(only=NuropbValidationError), NuropbValidationError("no"), True),  # type: ignore[arg-type]
        (Retry(only=(OSError,)), ConnectionError(), True),
        (Retry(only=(OSError,)), LookupError(), False),
        (Retry(only=(OSError,), but_not=(ConnectionError,)), ConnectionError(), False),
        (Retry(but_not=(LookupError,)), KeyError(), False),
        (Retry(only=(Exception,)), NuropbCallAgain(), False),
        (Retry(), blame(LookupError(), Blame.SENDER), False),
        (Retry(), blame(LookupError(), Blame.AUTHORIZER), False),
        (Retry(but_not=(KeyError,)), ExceptionGroup("", [OSError(), LookupError()]), True),
        (Retry(but_not=(KeyError,)), ExceptionGroup("", [OSError(), KeyError()]), False),
    ],
)
def test_the_errors_that_it_covers(retry: Retry, error: BaseException, covered: bool) -> None:
    assert retry.covers(error) is covered


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attempts": 0}, "^attempts: expected a whole number from 1 on, got 0"),
        ({"attempts": True}, "^attempts: expected a whole number"),
        ({"immediate": -1}, "^immediate: expected a whole number from 0 on, got -1"),
        ({"only": "OSError"}, "^only: expected classes of exceptions, got 'OSError'"),
        ({"but_not": (3,)}, "^but_not: expected classes"),
        ({"delays": ()}, "^delays: are missing: all attempts but the first come back by them"),
        ({"delays": 0}, "^delays: expected seconds, each from 0.001"),
        ({"delays": (0,)}, "^delays: expected seconds, each from 0.001 to 2592000 .* got 0"),
        ({"delays": ("1",)}, "^delays: expected seconds, .* got str"),
        ({"delays": 3 * 10**6}, "^delays: expected seconds"),
        ({"delays": (0.0015,)}, "^delays: expected whole milliseconds, got 0.0015 s"),
        ({"delays": range(1, 14)}, "^delays: expected 12 delays at most, .* got 13"),
    ],
)
def test_what_it_does_not_take(options: dict[str, Any], says: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=says):
        Retry(**options)


def test_retry_later() -> None:
    assert RetryLater().after == 0
    assert RetryLater("not yet", after=30).after == 30
    for after in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="after: expected a number of seconds, from 0 on"):
            RetryLater(after=after)


class Service:
    @publish_to_mesh(retry=Retry(attempts=2, delays=(0.5, 1)))
    async def own(self) -> None: ...


def test_a_mesh_has_the_delays_of_all() -> None:
    config = TransportConfig(amqp_url="amqp://localhost/", service_name="s", retry_delays=(7,))
    mesh = Mesh(config, service=Service(), retry=Retry(delays=(1, 5)))
    assert mesh.transport.config.retry_delays == (0.5, 1, 5, 7)
    names = [queue.name for queue in Topology.of(mesh.transport.config, "i").retry_queues]
    assert names == [f"nuropb-s-retry-{ms}" for ms in (500, 1000, 5000, 7000)]
    with pytest.raises(NuropbConfigurationError, match="retry: expected a Retry or None, got int"):
        Mesh(config, service=Service(), retry=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="retry: expected a Retry or None, got int"):
        publish_to_mesh(retry=3)  # type: ignore[call-overload]


def test_the_queues_of_a_quorum_service() -> None:
    config = TransportConfig(
        amqp_url="amqp://localhost/", service_name="s", queue_type="quorum", retry_delays=(1,)
    )
    (queue,) = Topology.of(config, "i").retry_queues
    assert queue.name == "nuropb-s-retry-1000-quorum"
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-message-ttl": 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "nuropb-s-sq",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
