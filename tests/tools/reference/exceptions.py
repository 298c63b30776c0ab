"""docs/reference/exceptions.md: the tree and attributes by the classes; what to do by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Final

import nuropb_rmq
from nuropb_rmq import NuropbException
from tests.tools.site.docstrings import markdown

from .tables import code, table


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield from _INTRODUCTION.splitlines()
    yield ""
    yield from ("```text", *_tree(NuropbException), "```", "")
    yield from _REMOTE.splitlines()
    yield ""
    for heading, kinds in _groups():
        yield from (f"## {heading}", "")
        for kind in kinds:
            yield from _described(kind)


@cache
def exceptions() -> list[type[NuropbException]]:
    """Return the public exceptions, each after its base, in the order of the source."""
    named = (getattr(nuropb_rmq, name) for name in nuropb_rmq.__all__)
    found = [each for each in named if isinstance(each, type) and issubclass(each, NuropbException)]
    return sorted(found, key=lambda kind: inspect.getsourcelines(kind)[1])


def _tree(kind: type, indent: str = "") -> Iterator[str]:
    """Yield a class and its public subclasses, drawn as a tree."""
    others = [base.__name__ for base in kind.__bases__ if not issubclass(base, NuropbException)]
    also = f" ({', '.join(others)})" if others and others != ["Exception"] else ""
    yield f"{kind.__name__}{also}"
    below = [each for each in exceptions() if kind in each.__bases__]
    for each in below:
        last = each is below[-1]
        first, *rest = _tree(each)
        yield f"{'└── ' if last else '├── '}{first}"
        yield from (f"{'    ' if last else '│   '}{line}" for line in rest)


def _groups() -> Iterator[tuple[str, list[type[NuropbException]]]]:
    for heading, names in _GROUPS.items():
        yield heading, [getattr(nuropb_rmq, name) for name in names]


def _described(kind: type[NuropbException]) -> Iterator[str]:
    yield from (f"### {kind.__name__}", "", markdown(inspect.getdoc(kind) or ""), "")
    bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
    rows = [("is a", bases)]
    if own := _attributes(kind):
        rows.append(("attributes", own))
    raised, todo = _WHEN[kind.__name__]
    rows += [("raised by", raised), ("what to do", todo)]
    yield from table(("", ""), rows)


def _attributes(kind: type[NuropbException]) -> str:
    """Return the attributes that a class has and its bases have not, with their types."""
    found = dict(inspect.get_annotations(kind))
    own = inspect.signature(kind).parameters if "__init__" in vars(kind) else {}
    made = vars(_example(kind)) if own else {}
    for name, parameter in own.items():
        if name in made and (kind is NuropbException or name not in _OF_ALL):
            found.setdefault(name, parameter.annotation)
    found |= {name: "bool" for name, each in vars(kind).items() if isinstance(each, property)}
    return ", ".join(f"`{name}` ({code(text)})" for name, text in found.items())


def _example(kind: type[NuropbException]) -> NuropbException:
    needed = [
        "text"
        for each in inspect.signature(kind).parameters.values()
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD
    ]
    make: Callable[..., NuropbException] = kind
    return make(*needed)


_OF_ALL: Final = ("description", "payload", "exception")

_INTRODUCTION: Final = """\
# Exceptions

The errors of calls, of settings and of the connection are `NuropbException`s, imported from `nuropb_rmq`. Wrong use of a
decorator or of a client's method is a `TypeError`, a missing extra a `ModuleNotFoundError`; those of `nuropb_rmq.testing`
are on [its page](api/testing.md). The tree below
has each with the classes of Python that it is, too: `except TimeoutError` catches a `NuropbTimeoutError`.
"""
_REMOTE: Final = """\
A service's error arrives as a `NuropbRemoteError`. When the service raised one of these, the caller's is of that class, too:
`NuropbAuthenticationError`, `NuropbAuthorizationError`, `NuropbValidationError`, `NuropbDeprecatedError`, `NuropbHandlingError`,
`NuropbCallAgainReject`, `EncryptionRequiredError`, `NuropbSerializationError`, `MessageTooLargeError`. So a handler's
`raise NuropbAuthorizationError("not yours")` is caught by `except NuropbAuthorizationError` in the program that calls. So is
an error of a class that the service derives from one of these; `error` has its name then. In logs and in `repr()` these errors
are called `RemoteAuthorizationError`, `RemoteValidationError` and so on.

