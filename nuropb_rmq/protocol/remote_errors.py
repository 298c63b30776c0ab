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
    NuropbException,
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

_REMOTE: Final[Mapping[type[NuropbException], type[NuropbRemoteError]]] = {
    EncryptionRequiredError: RemoteEncryptionRequiredError,
    MessageTooLargeError: RemoteMessageTooLargeError,
    NuropbAuthenticationError: RemoteAuthenticationError,
    NuropbAuthorizationError: RemoteAuthorizationError,
    NuropbCallAgainReject: RemoteCallAgainRejectError,
    NuropbDeprecatedError: RemoteDeprecatedError,
    NuropbHandlingError: RemoteHandlingError,
    NuropbSerializationError: RemoteSerializationError,
    NuropbValidationError: RemoteValidationError,
}
_BY_NAME: Final = {raised.__name__: remote for raised, remote in _REMOTE.items()}


def base_of(error: BaseException) -> str | None:
    """Return the name of the class that callers know an error by; None when there is none."""
    return next((each.__name__ for each in type(error).__mro__ if each in _REMOTE), None)


def remote_error(response: Mapping[str, Any]) -> NuropbRemoteError:
    """Make the exception for the error in this response.

    `base` names the class of ours that the service's own class is derived from.
    """
    fields: Mapping[str, Any] = response["error"] or {}
    name = str(fields.get("error") or "unknown error")[:MAX_NAME]
    description = fields.get("description")
    kind = _BY_NAME.get(name) or _BY_NAME.get(str(fields.get("base")), NuropbRemoteError)
    error = kind("" if description is None else str(description), payload=response)
    error.error = name
    return error
