"""Errors that a service answered with, as exceptions."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from nuropb_rmq import exceptions
from nuropb_rmq.exceptions import (
    NuropbAuthorizationError,
    NuropbMessageError,
    NuropbRemoteError,
    NuropbValidationError,
)
from nuropb_rmq.protocol.remote_errors import remote_error

KNOWN = [
    "EncryptionRequiredError",
    "NuropbAuthenticationError",
    "NuropbAuthorizationError",
    "NuropbCallAgainReject",
    "NuropbDeprecatedError",
    "NuropbHandlingError",
    "NuropbSerializationError",
    "NuropbValidationError",
]
# What they say is about the service's own doings, not about this call.
NOT_THE_CALLERS = [
    "NuropbTimeoutError",
    "NuropbNotSentError",
    "NuropbNotDeliveredError",
    "NuropbTransportError",
    "TransportClosedError",
    "NuropbMessageError",
    "NuropbException",
    "LookupError",
    "KeyboardInterrupt",
]


def raised(error: Any, description: Any = "why") -> NuropbRemoteError:
    return remote_error({"error": {"error": error, "description": description}, "result": None})


@pytest.mark.parametrize("name", KNOWN)
def test_what_concerns_the_caller_is_caught_by_its_name(name: str) -> None:
    error = raised(name)
    assert isinstance(error, getattr(exceptions, name))
    assert isinstance(error, NuropbRemoteError)
    assert isinstance(error, NuropbMessageError)
    assert (error.error, error.description) == (name, "why")
    assert error.to_dict() == {"error": name, "description": "why"}


@pytest.mark.parametrize("name", NOT_THE_CALLERS)
def test_any_other_error_is_a_remote_one(name: str) -> None:
    error = raised(name)
    assert type(error) is NuropbRemoteError
    assert str(error) == f"{name}: why"
    assert not isinstance(error, TimeoutError)
    assert error.payload == {"error": {"error": name, "description": "why"}, "result": None}


@pytest.mark.parametrize(
    ("error", "description", "name", "text"),
    [
        (None, None, "unknown error", ""),
        ("", "", "unknown error", ""),
        (["x"], {"a": 1}, "['x']", "{'a': 1}"),
        (7, 8, "7", "8"),
    ],
)
def test_an_error_that_is_none_of_nuropbs_making(
    error: Any, description: Any, name: str, text: str
) -> None:
    made = raised(error, description)
    assert (made.error, made.description) == (name, text)
    assert remote_error({"error": {}}).error == "unknown error"


@pytest.mark.parametrize("base", [None, 7, "", "KeyError", "NuropbRemoteError", ["x"], {"a": 1}])
def test_a_base_that_is_none_of_ours(base: Any) -> None:
    made = remote_error({"error": {"error": "Own", "description": "why", "base": base}})
    assert type(made) is NuropbRemoteError
    assert str(made) == "Own: why"


def test_a_class_of_the_service_s_own_is_known_by_its_base() -> None:
    made = remote_error({"error": {"error": "Own", "base": "NuropbAuthorizationError"}})
    assert isinstance(made, NuropbAuthorizationError)
    assert made.error == "Own"


def test_a_name_of_ours_goes_before_a_base() -> None:
    fields = {"error": "NuropbAuthorizationError", "base": "NuropbValidationError"}
    assert not isinstance(remote_error({"error": fields}), NuropbValidationError)


def test_a_remote_error_can_be_pickled() -> None:
    error: NuropbRemoteError = pickle.loads(pickle.dumps(raised("NuropbValidationError")))
    assert type(error).__name__ == "RemoteValidationError"
    assert (error.error, error.description) == ("NuropbValidationError", "why")
