"""Classes that still use nuropb's own decorators, or raise its own exceptions.

Nothing of nuropb is imported: who has such a class has imported it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from ..exceptions import NuropbCallAgain, NuropbException, NuropbSuccess

__all__ = ["context_class", "suppresses_exceptions", "translated", "wrapper"]

_DECORATOR: Final = "nuropb.contexts.context_manager_decorator"
_EXCEPTIONS: Final = "nuropb.interface"


def wrapper(function: Any) -> Any:
    """What nuropb's nuropb_context has made of this function; or None.

    It calls the authorize_func that it carries itself, as an attribute, and no other.
    """
    while function is not None:
        if getattr(function, "__globals__", {}).get("__name__") == _DECORATOR:
            return function
        function = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
    return None


def context_class(wrapper: Any, admitted: Callable[[Any], Any]) -> Any:
    """The class of context that such a wrapper asks for.

    Its authorize_func is called by that decorator; `admitted` then refuses what is a refusal.
    """
    return _refusing(wrapper.__globals__["NuropbContextManager"], admitted)


def suppresses_exceptions(wrapper: Any) -> bool:
    """What nuropb's nuropb_context was told."""
    return bool(inspect.getclosurevars(wrapper).nonlocals.get("suppress_exceptions"))


def translated(error: Exception) -> Exception:
    """nuropb's exceptions with a meaning for the dispatcher as ours; any other as it is."""
    if type(error).__module__ != _EXCEPTIONS or isinstance(error, NuropbException):
        return error
    said: Any = error
    match type(error).__name__:
        case "NuropbSuccess":
            return NuropbSuccess(said.result, said.description, events=said.events)
        case "NuropbCallAgain":
            return NuropbCallAgain(str(said))
    return error


@cache
def _refusing(base: Any, admitted: Callable[[Any], Any]) -> Any:
    """nuropb's context, but claims that are a refusal are not taken."""

    class Context(base):  # type: ignore[misc]
        @property
        def user_claims(self) -> Any:
            return base.user_claims.fget(self)

        @user_claims.setter
        def user_claims(self, claims: Any) -> None:
            base.user_claims.fset(self, admitted(claims))

    Context.__name__ = Context.__qualname__ = base.__name__
    return Context
