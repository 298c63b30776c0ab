"""Decorators for a service's methods, and the context of a call.

The decorators set attributes of the functions (`nuropb_rmq.service.marks`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from ..exceptions import NuropbValidationError
from ..protocol.handled import Handled
from . import marks
from .marks import ABSENT, DEFAULT_TOKEN_KEY, AuthorizeFunc, Marks, admitted, marks_of
from .retry import Retry
from .signatures import signature_of

_F = TypeVar("_F", bound=Callable[..., Any])


class NuropbContextManager:
    """The context of one call: the caller's context, the user's claims, and events to publish.

    Events that a method adds are published after it has succeeded, and discarded when it fails.
    It can be entered once, with `with` or `async with`: an exception that leaves the block
    discards the events and is kept in `error`. `suppress_exceptions` stops it there, unless it is
    no Exception (a cancellation, for example).
    """

    def __init__(self, context: Mapping[str, Any], suppress_exceptions: bool | None = True) -> None:
        if context is None:
            raise TypeError("context: expected a mapping, got None")
        self._context = context
        self._suppress_exceptions = suppress_exceptions is not False
        self._user_claims: Any = None
        self._events: list[dict[str, Any]] = []
        self._exception: BaseException | None = None
        self._handled: Handled | None = None
        self._state: Literal["new", "entered", "left"] = "new"

    @property
    def context(self) -> Mapping[str, Any]:
        """The context that came with the message."""
        return self._context

    @property
    def user_claims(self) -> Any:
        """The claims that authorize_func returned; None without one."""
        return self._user_claims

    @user_claims.setter
    def user_claims(self, claims: Any) -> None:
        if self._user_claims is not None:
            raise ValueError("user_claims: set already; they can be set once")
        self._user_claims = claims

    def handles(self, handled: Handled | None) -> None:
        """Set the message of this call."""
        self._handled = handled

    @property
    def trace_id(self) -> str | None:
        """Id that all messages of one activity share; None when the method was called directly."""
        return None if self._handled is None else self._handled.trace_id

    @property
    def correlation_id(self) -> str | None:
        """The id of the message and of its answer; None when the method was called directly."""
        return None if self._handled is None else self._handled.correlation_id

    @property
    def sender(self) -> str | None:
        """The caller's response queue, `nuropb-{service}-{instance_id}-rq`.

        None for events, and when the method was called directly. The caller writes it, and it is
        not verified: authorize callers with authorize_func instead.
        """
        return None if self._handled is None else self._handled.sender or None

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers of the message; empty when the method was called directly."""
        return {} if self._handled is None else self._handled.headers

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that were added and not discarded."""
        return self._events

    @property
    def error(self) -> dict[str, Any] | None:
        """Class name and text of the exception that left the block."""
        if self._exception is None:
            return None
        return {"error": type(self._exception).__name__, "description": str(self._exception)}

    def add_event(self, event: dict[str, Any], *, with_token: bool = False) -> None:
        """Publish an event once the method has succeeded, before its answer is sent.

        `event` has the keys `topic` and `event` (or `payload`), and may have `target` and
        `context`. Without a context of its own it carries that of the call, without the caller's
        token, `context[context_token_key]`. `with_token` keeps the token, for subscribers with an
        authorize_func; every other subscriber gets it too. (Events carry nothing of the context of
        an encrypted call; RMQAPI keeps the token, as nuropb does.)

        If an event cannot be delivered, the call fails, as by an error of the method. An event may
        be published twice, as a message may be handled twice. Raises NuropbValidationError for an
        event that lacks these keys.
        """
        check_event(event)
        self._events.append(EventWithToken(event) if with_token else event)

    def __enter__(self) -> Self:
        if self._state != "new":
            raise RuntimeError(f"this context has been {self._state} already: make one per call")
        self._state = "entered"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._state == "left":
            raise RuntimeError("this context has been left already")
        self._state = "left"
        if exc is None:
            return False
        self._exception = exc
        self._events = []
        return self._suppress_exceptions and isinstance(exc, Exception)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self.__exit__(exc_type, exc, traceback)


class EventWithToken(dict[str, Any]):
    """An event that keeps the caller's token in its context."""


def check_event(event: object) -> None:
    """Raise NuropbValidationError for an object that cannot be published as an event."""
    problem = None
    if not isinstance(event, Mapping):
        problem = f"expected a mapping with 'topic' and 'event', got {type(event).__name__}"
    elif not isinstance(event.get("topic"), str):
        problem = "'topic' is missing, or is not a str"
    elif "event" not in event and "payload" not in event:
        problem = "'event', its body, is missing"
    elif not isinstance(event.get("context"), Mapping | None):
        problem = "'context' is not a mapping"
    if problem is not None:
        raise NuropbValidationError(f"event: {problem}")


