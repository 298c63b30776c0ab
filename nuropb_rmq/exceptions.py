"""Every exception that this library raises, in one tree.

::

    NuropbException
    ├── NuropbConfigurationError (ValueError)        a setting is wrong; `field` names it
    ├── NuropbTimeoutError (TimeoutError)            no answer before the deadline: perhaps done
    │   └── NuropbNotSentError                       the deadline passed before it was sent
    ├── NuropbTransportError                         between us and the broker
    │   ├── BrokerUnreachableError                   no host answered
    │   │   └── BrokerTLSError                       TLS could not be agreed, or not be trusted
    │   ├── BrokerAuthenticationError                credentials or permissions refused
    │   │   └── TopicRefusedError                    this user may not publish events of the topic
    │   ├── TokenProviderError                       no access token to log in with
    │   ├── ServiceNotConfigured                     virtual host or exchange missing
    │   ├── InstanceInUseError                       another process holds this response queue
    │   ├── ConnectionLostError                      the connection or channel ended
    │   ├── AMQPProtocolError                        the peer broke AMQP 0-9-1 framing
    │   ├── TransportClosedError                     stopped, or failed for good
    │   ├── OutboxFullError                          the bounded outbox has no room
    │   │   └── PendingFullError                     too many requests wait for answers
    │   ├── PublishNackedError                       the broker refused the message
    │   └── NuropbOutcomeUnknownError                written, not confirmed: perhaps done
    ├── NuropbMessageError                           a message, or its handling
    │   ├── NuropbNotDeliveredError                  no queue takes it
    │   ├── NuropbSerializationError                 the payload cannot be sent as JSON
    │   │   └── MessageTooLargeError                 over max_body_bytes, or the broker's limit
    │   ├── MalformedMessageError                    a message that does not follow the protocol
    │   ├── EncryptionError                          cannot be encrypted or decrypted
    │   │   └── EncryptionRequiredError              the method must be called encrypted
    │   ├── UnexpectedResultError                    a result that does not fit its annotation
    │   └── NuropbRemoteError                        the service answered with an error
    ├── InterfaceMismatchError                       a class for calls that does not fit the service
    ├── NuropbHandlingError                          the service's method failed
    │   └── NuropbDeprecatedError
    ├── NuropbValidationError (ValueError)           a call, or a message to send, is not valid
    ├── NuropbAuthenticationError
    ├── NuropbAuthorizationError
    ├── NuropbCallAgain                              raised by a handler: deliver this once more
    ├── NuropbCallAgainReject                        a second call-again
    ├── RetryLater                                   raised by a handler: deliver it again later
    └── NuropbSuccess                                raised by a handler: success, with events

A remote error is also of the class that the service raised, if it is one of those that
`protocol.remote_errors` lists: `except NuropbAuthorizationError` catches the refusal of a service.

The names beginning with Nuropb and ServiceNotConfigured are nuropb's own, except
NuropbConfigurationError, NuropbNotSentError, NuropbOutcomeUnknownError, NuropbRemoteError,
NuropbSerializationError.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from typing import Any

from .printable import printable

__all__ = [
    "AMQPProtocolError", "BrokerAuthenticationError", "BrokerTLSError", "BrokerUnreachableError",
    "ConnectionLostError", "EncryptionError", "EncryptionRequiredError", "InstanceInUseError",
    "InterfaceMismatchError", "MalformedMessageError", "MessageTooLargeError",
    "NuropbAuthenticationError", "NuropbAuthorizationError", "NuropbCallAgain",
    "NuropbCallAgainReject", "NuropbConfigurationError", "NuropbDeprecatedError", "NuropbException",
    "NuropbHandlingError", "NuropbMessageError", "NuropbNotDeliveredError", "NuropbNotSentError",
    "NuropbOutcomeUnknownError", "NuropbRemoteError", "NuropbSerializationError", "NuropbSuccess",
    "NuropbTimeoutError", "NuropbTransportError", "NuropbValidationError", "OutboxFullError",
    "PendingFullError", "PublishNackedError", "RetryLater", "ServiceNotConfigured",
    "TokenProviderError", "TopicRefusedError", "TransportClosedError", "UnexpectedResultError",
]  # fmt: skip

_MAY_NOT_PICKLE = ("payload", "exception")


def _is_carried(value: object) -> bool:
    """Return whether a value can be pickled and restored; foreign exceptions may fail."""
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - just pickled here
    except Exception:  # noqa: BLE001 - an object's own pickling may raise anything
        return False
    return True


def _restored(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    return error


class NuropbException(Exception):  # noqa: N818 - nuropb's name
    """The root of the tree.

    `description` is the text; `payload` the message it is about, or None; `exception` its cause,
    or None. The payload is not in str() and repr(), because it may be secret.
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
        """Support pickle and copy: drop a payload or cause that cannot be pickled."""
        carried = {
            name: value if name not in _MAY_NOT_PICKLE or _is_carried(value) else None
            for name, value in self.__dict__.items()
        }
        return _restored, (type(self), self.args), carried

    def to_dict(self) -> dict[str, Any]:
        """Return the error for a response: class name and description."""
        return {"error": type(self).__name__, "description": self.description}


