"""Errors in the responses of a service, as exceptions for its caller.

Each is a NuropbRemoteError. If the service raised one of our exceptions about the call itself, it
is of that class too, so that both ends catch it by the same name.
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


class RemoteAuthenticationError(NuropbRemoteError, NuropbAuthenticationError):
    """The service cannot identify the caller."""


class RemoteAuthorizationError(NuropbRemoteError, NuropbAuthorizationError):
    """The service refuses this caller."""


class RemoteCallAgainRejectError(NuropbRemoteError, NuropbCallAgainReject):
    """The service has asked for a second call-again."""


class RemoteDeprecatedError(NuropbRemoteError, NuropbDeprecatedError):
    """The method is marked deprecated."""


class RemoteEncryptionRequiredError(NuropbRemoteError, EncryptionRequiredError):
    """The service refuses to run this method for an unencrypted call."""


class RemoteHandlingError(NuropbRemoteError, NuropbHandlingError):
    """The method failed, took too long, or is unknown."""


class RemoteMessageTooLargeError(NuropbRemoteError, MessageTooLargeError):
    """The method's result is too large to be sent; the sizes are in the text."""


class RemoteSerializationError(NuropbRemoteError, NuropbSerializationError):
    """The method's result cannot be sent."""


class RemoteValidationError(NuropbRemoteError, NuropbValidationError):
    """The service does not accept these parameters."""


MAX_NAME: Final = 256
"""Characters of an error's class name; longer ones are cut."""

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
    """Make the exception for the error in this response."""
    fields: Mapping[str, Any] = response["error"] or {}
    name = str(fields.get("error") or "unknown error")[:MAX_NAME]
    description = fields.get("description")
    error = _BY_NAME.get(name, NuropbRemoteError)(
        "" if description is None else str(description), payload=response
    )
    error.error = name
    return error