# -- decorators -----------------------------------------------------------------------------


@overload
def publish_to_mesh(original_method: _F) -> _F: ...
@overload
def publish_to_mesh(
    original_method: None = None,
    *,
    hide_method: bool | None = ...,
    authorize_func: AuthorizeFunc | None = ...,
    context_token_key: str | None = ...,
    requires_encryption: bool | None = ...,
    description: str | None = ...,
    in_thread: bool = ...,
    retry: Retry | None = ...,
    max_concurrency: int | None = ...,
) -> Callable[[_F], _F]: ...
def publish_to_mesh(
    original_method: _F | None = None,
    *,
    hide_method: bool | None = ABSENT,
    authorize_func: AuthorizeFunc | None = ABSENT,
    context_token_key: str | None = ABSENT,
    requires_encryption: bool | None = ABSENT,
    description: str | None = ABSENT,
    in_thread: bool = ABSENT,
    retry: Retry | None = ABSENT,
    max_concurrency: int | None = ABSENT,
) -> Any:
    """Set how a service publishes a method; public methods are published without it, too.

    hide_method: True neither describes the method nor lets it be called.
    authorize_func: called with `context[context_token_key]`, where the method runs; returning None
        (or False) refuses the call with NuropbAuthorizationError. It guards handlers of events,
        too: a refused event is dead-lettered.
    context_token_key: "Authorization", by default.
    requires_encryption: True refuses unencrypted calls.
    description: replaces the docstring.
    in_thread: False runs a synchronous method on the event loop, which saves a thread switch when
        it is quick; RMQAPI always does.
    retry: a Retry in place of that of the Mesh; RMQAPI has none.
    max_concurrency: number of its calls that run at a time in this instance; None is no limit.
        Others wait for their turns, in order, after an async authorize_func. A call that waits
        takes one of prefetch_count, and its time counts against handler_timeout; it does not run
        when its caller's time is over. A method in a thread that handler_timeout has ended does
        not count, though its thread goes on.

    Two uses on one method add up. A method that overrides one with authorize_func or
    requires_encryption must repeat them; authorize_func=None and requires_encryption=False drop
    them. Raises TypeError when authorize_func cannot decide anything, for a max_concurrency that is
    no integer above 0, and when a second use contradicts the first.
    """
    if authorize_func is not ABSENT and authorize_func is not None:
        if not callable(authorize_func):
            raise TypeError("authorize_func: expected a function of the token")
        if marks.generates(authorize_func):
            raise TypeError("authorize_func: a generator function decides nothing; use return")
    arguments: Mapping[str, tuple[str, Any, Callable[[Any], Any]]] = {
        "hide_method": (marks.HIDDEN, hide_method, bool),
        "authorize_func": (marks.AUTHORIZE, authorize_func, _as_it_is),
        "context_token_key": (marks.TOKEN_KEY, context_token_key, _or_default_key),
        "requires_encryption": (marks.REQUIRES_ENCRYPTION, requires_encryption, bool),
        "description": (marks.DESCRIPTION, description or ABSENT, _as_it_is),
        "in_thread": (marks.IN_THREAD, in_thread, bool),
        "retry": (marks.RETRY, retry, _as_retry),
        "max_concurrency": (marks.MAX_CONCURRENCY, max_concurrency, _concurrency),
    }
    passed = {
        name: (mark, meant(value))
        for name, (mark, value, meant) in arguments.items()
        if value is not ABSENT
    }

    def decorate(method: _F) -> _F:
        values = dict(getattr(method, "__dict__", {}).get(marks.ARGUMENTS, {}))
        for name, (mark, value) in passed.items():
            if values.setdefault(name, value) != value:
                raise TypeError(
                    f"publish_to_mesh: {name} of {getattr(method, '__name__', method)!r} has "
                    "another value in another publish_to_mesh: set it once"
                )
            setattr(method, mark, value)
        setattr(method, marks.ARGUMENTS, values)
        if not hasattr(method, marks.TOKEN_KEY):  # nuropb's own nuropb_context needs it
            setattr(method, marks.TOKEN_KEY, DEFAULT_TOKEN_KEY)
        return method

    return decorate if original_method is None else decorate(original_method)


def _as_it_is(value: Any) -> Any:
    return value


