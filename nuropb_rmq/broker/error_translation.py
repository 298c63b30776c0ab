"""Translate errors of aiormq, codes of the broker and texts of OpenSSL into our exceptions.

Their texts tell an operator what to do.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelClosed,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from ..config.address import Broker
from ..exceptions import (
    BrokerAuthenticationError,
    BrokerTLSError,
    BrokerUnreachableError,
    ConnectionLostError,
    InstanceInUseError,
    NuropbTransportError,
    ServiceNotConfigured,
)

_ALIKE = (
    "; all instances must declare it alike: give them the same queue_type, delivery_limit, "
    "single_active_consumer, max_priority and dl_exchange (with old nuropb peers: classic, and no "
    "options), or stop them, delete the queue when it is empty, and start them again"
)
_TYPE_DIFFERS = (
    "; a queue that is declared without a type gets the virtual host's default_queue_type, and its "
    "type cannot be changed later"
)
_ACCESS_REFUSED = 403
_PRECONDITION_FAILED = 406
_NOT_ALLOWED = 530
"""Reply codes (AMQP 0-9-1, 1.2)."""
_ACK_OVERDUE = "delivery acknowledgement on channel"
"""In the broker's text when a delivery was not settled within its consumer_timeout."""
_OF_A_TOPIC = "access to topic"
"""In its text when one topic may not be published to; others may be permitted."""
_NO_EXCHANGE = re.compile("no exchange '([^']*)'")
_QUEUE_TYPE = re.compile(r"inequivalent arg 'x-queue-type' .* but current is '(\w+)'")
_NOT_PERMITTED = re.compile(
    r"(?:(\w+) )?access to (\w+) '(.*)' in vhost '.*' refused for user '(.*)'"
)
"""Right, kind, name and user in its text; RabbitMQ 3.10 leaves out the right."""
_IN_EXCLUSIVE_USE = "in exclusive use"
"""In its text for a queue with an exclusive consumer; the code is that of a refused permission."""
_AT_A_LIMIT = "is reached"
"""The end of its text about one of its limits, with any code; only an operator can change those."""


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return OpenSSL's error: `error`, or the cause of it; None when TLS did not fail."""
    if error is not None and isinstance(error.__cause__, ssl.SSLError):
        error = error.__cause__
    return error if isinstance(error, ssl.SSLError) else None


def failure(broker: Broker, timeout: float, error: BaseException | None) -> NuropbTransportError:
    """Return our error for a failure without a reason from the broker."""
    error = tls_error(error) or error
    match error:
        case ssl.SSLError():
            return BrokerTLSError(f"{broker}: TLS failed: {tls_text(error)}", None, error)
        case AuthenticationError():
            return BrokerAuthenticationError(f"{broker}: {error!r}", None, error)
        case TimeoutError():
            text = str(error) or f"no answer in {timeout:g} s"
        case ConnectionRefusedError():  # the texts of asyncio and uvloop differ
            text = "connection refused: does the broker run there?"
        case _:
            text = str(error or "closed") or "the connection was reset"  # asyncio's may be empty
    return BrokerUnreachableError(f"{broker}: {text}", None, error)


@contextmanager
def translated(what: str, right: str = "") -> Iterator[None]:
    """Translate the errors of aiormq while setting up `what`, which needs the `right` to it."""
    try:
        yield
    except NuropbTransportError:
        raise
    except asyncio.CancelledError as e:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiormq cancels its waiters when a connection ends: nobody has cancelled us.
        raise ConnectionLostError(f"{what}: the connection was lost during setup") from e
    except ChannelClosed as e:
        raise _of_a_step(what, e, right) from e
    except TimeoutError:
        raise
    except Exception as e:
        # aiormq's waiters get a bare Exception when a connection ends right after a frame.
        if not isinstance(e, AMQPError | OSError | RuntimeError) and type(e) is not Exception:
            raise
        text = str(e) or "the connection ended during setup"
        raise ConnectionLostError(f"{what}: {text}") from e


def _of_a_step(what: str, error: ChannelClosed, right: str) -> NuropbTransportError:
    """Return our error for a Channel.Close about a queue or exchange, or a permission."""
    text = str(error)
    match error:
        case ChannelLockedResource():
            return InstanceInUseError(
                f"{what} is held by another connection: is an instance with the same instance_id "
                f"running, or was one connected to a node of the cluster that is down? ({text})",
                error,
            )
        case ChannelNotFoundEntity() if "no exchange" in text or "no queue" in text:
            advice = ""  # start() makes queues
            if missing := _NO_EXCHANGE.search(text):  # `what` may be a queue that is bound to it
                what, advice = f"exchange {missing[1]!r}", ": run configure()"
            return ServiceNotConfigured(f"{what} does not exist{advice} ({text})", None, error)
        case ChannelPreconditionFailed() if _AT_A_LIMIT not in text:
            advice = _ALIKE if "inequivalent arg 'x-" in text else ""
            advice += _TYPE_DIFFERS if _QUEUE_TYPE.search(text) else ""
            # RabbitMQ 4.3 refuses a binding with more than two "#" with this code, too.
            says = "exists with other properties" if "inequivalent" in text else "is refused"
            return ServiceNotConfigured(f"{what} {says}: {text}{advice}", None, error)
        case ChannelAccessRefused() if _IN_EXCLUSIVE_USE in text:
            return InstanceInUseError(
                f"{what} has an exclusive consumer: stop it, or let it consume without `exclusive` "
                f"({text})",
                error,
            )
        case ChannelAccessRefused():
            text += _missing(what, right, text)
            return BrokerAuthenticationError(f"{what}: permission refused: {text}", None, error)
        case _:  # a limit, or something unavailable now, for example because its node is down
            return ConnectionLostError(f"{what}: {text or type(error).__name__}")


