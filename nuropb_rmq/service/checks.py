"""Converters: closures that check one value of JSON, and convert it.

Values that JSON has itself stay the objects that they are.
"""

from __future__ import annotations

import enum
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from ..nearest import nearest
from .type_hints import Converter, Mismatch, Uncheckable, expected, short

__all__ = [
    "Fields",
    "dict_of",
    "enum_member",
    "fixed_list",
    "integer_key",
    "list_of",
    "object_of",
    "one_of",
    "scalar",
    "text",
]

_ONE: Final = (str, int, float, bool, type(None))
"""The types of which a value can be one of some values."""
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,4299}")
_CHOICES_TOLD: Final = 10


class Fields:
    """The values that come under names: parameters, or the fields of a class.

    Checking them costs a dict look-up for each.
    """

    def __init__(
        self,
        converters: Mapping[str, Converter | None],
        required: Iterable[str],
        *,
        what: str = "field",
        any_name: bool = False,
        convert_any: Converter | None = None,
        reserved: str | None = None,
    ) -> None:
        """`any_name`: others are taken, too, but for `reserved`; `convert_any` is for these."""
        self.converters = converters
        self.required = frozenset(required)
        self.any_name = any_name
        self._what = what
        self._convert_any = convert_any
        self._reserved = reserved

    def checked(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values as they are used: `given` itself when nothing was converted.

        Raises Mismatch naming the field.
        """
        converters = self.converters
        changed: dict[str, Any] | None = None
        for name, value in given.items():
            if name in converters:
                convert = converters[name]
            elif self.any_name and name != self._reserved:
                convert = self._convert_any
            else:
                raise self._unknown(name)
            if convert is None:
                continue
            try:
                taken = convert(value)
            except Mismatch as e:
                raise e.under(f".{short(name)}") from None
            if taken is not value:
                if changed is None:
                    changed = dict(given)
                changed[name] = taken
        if not self.required <= given.keys():
            missing = [name for name in converters if name in self.required and name not in given]
            raise Mismatch(*((f".{name}", "missing") for name in missing))
        return given if changed is None else changed

    def _unknown(self, name: str) -> Mismatch:
        near = nearest(name, self.converters)
        known = ", ".join(self.converters) or "none"
        hint = f"known are: {known}" if near is None else f"did you mean {near}?"
        return Mismatch((f".{short(name)}", f"no such {self._what}; {hint}"))


# -- values that JSON has -------------------------------------------------------------------


def scalar(accepted: tuple[type, ...], said: str) -> Converter:
    def check(value: Any) -> Any:
        # What JSON decodes to has these very types; isinstance would take True for an int.
        if type(value) in accepted:
            return value
        raise expected(said, value)

    return check


def list_of(
    items: Converter | None,
    make: Callable[[list[Any]], Any] | None = None,
    scalars: tuple[type, ...] = (),
) -> Converter:
    """A list, or what `make` makes of one; items of the types in `scalars` need no look."""
    good = frozenset(scalars)

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise expected("a list", value)
        taken = value
        if items is not None and not good.issuperset(map(type, value)):
            taken = []
            try:
                taken.extend(map(items, value))
            except Mismatch as e:  # what came before it is there
                raise e.under(f"[{len(taken)}]") from None
            if all(map(operator.is_, taken, value)):
                taken = value
        if make is None:
            return taken
        try:
            return make(taken)
        except TypeError:  # a list or dict in a set
            raise Mismatch(("", "expected values that a set can hold, came others")) from None

    return convert


def fixed_list(
    items: list[tuple[str, Converter | None]], least: int, make: Callable[[list[Any]], Any]
) -> Converter:
    """A list whose items have a hint each, and a path; at least so many."""
    most = len(items)
    said = f"a list of {most}" if least == most else f"a list of {least} to {most}"

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise expected(said, value)
        if not least <= len(value) <= most:
            raise Mismatch(("", f"expected {said}, came one of {len(value)}"))
        taken = []
        for item, (path, each) in zip(value, items, strict=False):
            try:
                taken.append(item if each is None else each(item))
            except Mismatch as e:
                raise e.under(path) from None
        return make(taken)

    return convert


def dict_of(
    keys: Converter | None, values: Converter | None, scalars: tuple[type, ...]
) -> Converter:
    """An object of any keys; values of the types in `scalars` need no look."""
    good = frozenset(scalars)

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise expected("an object", value)
        if keys is None and (values is None or good.issuperset(map(type, value.values()))):
            return value
        taken = {}
        for key, item in value.items():
            try:
                made = key if keys is None else keys(key)
                taken[made] = item if values is None else values(item)
            except Mismatch as e:
                raise e.under(f"[{short(key)!r}]") from None
        if keys is None and all(map(operator.is_, taken.values(), value.values())):
            return value
        return taken

    return convert


def integer_key(key: str) -> int:
    if _INTEGER.fullmatch(key) is None:
        raise Mismatch(("", "expected a key that is an integer, came another"))
    return int(key)


# -- values that are text, or have names ----------------------------------------------------


def text(hint: Any, read: Callable[[str], Any], said: str) -> Converter:
    numbers = (int, float) if hint is Decimal else ()

    def convert(value: Any) -> Any:
        if type(value) is not str and type(value) not in numbers:
            raise expected(f"{said} as a string", value)
        try:
            return read(str(value))
        except ValueError:
            raise Mismatch(("", f"expected {said}, came a string that is none")) from None

    return convert


def enum_member(hint: type[enum.Enum]) -> Converter:
    if issubclass(hint, enum.Flag):
        return _flag(hint)
    # nuropb sends the name of a plain Enum: Colour.RED.
    by_name = [(f"{hint.__name__}.{name}", each) for name, each in hint.__members__.items()]
    return one_of(hint, [(each.value, each) for each in hint], otherwise=by_name)


def _flag(hint: type[enum.Flag]) -> Converter:
    def convert(value: Any) -> Any:
        if type(value) is not int or value < 0:  # -1 would be all of them
            raise expected(f"the number of a {hint.__name__}", value)
        try:
            return hint(value)
        except ValueError:
            raise Mismatch(("", f"expected a {hint.__name__}, came another number")) from None

    return convert


def one_of(
    hint: Any, choices: list[tuple[Any, Any]], otherwise: Iterable[tuple[Any, Any]] = ()
) -> Converter:
    """One of some values; each may stand for another. 1, 1.0 and True are not the same."""
    plain = [(getattr(value, "value", value), each) for value, each in choices]
    if any(type(value) not in _ONE for value, _ in plain):
        raise Uncheckable(hint, "its values are not all strings, numbers, bools or None")
    known = {(type(value), value): each for value, each in [*otherwise, *plain]}
    told = [repr(value) for value, _ in plain[:_CHOICES_TOLD]]
    said = f"one of {', '.join(told)}{', …' if len(plain) > len(told) else ''}"

    def convert(value: Any) -> Any:
        try:
            return known[type(value), value]
        except KeyError:
            raise Mismatch(("", f"expected {said}, came another value")) from None
        except TypeError:  # a list or dict
            raise expected(said, value) from None

    return convert


def object_of(
    fields: Fields, make: Callable[..., Any] | None = None, *, without: frozenset[str] = frozenset()
) -> Converter:
    """An object with these fields, or what `make` makes of it; of `without` nothing is taken."""

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise expected("an object", value)
        if without and not without.isdisjoint(value):
            value = {name: each for name, each in value.items() if name not in without}
        taken = fields.checked(value)
        if make is None:
            return taken
        try:
            return make(**taken)
        except (ValueError, AssertionError) as e:  # of its __post_init__, as pydantic has it
            raise Mismatch(("", str(e) or f"refused: {type(e).__name__}")) from None

    return convert
