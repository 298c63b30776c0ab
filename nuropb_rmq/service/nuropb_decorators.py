"""Support for classes that still use nuropb's own decorators, or raise its own exceptions.

Nothing of nuropb is imported: a program with such a class has imported it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from ..exceptions import NuropbCallAgain, NuropbException, NuropbSuccess

_DECORATOR: Final = "nuropb.contexts.context_manager_decorator"
_EXCEPTIONS: Final = "nuropb.interface"


def wrapper(function: Any) -> Any:
    """Return the wrapper that nuropb's nuropb_context has put around a function; or None.

    It calls only the authorize_func that is an attribute of the wrapper itself.
    """
    while function is not None:
        if getattr(function, "__globals__", {}).get("__name__") == _DECORATOR:
            return function
        function = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
    return None


def context_class(wrapper: Any, admitted: Callable[[Any], Any]) -> Any:
    """Return the class of context for a wrapper of nuropb's.

    nuropb's decorator calls authorize_func; `admitted` then raises for claims that refuse.
    """
    return _refusing(wrapper.__globals__["NuropbContextManager"], admitted)


def suppresses_exceptions(wrapper: Any) -> bool:
    """Return the suppress_exceptions that was passed to nuropb's nuropb_context."""
    return bool(inspect.getclosurevars(wrapper).nonlocals.get("suppress_exceptions"))


def translated(error: Exception) -> Exception:
    """Return nuropb's exceptions for the dispatcher as ours; any other unchanged."""
    if type(error).__module__ != _EXCEPTIONS or isinstance(error, NuropbException):
        return error
    theirs: Any = error
    match type(error).__name__:
        case "NuropbSuccess":
            return NuropbSuccess(theirs.result, theirs.description, events=theirs.events)
        case "NuropbCallAgain":
            return NuropbCallAgain(str(theirs))
    return error


@cache
def _refusing(base: Any, admitted: Callable[[Any], Any]) -> Any:
    """Return a subclass of nuropb's context that raises for claims that refuse."""

    class Context(base):  # type: ignore[misc]
        @property
        def user_claims(self) -> Any:
            return base.user_claims.fget(self)

        @user_claims.setter
        def user_claims(self, claims: Any) -> None:
            base.user_claims.fset(self, admitted(claims))

    Context.__name__ = Context.__qualname__ = base.__name__
    return Context
