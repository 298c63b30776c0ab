"""Every exception that this library raises, in one tree.

::

    NuropbException
    ├── NuropbConfigurationError (ValueError)        a setting is wrong; `field` names it
    ├── NuropbTimeoutError (TimeoutError)            the deadline passed
    ├── NuropbTransportError                         something between us and the broker
    │   ├── BrokerUnreachableError                   no host answered
    │   │   └── BrokerTLSError                       TLS could not be agreed, or not be trusted
    │   ├── BrokerAuthenticationError                credentials or permissions refused
    │   │   └── TopicRefusedError                    this user may not publish events of the topic
    │   ├── TokenProviderError                       it gave no access token to log in with
    │   ├── ServiceNotConfigured                     virtual host or exchange missing
    │   ├── InstanceInUseError                       another process holds this response queue
    │   ├── ConnectionLostError                      the connection or channel ended under us
    │   ├── AMQPProtocolError                        the peer broke AMQP 0-9-1 framing
    │   ├── TransportClosedError                     stopped, or failed for good
    │   ├── OutboxFullError                          the bounded outbox has no room
    │   │   └── PendingFullError                     as many requests wait as may
    │   ├── PublishNackedError                       the broker refused the message
    │   └── NuropbOutcomeUnknownError                written, not confirmed: perhaps done
    ├── NuropbMessageError                           a message, or what came of it
    │   ├── NuropbNotDeliveredError                  no queue takes it
    │   ├── NuropbSerializationError                 a payload that JSON cannot carry
    │   │   └── MessageTooLargeError                 over max_body_bytes, or the broker's limit
    │   ├── MalformedMessageError                    a message that does not follow the protocol
    │   ├── EncryptionError                          cannot be encrypted or decrypted
    │   │   └── EncryptionRequiredError              the method is not to be called in plain
    │   └── NuropbRemoteError                        the service answered with an error
    ├── NuropbHandlingError                          the service's method failed
    │   └── NuropbDeprecatedError
    ├── NuropbValidationError
    ├── NuropbAuthenticationError
    ├── NuropbAuthorizationError
    ├── NuropbCallAgain                              raised by a handler: deliver this once more
    ├── NuropbCallAgainReject                        a second call-again
    └── NuropbSuccess                                raised by a handler: success, with events

A remote error of a class that is drawn here below NuropbMessageError is that class too (`remote`):
`except NuropbAuthorizationError` catches the refusal of a service.

The names beginning with Nuropb and ServiceNotConfigured are nuropb's own, but for
NuropbConfigurationError, NuropbOutcomeUnknownError, NuropbRemoteError, NuropbSerializationError.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from .printable import printable

__all__ = [
    "AMQPProtocolError",
    "BrokerAuthenticationError",
    "BrokerTLSError",
    "BrokerUnreachableError",
    "ConnectionLostError",
    "EncryptionError",
    "EncryptionRequiredError",
    "InstanceInUseError",
    "MalformedMessageError",
    "MessageTooLargeError",
    "NuropbAuthenticationError",
    "NuropbAuthorizationError",
    "NuropbCallAgain",
    "NuropbCallAgainReject",
    "NuropbConfigurationError",
    "NuropbDeprecatedError",
    "NuropbException",
    "NuropbHandlingError",
    "NuropbMessageError",
    "NuropbNotDeliveredError",
    "NuropbOutcomeUnknownError",
    "NuropbRemoteError",
    "NuropbSerializationError",
    "NuropbSuccess",
    "NuropbTimeoutError",
    "NuropbTransportError",
    "NuropbValidationError",
    "OutboxFullError",
    "PendingFullError",
    "PublishNackedError",
    "ServiceNotConfigured",
    "TokenProviderError",
    "TopicRefusedError",
    "TransportClosedError",
]


_LEFT_OUT = ("payload", "exception")


def _is_carried(value: object) -> bool:
    """Return whether it survives pickle: what others make exceptions of may not."""
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - what we have just written
    except Exception:  # noqa: BLE001 - an object's own pickling may raise anything
        return False
    return True


def _restored(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    return error


class NuropbException(Exception):  # noqa: N818 - nuropb's name
    """The root of the tree.

    `description` is the text; `payload` the message it concerns, when there is one; `exception`
    what caused it. The payload is kept out of str() and repr(): it may be secret.
    """

    def __init__(
        self,
        description: str | None = None,
        payload: Mapping[str, Any] | None = None,
        exception: BaseException | None = None,
    ) -> None:
        if description is None:
            description = type(self).__name__ if exception is None else f"{exception}"
        super().__init__(description)
        self.description: str = description
        self.payload = payload
        self.exception = exception

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: without a payload or cause that cannot be carried."""
        carried = {
            name: value if name not in _LEFT_OUT or _is_carried(value) else None
            for name, value in self.__dict__.items()
        }
        return _restored, (type(self), self.args), carried

    def to_dict(self) -> dict[str, Any]:
        """The error as it goes into a response: class name and description."""
        return {"error": type(self).__name__, "description": self.description}


