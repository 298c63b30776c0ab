"""Read the attributes that decorators set on a method, for a service and for a direct call.

The attributes have nuropb's names, so a class with nuropb's own decorators is read in the same
way. A method may have several decorators, in any order and with others between them: all count.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..exceptions import NuropbAuthorizationError, NuropbHandlingError
from ..safe_logging import Blame, blame
from . import nuropb_decorators
from .retry import Retry

AuthorizeFunc = Callable[[Any], Any]
"""Function from the token to the user's claims (or an awaitable of them); None refuses."""


class _Absent:
    def __repr__(self) -> str:
        return "<not set>"


ABSENT: Final[Any] = _Absent()
"""The value of an argument or attribute that was not set."""

# nuropb's names, in its spelling.
HIDDEN: Final = "__nuropb_mesh_hidden__"
TOKEN_KEY: Final = "__nuropb_context_token_key__"  # noqa: S105 - the name of an attribute
AUTHORIZE: Final = "__nuropb_authorise_func__"
REQUIRES_ENCRYPTION: Final = "__nuropb_requires_encryption__"
DESCRIPTION: Final = "__nuropb_description__"
CONTEXT: Final = "__nuropb_context__"
CONTEXT_ARG: Final = "__nuropb_context_arg__"
# Ours.
CONTEXT_CLASS: Final = "__nuropb_context_class__"
SUPPRESS: Final = "__nuropb_context_suppress__"
IN_THREAD: Final = "__nuropb_in_thread__"
MAX_CONCURRENCY: Final = "__nuropb_max_concurrency__"
TOPICS: Final = "__nuropb_event_topics__"
RETRY: Final = "__nuropb_retry__"
ARGUMENTS: Final = "__nuropb_arguments__"
"""A dict of the arguments that were passed to publish_to_mesh."""

DEFAULT_TOKEN_KEY: Final = "Authorization"  # noqa: S105 - the name of a key


@dataclass(frozen=True, slots=True)
class Marks:
    """The settings that decorators have made for one function."""

    hidden: bool
    authorize: AuthorizeFunc | None
    authorizes_async: bool
    token_key: str
    requires_encryption: bool
    description: str | None
    context_parameter: str | None
    """Name of the parameter for the context; None: it gets no context."""
    context_class: Any
    """Class of the context; None, with a context_parameter: it gets a plain dict."""
    authorizes_itself: bool
    """True when nuropb's own nuropb_context calls authorize_func, with that class of context."""
    suppress_exceptions: bool
    in_thread: bool
    max_concurrency: int | None
    topics: tuple[str, ...]
    retry: Retry | None
    """ABSENT: that of the mesh."""
    arguments: frozenset[str]
    """Names of the arguments that were passed to our publish_to_mesh."""

    def claims(self, context: Mapping[str, Any]) -> Any:
        """Return authorize_func's result for this context, or an awaitable of it; see `admitted`.

        Raises NuropbAuthorizationError when the context has no token.
        """
        token = context.get(self.token_key, ABSENT)
        if self.authorize is None or token is ABSENT:
            missing = f"context[{self.token_key!r}] is missing: the token"
            if self.topics:
                missing += "; a method's events carry it with add_event(…, with_token=True) only"
            raise blame(NuropbAuthorizationError(missing), Blame.SENDER)
        return self.authorize(token)

    def has(self, argument: str) -> bool:
        """Return whether this argument of publish_to_mesh guards the method."""
        return bool(self.authorize if argument == "authorize_func" else self.requires_encryption)


def admitted(claims: Any) -> Any:
    """Return the claims. Raises NuropbAuthorizationError when they are a refusal.

    Raises NuropbHandlingError when authorize_func has not decided: for a generator or an awaitable.
    """
    if claims is None or claims is False:
        refused = NuropbAuthorizationError("authorize_func has refused this token")
        raise blame(refused, Blame.SENDER)
    if inspect.isgenerator(claims) or inspect.isasyncgen(claims):
        raise NuropbHandlingError("authorize_func: expected claims, got a generator; use return")
    if hasattr(type(claims), "__await__"):
        if inspect.iscoroutine(claims):
            claims.close()
        raise NuropbHandlingError("authorize_func: its result was not awaited; use async def")
    return claims


