"""Read the attributes that decorators set on a method, for a service and for a direct call.

They leave attributes with nuropb's names, so a class that was decorated with nuropb's own
decorators is read in the same way. Decorators may stand above each other, in any order and with
others between them: what any of them says counts, wherever it stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..exceptions import NuropbAuthorizationError, NuropbHandlingError
from ..safe_logging import Blame, blame
from . import nuropb_decorators

__all__ = ["AuthorizeFunc", "Marks", "admitted", "covers_marks", "generates", "marks_of"]

AuthorizeFunc = Callable[[Any], Any]
"""Given the token, returns the user's claims (or an awaitable of them); None refuses."""


class _Absent:
    def __repr__(self) -> str:
        return "<not said>"


ABSENT: Final[Any] = _Absent()
"""Stands for an argument or an attribute that is not there."""

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
TOPICS: Final = "__nuropb_event_topics__"
SAID: Final = "__nuropb_said__"
"""The arguments of publish_to_mesh that were given, whatever they were."""

DEFAULT_TOKEN_KEY: Final = "Authorization"  # noqa: S105 - the name of a key


@dataclass(frozen=True, slots=True)
class Marks:
    """What the decorators say about one function."""

    hidden: bool
    authorize: AuthorizeFunc | None
    authorizes_async: bool
    token_key: str
    requires_encryption: bool
    description: str | None
    context_parameter: str | None
    """None: it gets no context."""
    context_class: Any
    """None, with a context_parameter: it is given the plain context, a dict."""
    authorizes_itself: bool
    """nuropb's own nuropb_context calls authorize_func, with a context of that class."""
    suppress_exceptions: bool
    in_thread: bool
    topics: tuple[str, ...]
    said: frozenset[str]
    """The arguments that our publish_to_mesh was given."""

    def claims(self, context: Mapping[str, Any]) -> Any:
        """What authorize_func says of this context; perhaps an awaitable. See `admitted`.

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
    """The claims. Raises NuropbAuthorizationError when they are a refusal.

    NuropbHandlingError when nothing has decided yet: they are a generator, or must be awaited.
    """
    if claims is None or claims is False:
        refused = NuropbAuthorizationError("authorize_func has refused this token")
        raise blame(refused, Blame.SENDER)
    if inspect.isgenerator(claims) or inspect.isasyncgen(claims):
        raise NuropbHandlingError("authorize_func: it returned a generator, which are no claims")
    if hasattr(type(claims), "__await__"):
        if inspect.iscoroutine(claims):
            claims.close()
        raise NuropbHandlingError("authorize_func: what it returned was not awaited; use async def")
    return claims


def generates(function: Any) -> bool:
    """Return whether calling it gives a generator: nothing of it has run then."""
    function = inspect.unwrap(function)
    called = (function, getattr(function, "__call__", None))  # noqa: B004 - of its class
    return any(map(inspect.isgeneratorfunction, called)) or any(
        map(inspect.isasyncgenfunction, called)
    )


def marks_of(function: object) -> Marks:
    """What the decorators left on a function, classmethod or staticmethod.

    Raises TypeError when what they say cannot all be done.
    """
    layers = [vars(each) for each in _layers(function) if hasattr(each, "__dict__")]

    def mark(name: str, default: Any) -> Any:
        return next((layer[name] for layer in layers if name in layer), default)

    def any_mark(name: str) -> bool:
        return any(layer.get(name) for layer in layers)

    asking = [layer for layer in layers if layer.get(AUTHORIZE) is not None]
    authorize = asking[0][AUTHORIZE] if asking else None
    if any(layer[AUTHORIZE] != authorize for layer in asking):
        raise TypeError(
            "two publish_to_mesh with an authorize_func of their own: only one is asked"
        )
    if authorize is not None and generates(authorize):
        raise TypeError("authorize_func is a generator function: it decides nothing; use return")
    own_class = mark(CONTEXT_CLASS, None)
    theirs = None if own_class is not None else nuropb_decorators.wrapper(function)
    asks = theirs is not None and vars(theirs).get(AUTHORIZE) is not None
    authorizes_async = inspect.iscoroutinefunction(authorize)
    if asks and authorizes_async:
        raise TypeError(
            "authorize_func is async, and nuropb's own nuropb_context does not wait for it: use "
            "that of nuropb_rmq"
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
        topics=mark(TOPICS, ()),
        said=frozenset(name for layer in layers for name in layer.get(SAID, ())),
    )


def covers_marks(function: object, name: str) -> bool:
    """Whether a decorator without functools.wraps stands above marks, so that nobody sees them.

    It then calls a method of this name that it keeps, and that says who may call it.
    """
    layers = [*_layers(function)]
    seen = [each for each in layers if hasattr(each, "__dict__")]
    cells = [cell for each in layers for cell in getattr(each, "__closure__", None) or ()]
    for cell in cells:
        try:
            kept = cell.cell_contents
        except ValueError:  # it is empty
            continue
        if getattr(kept, "__name__", None) == name and not any(kept is each for each in layers):
            hidden = getattr(kept, "__dict__", {})
            for mark in (AUTHORIZE, REQUIRES_ENCRYPTION, HIDDEN):
                if hidden.get(mark) and not any(mark in vars(each) for each in seen):
                    return True
    return False


def _layers(function: Any) -> Iterator[Any]:
    """What decorators have made of a function, from the outside in, and that itself."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        wrapped = getattr(function, "__wrapped__", None)
        function = getattr(function, "__func__", None) if wrapped is None else wrapped
