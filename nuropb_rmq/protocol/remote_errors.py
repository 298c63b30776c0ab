"""Errors that a service answered with, as exceptions of its caller.

Each is a NuropbRemoteError; where the service raised an error of the tree that says something
about the call itself, it is that class too, so that both ends catch it by the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..exceptions import (
    EncryptionRequiredError,
    MessageTooLargeError,
    NuropbAuthenticationError,
    NuropbAuthorizationError,
    NuropbCallAgainReject,
    NuropbDeprecatedError,
    NuropbHandlingError,
    NuropbRemoteError,
    NuropbSerializationError,
    NuropbValidationError,
)

__all__ = ["remote_error"]


class RemoteAuthenticationError(NuropbRemoteError, NuropbAuthenticationError):
    """The service does not know who calls."""


class RemoteAuthorizationError(NuropbRemoteError, NuropbAuthorizationError):
    """The service refuses this caller."""


class RemoteCallAgainRejectError(NuropbRemoteError, NuropbCallAgainReject):
    """The service has asked for a second call-again."""


class RemoteDeprecatedError(NuropbRemoteError, NuropbDeprecatedError):
    """The method is marked deprecated."""


class RemoteEncryptionRequiredError(NuropbRemoteError, EncryptionRequiredError):
    """The service refuses to run this method for a call in plain."""


class RemoteHandlingError(NuropbRemoteError, NuropbHandlingError):
    """The method failed, was not done in time, or is unknown."""


class RemoteMessageTooLargeError(NuropbRemoteError, MessageTooLargeError):
    """The method's result is too large to be sent; the sizes are in the text."""


class RemoteSerializationError(NuropbRemoteError, NuropbSerializationError):
    """The method's result cannot be sent."""


class RemoteValidationError(NuropbRemoteError, NuropbValidationError):
    """The service does not take these parameters."""


MAX_NAME: Final = 256
"""Characters of the class name of an error that are believed."""

_BY_NAME: Final[Mapping[str, type[NuropbRemoteError]]] = {
    "EncryptionRequiredError": RemoteEncryptionRequiredError,
    "MessageTooLargeError": RemoteMessageTooLargeError,
    "NuropbAuthenticationError": RemoteAuthenticationError,
    "NuropbAuthorizationError": RemoteAuthorizationError,
    "NuropbCallAgainReject": RemoteCallAgainRejectError,
    "NuropbDeprecatedError": RemoteDeprecatedError,
    "NuropbHandlingError": RemoteHandlingError,
    "NuropbSerializationError": RemoteSerializationError,
    "NuropbValidationError": RemoteValidationError,
}


def remote_error(response: Mapping[str, Any]) -> NuropbRemoteError:
    """The exception for the error that this response carries."""
    said: Mapping[str, Any] = response["error"] or {}
    name = str(said.get("error") or "unknown error")[:MAX_NAME]
    description = said.get("description")
    error = _BY_NAME.get(name, NuropbRemoteError)(
        "" if description is None else str(description), payload=response
    )
    error.error = name
    return error
