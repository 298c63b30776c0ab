"""The setting of the outage mode: its checks, and which errors count."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq import (
    NuropbCallAgain,
    NuropbConfigurationError,
    NuropbHandlingError,
    NuropbRemoteError,
    NuropbTimeoutError,
    NuropbValidationError,
    Outage,
    RetryLater,
    TransportConfig,
)
from nuropb_rmq.config.outage import counts
from nuropb_rmq.safe_logging import Blame, blame


def test_its_defaults() -> None:
    assert (Outage().after, Outage().probe_every) == (10, 10.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"after": 0}, "outage.after: must be a number of failures, an integer from 1 on, not 0"),
        ({"after": True}, "outage.after: .* not bool"),
        ({"after": 1.5}, "outage.after: .* not float"),
        ({"probe_every": 0}, "outage.probe_every: must be seconds, a number above 0"),
        ({"probe_every": -1.0}, "outage.probe_every"),
        ({"probe_every": float("nan")}, "outage.probe_every"),
        ({"probe_every": float("inf")}, "outage.probe_every"),
        ({"probe_every": 10**5000}, "outage.probe_every"),
        ({"probe_every": True}, "outage.probe_every: .* not bool"),
        ({"probe_every": "5"}, "outage.probe_every: .* not str"),
        ({"but_not": KeyError}, "outage.but_not: must be a tuple of exception classes, not type"),
        ({"but_not": (KeyError, "ValueError")}, "outage.but_not: .*'ValueError'"),
        ({"but_not": (int,)}, "outage.but_not"),
    ],
)
def test_a_wrong_setting(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=f"^{said}"):
        Outage(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"outage": {"after": 3}}, "outage: must be an Outage, or None, not dict"),
        ({"outage": Outage(), "prefetch_count": 0}, "prefetch_count: must not be 0 with an outage"),
        (
            {"outage": Outage(probe_every=20), "prefetch_count": 5, "handler_timeout": 190},
            "outage.probe_every: must be at most 19, not 20: 5 messages",
        ),
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=f"^{said}"):
        TransportConfig(amqp_url="amqp://h", service_name="orders", **settings)


def test_settings_that_just_fit_together() -> None:
    TransportConfig(
        amqp_url="amqp://h",
        service_name="orders",
        outage=Outage(probe_every=20),
        prefetch_count=5,
        handler_timeout=200,
    )


class OddRowError(Exception):
    """An error of a database that a sender can cause."""


class RefusedThereError(NuropbValidationError, NuropbRemoteError):
    """Another service that was called has refused its parameters."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionError(), True),
        (TimeoutError(), True),
        (NuropbTimeoutError(), True),
        (NuropbHandlingError("not done in time (handler_timeout)"), True),
        (NuropbRemoteError("the other service failed"), True),
        (RuntimeError(), True),
        (OddRowError(), True),
        (KeyError(), False),
        (RetryLater(), False),
        (NuropbCallAgain(), False),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), False),
        (ZeroDivisionError(), False),
        (RefusedThereError("no"), False),
        (blame(RuntimeError(), Blame.SENDER), False),
        (blame(RuntimeError(), Blame.AUTHORIZER), False),
        (ExceptionGroup("", [KeyError(), ConnectionError()]), True),
        (ExceptionGroup("", [KeyError(), ExceptionGroup("", [TypeError()])]), False),
        (BaseExceptionGroup("", [blame(RuntimeError(), Blame.SENDER)]), False),
    ],
    ids=repr,
)
def test_an_error_that_counts(error: BaseException, expected: bool) -> None:
    assert counts(Outage(), error) is expected


def test_classes_that_a_service_names() -> None:
    assert counts(Outage(but_not=()), KeyError())
    assert not counts(Outage(but_not=()), NuropbValidationError())
    assert not counts(Outage(but_not=(*Outage().but_not, OddRowError)), OddRowError())