def generates(function: Any) -> bool:
    """Return whether a call returns a generator, which has run none of the function's code."""
    function = inspect.unwrap(function)
    called = (function, getattr(function, "__call__", None))  # noqa: B004 - of its class
    return any(map(inspect.isgeneratorfunction, called)) or any(
        map(inspect.isasyncgenfunction, called)
    )


def marks_of(function: object) -> Marks:
    """Read the attributes of a function, classmethod or staticmethod, and of what it wraps.

    Raises TypeError when they contradict each other.
    """
    layers = [vars(layer) for layer in _layers(function) if hasattr(layer, "__dict__")]

    def mark(name: str, default: Any) -> Any:
        return next((layer[name] for layer in layers if name in layer), default)

    def any_mark(name: str) -> bool:
        return any(layer.get(name) for layer in layers)

    asking = [layer for layer in layers if layer.get(AUTHORIZE) is not None]
    authorize = asking[0][AUTHORIZE] if asking else None
    if any(layer[AUTHORIZE] != authorize for layer in asking):
        raise TypeError("two publish_to_mesh with different authorize_func: only one can be called")
    if authorize is not None and generates(authorize):
        raise TypeError("authorize_func is a generator function: it decides nothing; use return")
    own_class = mark(CONTEXT_CLASS, None)
    theirs = None if own_class is not None else nuropb_decorators.wrapper(function)
    asks = theirs is not None and vars(theirs).get(AUTHORIZE) is not None
    authorizes_async = inspect.iscoroutinefunction(authorize)
    if asks and authorizes_async:
        raise TypeError(
            "authorize_func is async, and nuropb's own nuropb_context does not await it: use "
            "nuropb_rmq's"
        )
    return Marks(
        hidden=any_mark(HIDDEN),
        authorize=authorize,
        authorizes_async=authorizes_async,
        token_key=(asking[0] if asking else {}).get(TOKEN_KEY) or DEFAULT_TOKEN_KEY,
        requires_encryption=any_mark(REQUIRES_ENCRYPTION),
        description=mark(DESCRIPTION, None),
        context_parameter=mark(CONTEXT_ARG, "ctx") if any_mark(CONTEXT) else None,
        context_class=(
            own_class if theirs is None else nuropb_decorators.context_class(theirs, admitted)
        ),
        authorizes_itself=asks,
        suppress_exceptions=any_mark(SUPPRESS)
        or (theirs is not None and nuropb_decorators.suppresses_exceptions(theirs)),
        in_thread=mark(IN_THREAD, True),
        max_concurrency=mark(MAX_CONCURRENCY, None),
        topics=mark(TOPICS, ()),
        retry=mark(RETRY, ABSENT),
        arguments=frozenset(name for layer in layers for name in layer.get(ARGUMENTS, ())),
    )


def covers_marks(function: object, name: str) -> bool:
    """Return whether a decorator without functools.wraps hides marks that guard the method.

    Its closure then has a function of this name, with marks that the outer layers lack.
    """
    layers = [*_layers(function)]
    seen = [layer for layer in layers if hasattr(layer, "__dict__")]
    cells = [cell for layer in layers for cell in getattr(layer, "__closure__", None) or ()]
    for cell in cells:
        try:
            kept = cell.cell_contents
        except ValueError:  # it is empty
            continue
        if getattr(kept, "__name__", None) == name and not any(kept is layer for layer in layers):
            hidden = getattr(kept, "__dict__", {})
            for mark in (AUTHORIZE, REQUIRES_ENCRYPTION, HIDDEN):
                if hidden.get(mark) and not any(mark in vars(layer) for layer in seen):
                    return True
    return False


def _layers(function: Any) -> Iterator[Any]:
    """Yield a decorated function and, from the outside in, the functions that it wraps."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        wrapped = getattr(function, "__wrapped__", None)
        function = getattr(function, "__func__", None) if wrapped is None else wrapped