def _missing(what: str, right: str, text: str) -> str:
    """Return the permission that a user lacks, in words; "" when it is not known."""
    found = _NOT_PERMITTED.search(text)
    if found is None:
        return ""
    told, kind, name, user = found.groups()
    if told is None and what != f"{kind} {name!r}":
        return ""  # something else that the step needs
    right = told or right
    return f"; user {user!r} may not {right} {kind} {name!r}" if right else ""


def standing_type(error: NuropbTransportError) -> str | None:
    """Return the type of an existing queue that was declared with another; else None."""
    found = _QUEUE_TYPE.search(f"{error.exception}")
    return found and found[1]


def refusal(broker: Broker, lost: ConnectionLostError) -> NuropbTransportError:
    """Return our error for a Connection.Close, by its code (AMQP 0-9-1, 1.4)."""
    if lost.code == _ACCESS_REFUSED:
        return BrokerAuthenticationError(
            f"{broker}: the broker refused user {broker.username!r}: {lost.text}", None, lost
        )
    if lost.code == _NOT_ALLOWED and "not found" in lost.text:
        return ServiceNotConfigured(
            f"{broker}: virtual host {broker.vhost!r} does not exist: create it, or configure()",
            None,
            lost,
        )
    refused = lost.code == _NOT_ALLOWED and "refused for user" in lost.text
    if refused and _AT_A_LIMIT not in lost.text:
        return BrokerAuthenticationError(f"{broker}: {lost.text}", None, lost)
    return BrokerUnreachableError(f"{broker}: {lost}", None, lost)


def located(where: object, error: NuropbTransportError) -> NuropbTransportError:
    """Return the error of a set-up; put user, host and virtual host in front if it lacks them."""
    if ":***@" not in error.description:  # part of str(Broker)
        error.description = f"{where}: {error.description}"
        error.args = (error.description,)
    return error


def ending(broker: Broker, lost: ConnectionLostError) -> NuropbTransportError:
    """Return the error that ends a ready session: a lost permission, or a loss to recover from."""
    if lost.code == _ACCESS_REFUSED and _OF_A_TOPIC not in lost.text:
        return BrokerAuthenticationError(f"{broker}: permission refused: {lost.text}", None, lost)
    if lost.code == _PRECONDITION_FAILED and _ACK_OVERDUE in lost.text:
        advice = "keep handler_timeout below the broker's consumer_timeout"
        return ConnectionLostError(f"{lost} ({advice})", lost.code, lost.text)
    return lost


def is_final(error: NuropbTransportError) -> bool:
    """Return whether the error lasts until an operator acts, so that retrying is useless.

    A missing queue was deleted after we declared it; the next session declares it again.
    """
    if isinstance(error.exception, ChannelNotFoundEntity) and "no queue" in str(error.exception):
        return False
    return isinstance(error, ServiceNotConfigured | BrokerAuthenticationError)


def is_missing(error: NuropbTransportError) -> bool:
    """Return whether a virtual host or exchange is missing, or we may not enter a virtual host.

    A virtual host that is made again gets its permissions and exchanges only afterwards.
    """
    if isinstance(error, ServiceNotConfigured):
        return is_final(error) and not isinstance(error.exception, ChannelPreconditionFailed)
    lost = error.exception
    closed_to_us = isinstance(lost, ConnectionLostError) and lost.code == _NOT_ALLOWED
    return isinstance(error, BrokerAuthenticationError) and closed_to_us


# OpenSSL's reason → advice for an operator.
_TLS_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": "the broker's certificate is not trusted here: check cafile",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS: is this the port for plain AMQP?",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker wants a client certificate: set certfile",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the broker wants a client certificate: set certfile",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the broker has no TLS 1.2 or later: set ssl_options.versions",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know the authority that signed certfile",
}
_WRONG_TIME = ("expired", "not yet valid")
_WRONG_NAME = ("mismatch", "not valid for")


def tls_text(error: ssl.SSLError) -> str:
    """Return OpenSSL's text, with advice about the settings."""
    reason = getattr(error, "reason", None) or ""
    text = getattr(error, "verify_message", "") or reason or str(error)
    if any(part in text for part in _WRONG_NAME):
        return f"{text} (it must be in the certificate's subjectAltName)"
    if any(part in text for part in _WRONG_TIME):
        return text
    advice = _TLS_ADVICE.get(reason)
    return f"{text} ({advice})" if advice else text
