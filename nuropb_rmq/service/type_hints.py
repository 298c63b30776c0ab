"""Type hints as text, for descriptions and errors, and the errors of values that do not fit."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, ForwardRef, Literal, Union, get_args, get_origin

from ..protocol.values import READ

QUALIFIERS: Final = frozenset(
    (
        Annotated,
        typing.Required,
        typing.NotRequired,
        typing.Final,
        getattr(typing, "ReadOnly", Annotated),  # Python 3.13
    )
)
"""Origins of hints that stand for their first argument."""

Converter = Callable[[Any], Any]
"""Function from a value of JSON to the value to use; raises Mismatch."""

_WORDS: Final[Mapping[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


class Mismatch(Exception):  # noqa: N818 - it does not leave the check of a call
    """A value does not fit its hint: `problems` are pairs of a path and a text.

    Paths are made as the exception propagates, so that a value that fits costs none.
    """

    def __init__(self, *problems: tuple[str, str], more: int = 0) -> None:
        super().__init__()
        self.problems = problems
        self.more = more

    def under(self, step: str) -> Mismatch:
        """Return the same problems, with paths from the value around this one."""
        return Mismatch(*((step + path, what) for path, what in self.problems), more=self.more)

    def describe(self, where: str) -> str:
        """Return the problems as text for the caller; `where` is the name of the value, or ""."""
        text = "; ".join(
            f"{(where + path).removeprefix('.')}: {what}" for path, what in self.problems
        )
        return f"{text}; and {self.more} more" if self.more else text


class Uncheckable(TypeError):  # noqa: N818 - it does not leave the making of a service
    """A hint that no value can be checked against; its text names the hint, and the reason."""

    def __init__(self, hint: Any, why: str = "") -> None:
        super().__init__(f"{label(hint)} cannot be checked{why and f': {why}'}")


def expected(wanted: str, value: object) -> Mismatch:
    """Return the error for a value of another type."""
    return Mismatch(("", f"expected {wanted}, got {found(value)}"))


def found(value: object) -> str:
    """Return the type of a value, in the words of JSON."""
    return _WORDS.get(type(value), type(value).__name__)


def wanted(hint: Any) -> str:
    """Return the type that a hint wants, in the words of JSON if it is one of JSON's."""
    if hint in READ:
        return READ[hint][1]
    plain = get_origin(hint) or hint
    return _WORDS.get(type(None) if plain is None else plain) or label(hint)


def label(hint: Any) -> str:
    """Return a hint in Python's syntax: `str`, `list[int]`, `str | None`, `Order`."""
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


def class_hints(kind: Any) -> dict[str, Any]:
    """Return the hints of a class's fields; raises Uncheckable when a name cannot be resolved."""
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception as e:  # annotations may be any code
        raise Uncheckable(kind, f"{type(e).__name__} in its hints: {e}") from e


def required_keys(kind: Any, hints: Mapping[str, Any]) -> set[str]:
    """Return the keys that a TypedDict with these hints must have."""
    required = set(kind.__required_keys__)
    for name, hint in hints.items():
        # A class whose annotations are text does not see these itself.
        if get_origin(hint) is typing.NotRequired:
            required.discard(name)
        elif get_origin(hint) is typing.Required:
            required.add(name)
    return required


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field of a dataclass may be left out."""
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


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