class NuropbConfigurationError(NuropbException, ValueError):
    """A setting or argument is wrong. `field` is its name; the text says what would be right."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class NuropbTimeoutError(NuropbException, TimeoutError):
    """The deadline passed before there was an answer, or before the message could be sent."""


class NuropbTransportError(NuropbException):
    """Something between us and the broker failed."""

    def __init__(
        self,
        description: str | None = None,
        payload: Mapping[str, Any] | None = None,
        exception: BaseException | None = None,
        close_connection: bool = False,
    ) -> None:
        super().__init__(description, payload, exception)
        self._close_connection = close_connection

    @property
    def close_connection(self) -> bool:
        """True when the connection cannot go on as it is."""
        return self._close_connection


class BrokerUnreachableError(NuropbTransportError):
    """No configured host answered: refused, unresolvable, or silent."""


class BrokerTLSError(BrokerUnreachableError):
    """TLS could not be agreed, or the broker's certificate not be trusted. Never plain instead."""


class BrokerAuthenticationError(NuropbTransportError):
    """The broker refused the credentials, or what they permit."""


class TopicRefusedError(BrokerAuthenticationError):
    """The broker's user may not publish events of this topic: the event was not published."""

    def __init__(
        self,
        description: str | None = None,
        payload: Mapping[str, Any] | None = None,
        exception: BaseException | None = None,
        *,
        topic: str = "",
    ) -> None:
        super().__init__(description, payload, exception)
        self.topic = topic


class TokenProviderError(NuropbTransportError):
    """The token provider failed, hung, or gave no token to log in with; `exception` is its own."""


class ServiceNotConfigured(NuropbTransportError):  # noqa: N818 - nuropb's name
    """A virtual host or exchange is missing, or a queue exists with other properties."""


class InstanceInUseError(NuropbTransportError):
    """Another connection holds this instance's response queue: instance_id is taken.

    Or another consumer is to be the only one of its service queue.
    """

    def __init__(self, description: str, exception: BaseException | None = None) -> None:
        super().__init__(description, None, exception, close_connection=True)


class ConnectionLostError(NuropbTransportError):
    """The connection or channel ended. `code` and `text` are the broker's, when it gave any."""

    def __init__(self, description: str, code: int = 0, text: str = "") -> None:
        super().__init__(description)
        self.code = code
        self.text = text


class AMQPProtocolError(NuropbTransportError):
    """The peer broke AMQP 0-9-1 framing (section 2.3.5); the connection is closed."""


class TransportClosedError(NuropbTransportError):
    """The transport is stopped, or has failed for good."""


class OutboxFullError(NuropbTransportError):
    """More messages or bytes wait to be sent than the configuration allows; nothing was sent."""


class PendingFullError(OutboxFullError):
    """As many requests wait for their answers as max_pending allows; this one was not sent.

    Slow down, as at an OutboxFullError.
    """


class PublishNackedError(NuropbTransportError):
    """The broker answered Basic.Nack: it did not take the message (a full queue, usually)."""


class NuropbOutcomeUnknownError(NuropbTransportError):
    """The message was written, but the connection was lost or the deadline passed unconfirmed.

    It may or may not have been handled. This library never sends it again: only its author knows
    whether that is safe.
    """


class NuropbMessageError(NuropbException):
    """A message could not be encoded, decoded, delivered or handled."""


class NuropbNotDeliveredError(NuropbMessageError):
    """The broker has no queue for this message (Basic.Return)."""


class NuropbSerializationError(NuropbMessageError):
    """The payload cannot be carried as JSON."""


class MessageTooLargeError(NuropbSerializationError):
    """A body of `size` bytes is over a limit of `limit`: max_body_bytes, or the broker's own.

    The message was not delivered.
    """

    def __init__(
        self,
        description: str | None = None,
        payload: Mapping[str, Any] | None = None,
        exception: BaseException | None = None,
        *,
        size: int = 0,
        limit: int = 0,
    ) -> None:
        super().__init__(description, payload, exception)
        self.size = size
        self.limit = limit


class MalformedMessageError(NuropbMessageError):
    """A message that came in does not follow the protocol."""


class EncryptionError(NuropbMessageError):
    """A body cannot be encrypted or decrypted: key unknown, wrong, or body tampered with."""


class EncryptionRequiredError(EncryptionError):
    """A method that requires encryption was called in plain: it has not been run."""


class NuropbRemoteError(NuropbMessageError):
    """The service answered with an error: `error` is its class name there, `description` its text.

    `payload` is the whole response. A service that lets it pass answers its own caller with the
    same class name and text. str() is for logs: one line, of bounded length.
    """

    error: str = ""

    def __str__(self) -> str:
        return printable(f"{self.error}: {self.description}")

    def to_dict(self) -> dict[str, Any]:
        """The error as the service put it."""
        return {"error": self.error, "description": self.description}


class NuropbHandlingError(NuropbException):
    """A request or command failed in its service."""


class NuropbDeprecatedError(NuropbHandlingError):
    """The method or topic is marked deprecated."""


class NuropbValidationError(NuropbException):
    """The parameters of a request or command are not valid."""


class NuropbAuthenticationError(NuropbException):
    """The requester's identity cannot be established."""


class NuropbAuthorizationError(NuropbException):
    """The requester may not do this."""


class NuropbCallAgain(NuropbException):
    """Raised by a handler: deliver this request or command once more, once only."""


class NuropbCallAgainReject(NuropbException):
    """A handler asked for a second call-again; the message is rejected."""


class NuropbSuccess(NuropbException):
    """Raised by a handler: success with this result, and events to publish with it."""

    def __init__(
        self,
        result: Any,
        description: str | None = None,
        payload: Mapping[str, Any] | None = None,
        events: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(description, payload)
        self.result = result
        self.events: list[dict[str, Any]] = events or []
