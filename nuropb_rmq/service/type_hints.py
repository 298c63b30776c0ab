"""Type hints in words, for descriptions and errors, and the errors of values that do not fit."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, ForwardRef, Literal, Union, get_args, get_origin

from ..protocol.values import READ

__all__ = [
    "Converter",
    "Mismatch",
    "Uncheckable",
    "expected",
    "found",
    "is_typed_dict",
    "label",
    "short",
    "wanted",
]

Converter = Callable[[Any], Any]
"""Given a value of JSON, returns the value to use, or raises Mismatch."""

_WORDS: Final[Mapping[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    dict: "an object",
}
_LONGEST: Final = 40


class Mismatch(Exception):  # noqa: N818 - it does not leave the check of a call
    """A value is not what the hint wants: `problems` are pairs of a path and what is wrong there.

    Paths are made on the way out, so that a value that fits costs none.
    """

    def __init__(self, *problems: tuple[str, str], more: int = 0) -> None:
        super().__init__()
        self.problems = problems
        self.more = more

    def under(self, step: str) -> Mismatch:
        """The same, seen from the value around this one."""
        return Mismatch(*((step + path, what) for path, what in self.problems), more=self.more)

    def told(self, where: str) -> str:
        """Return the problems as text for the caller; `where` is the name of the value, or ""."""
        told = "; ".join(
            f"{(where + path).removeprefix('.')}: {what}" for path, what in self.problems
        )
        return f"{told}; and {self.more} more" if self.more else told


class Uncheckable(TypeError):  # noqa: N818 - it does not leave the making of a service
    """A hint that no value can be checked against; its text says which, and why."""

    def __init__(self, hint: Any, why: str = "") -> None:
        super().__init__(f"{label(hint)} cannot be checked{why and f': {why}'}")


def expected(wanted: str, value: object) -> Mismatch:
    """Return the error for a value where something else is wanted."""
    return Mismatch(("", f"expected {wanted}, came {found(value)}"))


def found(value: object) -> str:
    """Return what kind of value it is, in the words of JSON."""
    return _WORDS.get(type(value), type(value).__name__)


def wanted(hint: Any) -> str:
    """Return what a hint wants, in the words of JSON where it is a type of JSON."""
    if hint in READ:
        return READ[hint][1]
    plain = get_origin(hint) or hint
    return _WORDS.get(type(None) if plain is None else plain) or label(hint)


def short(key: object) -> str:
    """Return the text of a key that came with a value; not all of a long one."""
    text = str(key)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def label(hint: Any) -> str:
    """The hint as one would write it: `str`, `list[int]`, `str | None`, `Order`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return label(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(map(label, arguments))
    if isinstance(hint, list):  # the arguments of a Callable
        return f"[{', '.join(map(label, hint))}]"
    if origin is not None:
        return f"{_name(origin)}[{', '.join(map(label, arguments))}]"
    return _name(hint)


def is_typed_dict(hint: type) -> bool:
    """Return whether it is a TypedDict, of typing or of typing_extensions."""
    return issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def _name(hint: Any) -> str:
    match hint:
        case str():  # it could not be resolved
            return hint
        case ForwardRef():
            return hint.__forward_arg__
        case None | types.NoneType:
            return "None"
        case types.EllipsisType():
            return "..."
    name = getattr(hint, "__name__", None)
    return name if isinstance(name, str) else str(hint).removeprefix("typing.")
