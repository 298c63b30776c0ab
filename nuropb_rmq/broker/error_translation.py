"""Translate errors of aiormq, codes of the broker and texts of OpenSSL into our exceptions.

The texts tell an operator what to mend.
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
    "single_active_consumer, max_priority and dl_exchange (beside nuropb's own: classic, and no "
    "options), or "
    "stop them, delete the queue when it is empty, and start them again"
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
"""Said when a delivery was not settled within the broker's consumer_timeout."""
_OF_A_TOPIC = "access to topic"
"""Said when one message may not be published, while messages of other topics may."""
_QUEUE_TYPE = re.compile(r"inequivalent arg 'x-queue-type' .* but current is '(\w+)'")
_IN_EXCLUSIVE_USE = "in exclusive use"
"""Said of a queue with an exclusive consumer, with the code of a permission that is refused."""
_AT_A_LIMIT = "is reached"
"""How RabbitMQ ends what it says of a limit of its own, whatever the code: an operator's matter."""


def about_tls(error: BaseException | None) -> bool:
    """Whether an error tells of TLS itself, or of no answer at all."""
    return isinstance(error, TimeoutError | ssl.SSLError) or (
        error is not None and isinstance(error.__cause__, ssl.SSLError)
    )


def failure(broker: Broker, timeout: float, error: BaseException | None) -> NuropbTransportError:
    """A failure about which the broker said nothing."""
    if error is not None and isinstance(error.__cause__, ssl.SSLError):
        error = error.__cause__
    match error:
        case ssl.SSLError():
            return BrokerTLSError(f"{broker}: TLS failed: {_tls_text(error)}", None, error)
        case AuthenticationError():
            return BrokerAuthenticationError(f"{broker}: {error!r}", None, error)
        case TimeoutError():
            text = str(error) or f"no answer in {timeout:g} s"
        case ConnectionRefusedError():  # asyncio and uvloop put it differently
            text = "connection refused: does the broker run there?"
        case _:
            text = str(error or "closed") or "the connection was reset"  # asyncio may say nothing
    return BrokerUnreachableError(f"{broker}: {text}", None, error)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what aiormq raises while setting up `what` into errors of ours."""
    try:
        yield
    except NuropbTransportError:
        raise
    except asyncio.CancelledError as e:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiormq ends its waiters with CancelledError when a connection goes: that is not ours.
        raise ConnectionLostError(f"{what}: the connection was lost during setup") from e
    except ChannelClosed as e:
        raise _of_a_step(what, e) from e
    except TimeoutError:
        raise
    except Exception as e:
        # aiormq's waiters get a bare Exception when a connection ends right behind a frame.
        if not isinstance(e, AMQPError | OSError | RuntimeError) and type(e) is not Exception:
            raise
        text = str(e) or "the connection ended during setup"
        raise ConnectionLostError(f"{what}: {text}") from e


def _of_a_step(what: str, error: ChannelClosed) -> NuropbTransportError:
    """Channel.Close of the broker: what it says of a queue or exchange, or of what we may do."""
    text = str(error)
    match error:
        case ChannelLockedResource():
            return InstanceInUseError(
                f"{what} is held by another connection: is an instance with the same instance_id "
                f"running, or was one connected to a node of the cluster that is down? ({text})",
                error,
            )
        case ChannelNotFoundEntity() if "no exchange" in text or "no queue" in text:
            advice = ": run configure()" if "no exchange" in text else ""  # queues we make
            return ServiceNotConfigured(f"{what} does not exist{advice} ({text})", None, error)
        case ChannelPreconditionFailed() if _AT_A_LIMIT not in text:
            advice = _ALIKE if "inequivalent arg 'x-" in text else ""
            advice += _TYPE_DIFFERS if _QUEUE_TYPE.search(text) else ""
            # RabbitMQ 4.3 refuses a binding with more than two "#" in this way, too.
            says = "exists with other properties" if "inequivalent" in text else "is refused"
            return ServiceNotConfigured(f"{what} {says}: {text}{advice}", None, error)
        case ChannelAccessRefused() if _IN_EXCLUSIVE_USE in text:
            return InstanceInUseError(
                f"{what} has a consumer that is to be the only one: stop it, or let it consume "
                f"without `exclusive` ({text})",
                error,
            )
        case ChannelAccessRefused():
            return BrokerAuthenticationError(f"{what}: permission refused: {text}", None, error)
        case _:  # a limit, or what is there and cannot be had now: its node is down, say
            return ConnectionLostError(f"{what}: {text or type(error).__name__}")


def standing_type(error: NuropbTransportError) -> str | None:
    """The type of a queue that was declared with another one; None for other errors."""
    found = _QUEUE_TYPE.search(f"{error.exception}")
    return found and found[1]


def refusal(broker: Broker, lost: ConnectionLostError) -> NuropbTransportError:
    """Connection.Close of the broker (AMQP 0-9-1, 1.4): what it says about us, by its code."""
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
    """Return the error of a set-up, with user, host and virtual host in front if it lacks them."""
    if ":***@" not in error.description:  # as a Broker prints itself
        error.description = f"{where}: {error.description}"
        error.args = (error.description,)
    return error


def ending(broker: Broker, lost: ConnectionLostError) -> NuropbTransportError:
    """The end of a session that was ready: a permission that is gone, or a loss to recover from."""
    if lost.code == _ACCESS_REFUSED and _OF_A_TOPIC not in lost.text:
        return BrokerAuthenticationError(f"{broker}: permission refused: {lost.text}", None, lost)
    if lost.code == _PRECONDITION_FAILED and _ACK_OVERDUE in lost.text:
        advice = "keep handler_timeout below the broker's consumer_timeout"
        return ConnectionLostError(f"{lost} ({advice})", lost.code, lost.text)
    return lost


def is_final(error: NuropbTransportError) -> bool:
    """Return whether the error lasts until an operator acts, so that retrying is useless.

    A queue that is missing was deleted behind our declaring it; the next session declares it anew.
    """
    if isinstance(error.exception, ChannelNotFoundEntity) and "no queue" in str(error.exception):
        return False
    return isinstance(error, ServiceNotConfigured | BrokerAuthenticationError)


def is_missing(error: NuropbTransportError) -> bool:
    """Return whether a virtual host or exchange is not there, or a virtual host not open to us.

    One that is made again is first made, then opened to its users, then filled with exchanges.
    """
    if isinstance(error, ServiceNotConfigured):
        return is_final(error) and not isinstance(error.exception, ChannelPreconditionFailed)
    lost = error.exception
    closed_to_us = isinstance(lost, ConnectionLostError) and lost.code == _NOT_ALLOWED
    return isinstance(error, BrokerAuthenticationError) and closed_to_us


# What OpenSSL calls it → what an operator can do about it.
_TLS_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": "the broker's certificate is not to be trusted here: check cafile",
    "WRONG_VERSION_NUMBER": "what answers does not speak TLS: is this the port for plain AMQP?",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker wants a client certificate: set certfile",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the broker wants a client certificate: set certfile",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the broker has no TLS 1.2 or later: set ssl_options.versions",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know the authority behind certfile",
}
_NO_UNKNOWN_AUTHORITY = ("expired", "not yet valid")
_ANOTHER_NAME = ("mismatch", "not valid for")


def _tls_text(error: ssl.SSLError) -> str:
    """OpenSSL's words, and what they mean for the settings."""
    reason = getattr(error, "reason", None) or ""
    told = getattr(error, "verify_message", "") or reason or str(error)
    if any(each in told for each in _ANOTHER_NAME):
        return f"{told} (it must be in the certificate's subjectAltName)"
    if any(each in told for each in _NO_UNKNOWN_AUTHORITY):
        return told
    advice = _TLS_ADVICE.get(reason)
    return f"{told} ({advice})" if advice else told