def _as_retry(value: Any) -> Retry | None:
    if not isinstance(value, Retry | None):
        raise TypeError(f"retry: expected a Retry or None, got {type(value).__name__}")
    return value


def _concurrency(value: Any) -> int | None:
    if value is None or (type(value) is int and value > 0):
        return value
    raise TypeError(f"max_concurrency: expected an integer above 0, or None, got {value!r}")


def _or_default_key(value: str | None) -> str:
    return value or DEFAULT_TOKEN_KEY


@overload
def nuropb_context(original_method: Callable[..., Any]) -> Callable[..., Any]: ...
@overload
def nuropb_context(
    original_method: None = None,
    *,
    context_parameter: str | None = "ctx",
    suppress_exceptions: bool | None = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def nuropb_context(
    original_method: Callable[..., Any] | None = None,
    *,
    context_parameter: str | None = "ctx",
    suppress_exceptions: bool | None = False,
) -> Any:
    """Pass a method its NuropbContextManager as the parameter `context_parameter`.

    Descriptions and callers in the mesh do not see the parameter. A direct call passes a
    NuropbContextManager, or the context as a dict, first or by name. Raises TypeError when the
    method has no such parameter.
    """
    name = context_parameter or "ctx"

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        parameters = list(signature_of(method).parameters)
        if name not in parameters:
            raise TypeError(f"nuropb_context: {method.__name__} has no parameter {name!r}")
        second = parameters.index(name) == 1

        @functools.wraps(method)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            ctx, args = _take_context(name, args, kwargs, second=second)
            if not isinstance(ctx, NuropbContextManager):
                ctx = NuropbContextManager(ctx, suppress_exceptions=bool(suppress_exceptions))
            if not isinstance(ctx, _Admitted):
                _admit_directly(ctx, marks_of(wrapper))
            if second:
                return method(self, ctx, *args, **kwargs)
            return method(self, *args, **{name: ctx}, **kwargs)

        setattr(wrapper, marks.CONTEXT, True)
        setattr(wrapper, marks.CONTEXT_ARG, name)
        setattr(wrapper, marks.CONTEXT_CLASS, _Admitted)
        setattr(wrapper, marks.SUPPRESS, bool(suppress_exceptions))
        return wrapper

    return decorate if original_method is None else decorate(original_method)


def mesh_event(*topics: str, max_concurrency: int | None = None) -> Callable[[_F], _F]:
    """Make a method the handler of events on these topics, with * and # as in AMQP.

    It gets those of `topic`, `event`, `target` and `context` that it has parameters for, and cannot
    be called by requests or commands. Its topics become bindings of the service's queue; two uses
    add up. Bindings outlive the handler, because another instance may still need them. Unbind a
    topic that has no handler left: its events are dead-lettered, with a WARNING. max_concurrency
    is that of publish_to_mesh. Raises TypeError without topics, and as publish_to_mesh does.
    """
    if not topics or not all(isinstance(topic, str) and topic for topic in topics):
        raise TypeError('mesh_event: expected topics, as in @mesh_event("orders.*")')
    limit = publish_to_mesh(max_concurrency=max_concurrency)

    def decorate(method: _F) -> _F:
        before = getattr(method, "__dict__", {}).get(marks.TOPICS, ())
        setattr(method, marks.TOPICS, tuple(dict.fromkeys((*topics, *before))))
        return method if max_concurrency is None else limit(method)

    return decorate


class _Admitted(NuropbContextManager):
    """A context of a call by the mesh, which has run authorize_func already."""


def _take_context(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, second: bool
) -> tuple[Any, tuple[Any, ...]]:
    """Return the context among the arguments of a call, and the other positional arguments."""
    if name in kwargs:
        if args and (second or isinstance(args[0], NuropbContextManager)):
            raise TypeError(f"{name}: passed twice")
        context = kwargs.pop(name)
    else:
        context, args = (args[0], args[1:]) if args else (None, args)
    if not isinstance(context, NuropbContextManager | Mapping):
        kind = type(context).__name__
        raise TypeError(f"{name}: expected a NuropbContextManager or a dict, got {kind}")
    return context, args


def _admit_directly(ctx: NuropbContextManager, method_marks: Marks) -> None:
    if method_marks.authorize is None or ctx.user_claims is not None:
        return
    claims = method_marks.claims(ctx.context)
    if inspect.iscoroutine(claims):
        claims.close()
        raise TypeError("authorize_func is async: only the mesh can await it")
    ctx.user_claims = admitted(claims)