class NuropbConfigurationError(NuropbException, ValueError):
    """A setting or argument is wrong. `field` is its name; the text says what was expected."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class NuropbTimeoutError(NuropbException, TimeoutError):
    """The deadline passed before there was an answer; the request may have been handled."""


class NuropbNotSentError(NuropbTimeoutError):
    """The deadline passed before the message was written: it never is, and nothing was done."""


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
        """True when the connection cannot be used any more."""
        return self._close_connection


class BrokerUnreachableError(NuropbTransportError):
    """No configured host answered: refused, unresolvable, or silent."""


class BrokerTLSError(BrokerUnreachableError):
    """TLS failed, or the broker's certificate is not trusted. There is no fallback without TLS."""


class BrokerAuthenticationError(NuropbTransportError):
    """The broker refused the credentials, or a permission."""


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
    """The token provider failed, hung, or returned no valid token; `exception` is its own."""


class ServiceNotConfigured(NuropbTransportError):  # noqa: N818 - nuropb's name
    """A virtual host or exchange is missing, or a queue exists with other properties."""


class InstanceInUseError(NuropbTransportError):
    """Another connection holds this instance's response queue: its instance_id is in use.

    Or the service queue has an exclusive consumer.
    """

    def __init__(self, description: str, exception: BaseException | None = None) -> None:
        super().__init__(description, None, exception, close_connection=True)


class ConnectionLostError(NuropbTransportError):
    """The connection or channel ended. `code` and `text` are the broker's; 0 and "" without."""

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
    """Too many requests wait for their answers (max_pending); this one was not sent.

    Slow down, as at an OutboxFullError.
    """


class PublishNackedError(NuropbTransportError):
    """The broker refused the message by Basic.Nack; usually a queue is full."""


class NuropbOutcomeUnknownError(NuropbTransportError):
    """The message was written, but not confirmed before a loss or the deadline.

    It may or may not have been handled. This library never sends it again: only its author knows
    whether that is safe.
    """


class NuropbMessageError(NuropbException):
    """A message could not be encoded, decoded, delivered or handled."""


class NuropbNotDeliveredError(NuropbMessageError):
    """The broker has no queue for this message (Basic.Return)."""


class NuropbSerializationError(NuropbMessageError):
    """The payload cannot be sent as JSON, or its properties not as AMQP."""


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
    """An incoming message does not follow the protocol."""


class UnexpectedResultError(NuropbMessageError):
    """The result of a typed call does not fit the annotation; the method has been run."""


class InterfaceMismatchError(NuropbException):
    """Calls by an interface could not succeed; `problems` has one text for each reason."""

    problems: tuple[str, ...] = ()


class EncryptionError(NuropbMessageError):
    """A body cannot be encrypted or decrypted: the key is unknown or wrong, or it was changed."""


class EncryptionRequiredError(EncryptionError):
    """A method that requires encryption was called without: it has not been run."""


class NuropbRemoteError(NuropbMessageError):
    """The service answered with an error: `error` is its class name there, `description` its text.

    `payload` is the whole response. If a handler lets this error propagate, its own caller gets the
    same class name and text. str() is for logs: one line, of bounded length.
    """

    error: str = ""

    def __str__(self) -> str:
        return printable(f"{self.error}: {self.description}")

    def to_dict(self) -> dict[str, Any]:
        """Return class name and text from the service."""
        return {"error": self.error, "description": self.description}


class NuropbHandlingError(NuropbException):
    """A request or command failed in its service."""


class NuropbDeprecatedError(NuropbHandlingError):
    """The method or topic is marked deprecated."""


class NuropbValidationError(NuropbException, ValueError):
    """A call, its parameters, or a message to send is not valid."""


class NuropbAuthenticationError(NuropbException):
    """The caller's identity cannot be established."""


class NuropbAuthorizationError(NuropbException):
    """The caller is not permitted to do this."""


class NuropbCallAgain(NuropbException):
    """Raised by a handler: deliver this request or command once more, once only."""


class RetryLater(NuropbException):
    """Raised by a handler: deliver this message again, `after` seconds from now or a little later.

    It comes back by the next longer delay of the service's (Retry.delays, retry_delays), or by the
    longest one; without a Retry, as often as this is raised. Its cause (`raise RetryLater(…) from
    error`) counts when it cannot come back: its attempts or its time are over, or the service has
    no delays. Raises ValueError for a negative or endless time.
    """

    def __init__(
        self,
        description: str | None = None,
        payload: Mapping[str, Any] | None = None,
        exception: BaseException | None = None,
        *,
        after: float = 0.0,
    ) -> None:
        super().__init__(description, payload, exception)
        if not 0 <= after < math.inf:
            raise ValueError(f"after: expected a number of seconds, from 0 on, got {after!r}")
        self.after: float = after


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