In an ASGI application `exception_handlers()` answers them: the service's refusals with 401, 403 or 422, its other errors
with 502, `NuropbNotDeliveredError`, `NuropbNotSentError` and `NuropbTransportError` with 503, any other
`NuropbTimeoutError` and `NuropbOutcomeUnknownError` with 504, anything else with 500.
"""
_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "The roots": ("NuropbException", "NuropbTransportError", "NuropbMessageError"),
    "Of a call": (
        "NuropbRemoteError",
        "NuropbTimeoutError",
        "NuropbNotSentError",
        "NuropbNotDeliveredError",
        "NuropbOutcomeUnknownError",
        "NuropbValidationError",
        "NuropbAuthorizationError",
        "NuropbAuthenticationError",
        "NuropbHandlingError",
        "NuropbDeprecatedError",
        "EncryptionError",
        "EncryptionRequiredError",
        "MalformedMessageError",
        "NuropbSerializationError",
        "MessageTooLargeError",
        "UnexpectedResultError",
        "InterfaceMismatchError",
    ),
    "Of sending": (
        "OutboxFullError",
        "PendingFullError",
        "PublishNackedError",
        "TopicRefusedError",
        "TransportClosedError",
    ),
    "Of starting": (
        "NuropbConfigurationError",
        "BrokerUnreachableError",
        "BrokerTLSError",
        "BrokerAuthenticationError",
        "TokenProviderError",
        "ServiceNotConfigured",
        "InstanceInUseError",
    ),
    "Of a connection": ("ConnectionLostError", "AMQPProtocolError"),
    "Raised by handlers": (
        "RetryLater",
        "NuropbCallAgain",
        "NuropbCallAgainReject",
        "NuropbSuccess",
    ),
}
_START: Final = (
    "`start()`, `configure()`; later it is the mesh's `error`, when it has failed for good"
)
_CALL: Final = "`request()`, calls of a client"
_SEND: Final = "`request()`, `command()`, `publish_event()`, `Transport.send()`"
_WHEN: Final[Mapping[str, tuple[str, str]]] = {
    "NuropbException": ("nothing itself", "catch it around a call to catch all that can go wrong"),
    "NuropbTransportError": (
        "any call from the wrong event loop, thread or process",
        "see the subclasses; the text names the broker, service and instance",
    ),
    "NuropbMessageError": ("nothing itself", "see the subclasses"),
    "NuropbRemoteError": (_CALL, "look at `error` and `description`; the service logs its own"),
    "NuropbTimeoutError": (
        f"{_CALL}, `describe_service()`, `wait_for()`",
        "it may have been handled all the same: call again only what may be done twice. Look "
        "at the queue's length, and at `handler_timeout` and `prefetch_count` of the service",
    ),
    "NuropbNotSentError": (
        f"{_SEND}, calls of a client",
        "call again if there is still time: nothing was done. The connection was away or the broker "
        "took no messages; or a service called for the first time did not describe itself; or, in a "
        "handler, the deadline of the call being handled had passed",
    ),
    "NuropbNotDeliveredError": (
        "`request()`, `command()`",
        "start the service, or correct its name: it never ran here, or its queue was deleted",
    ),
    "NuropbOutcomeUnknownError": (
        _SEND,
        "find out whether it was done, or send again what may be done twice",
    ),
    "NuropbValidationError": (
        f"{_SEND}; the service, for parameters that do not fit",
        "correct the call: the text has the path to the value, never the value",
    ),
    "NuropbAuthorizationError": (
        "the service: `authorize_func`, or a handler",
        "ask for the right",
    ),
    "NuropbAuthenticationError": ("the service: `authorize_func`, or a handler", "log in anew"),
    "NuropbHandlingError": (
        "the service, for a method that it does not have, and when `handler_timeout` is over; a handler. "
        "Any other error of a method is a plain `NuropbRemoteError`",
        "look at the service's log and at its dead letters",
    ),
    "NuropbDeprecatedError": ("a handler", "use what replaces the method"),
    "EncryptionError": (
        f"{_CALL}, `command()`; an event with `encrypted`",
        "give all instances of the service one `_private_key`; `describe_service(…, refresh=True)` "
        "fetches a new public key",
    ),
    "EncryptionRequiredError": (
        "the service",
        "leave `encrypted` alone, or pass `encrypted=True`: it was called with False",
    ),
    "MalformedMessageError": (
        f"{_CALL}: the answer cannot be read; the service, in its log and dead letters",
        "find the sender: its message does not follow the [wire contract](wire.md)",
    ),
    "NuropbSerializationError": (
        f"{_SEND}; the service, for a result",
        "send what has a form in JSON: [values](values.md)",
    ),
    "MessageTooLargeError": (
        f"{_SEND}; the service, for a result",
        "send less, or a reference to it; `max_body_bytes` and the broker's `max_message_size` bound it",
    ),
    "UnexpectedResultError": (
        "calls of a typed client",
        "correct the annotation, or the service; the method has been run",
    ),
    "InterfaceMismatchError": ("`check()`", "correct the class, or deploy the service first"),
    "OutboxFullError": (
        _SEND,
        "send more slowly: await what you send. The connection is away or slow; `outbox_messages` "
        "and `outbox_bytes` bound it",
    ),
    "PendingFullError": (_CALL, "call fewer at a time; `max_pending` bounds it"),
    "PublishNackedError": (_SEND, "look at the queue's length limit, and at its disk"),
    "TopicRefusedError": (
        "`publish_event()`",
        "give the user the topic permission, or another topic",
    ),
    "TransportClosedError": (
        f"{_SEND} before `start()` or after `stop()`, and after a fork",
        "start it, or look at `error`: why it failed for good",
    ),
    "NuropbConfigurationError": (
        "constructors, `start()`",
        "correct the setting that `field` names; the text says what it takes",
    ),
    "BrokerUnreachableError": (
        _START,
        "check host, port and firewall; `start_timeout` waits for a broker that is still starting",
    ),
    "BrokerTLSError": (_START, "check `cafile`, the certificate's host name and its dates"),
    "BrokerAuthenticationError": (
        _START,
        "check user, password and permissions: `nuropb-rmq doctor`",
    ),
    "TokenProviderError": (_START, "look at its cause, the provider's own error"),
    "ServiceNotConfigured": (
        f"{_START}; `DeadLetters` without its queue",
        "run `nuropb-rmq configure`, or delete the queue that has other properties",
    ),
    "InstanceInUseError": (
        _START,
        "give each process its own `instance_id`, or none",
    ),
    "ConnectionLostError": (
        "nothing that you call: the callbacks of `on_state_change()` and `EventListener` get it",
        "wait: a mesh connects again by itself",
    ),
    "AMQPProtocolError": (
        "nothing that you call: the log",
        "find out what answers at that port, or report it",
    ),
    "RetryLater": ("your handler", "raise it where waiting may help"),
    "NuropbCallAgain": ("your handler", "raise it where one more try at once may help"),
    "NuropbCallAgainReject": ("the service, at the second call-again", "use `RetryLater`"),
    "NuropbSuccess": (
        "your handler",
        "return the result instead; it is nuropb's way to add events",
    ),
}
