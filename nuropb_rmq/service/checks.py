"""Converters: closures that check one value of JSON, and convert it.

Values of JSON's own types are passed on as the same objects.
"""

from __future__ import annotations

import enum
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from ..nearest import nearest
from ..printable import shorten
from .type_hints import Converter, Mismatch, Uncheckable, expected

_ONE: Final = (str, int, float, bool, type(None))
"""The types of values that one_of() can choose from."""
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,4299}")
_CHOICES_SHOWN: Final = 10


class Fields:
    """Checks and converts named values: parameters, or the fields of a class.

    Each costs a dict look-up.
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
        """Take other names too if `any_name`, except `reserved`; `convert_any` converts them."""
        self.converters = converters
        self.required = frozenset(required)
        self.any_name = any_name
        self._what = what
        self._convert_any = convert_any
        self._reserved = reserved

    def checked(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the converted values, or `values` itself when nothing was converted.

        Raises Mismatch naming the field.
        """
        converters = self.converters
        changed: dict[str, Any] | None = None
        for name, value in values.items():
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
                raise e.under(f".{shorten(name)}") from None
            if taken is not value:
                if changed is None:
                    changed = dict(values)
                changed[name] = taken
        if not self.required <= values.keys():
            missing = [name for name in converters if name in self.required and name not in values]
            raise Mismatch(*((f".{name}", "missing") for name in missing))
        return values if changed is None else changed

    def _unknown(self, name: str) -> Mismatch:
        near = nearest(name, self.converters)
        known = ", ".join(self.converters) or "none"
        hint = f"known are: {known}" if near is None else f"did you mean {near}?"
        return Mismatch((f".{shorten(name)}", f"no such {self._what}; {hint}"))


# -- values of JSON's own types -------------------------------------------------------------


def scalar(accepted: tuple[type, ...], wanted: str) -> Converter:
    def check(value: Any) -> Any:
        # Decoded JSON has these very types; isinstance would take True for an int.
        if type(value) in accepted:
            return value
        raise expected(wanted, value)

    return check


def list_of(
    items: Converter | None,
    make: Callable[[list[Any]], Any] | None = None,
    scalars: tuple[type, ...] = (),
) -> Converter:
    """Convert a list, by `make` if there is one; items of the types in `scalars` pass unchecked."""
    good = frozenset(scalars)

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise expected("a list", value)
        taken = value
        if items is not None and not good.issuperset(map(type, value)):
            taken = []
            try:
                taken.extend(map(items, value))
            except Mismatch as e:  # the items before it were taken
                raise e.under(f"[{len(taken)}]") from None
            if all(map(operator.is_, taken, value)):
                taken = value
        if make is None:
            return taken
        try:
            return make(taken)
        except TypeError:  # a list or dict in a set
            raise Mismatch(("", "expected values that a set can hold, got others")) from None

    return convert


def fixed_list(
    items: list[tuple[str, Converter | None]], least: int, make: Callable[[list[Any]], Any]
) -> Converter:
    """Convert a list of `least` or more items, each by a converter with a path for errors."""
    most = len(items)
    wanted = f"a list of {most}" if least == most else f"a list of {least} to {most}"

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise expected(wanted, value)
        if not least <= len(value) <= most:
            raise Mismatch(("", f"expected {wanted}, got one of {len(value)}"))
        taken = []
        for item, (path, convert_item) in zip(value, items, strict=False):
            try:
                taken.append(item if convert_item is None else convert_item(item))
            except Mismatch as e:
                raise e.under(path) from None
        return make(taken)

    return convert


def dict_of(
    keys: Converter | None, values: Converter | None, scalars: tuple[type, ...]
) -> Converter:
    """Convert an object with any keys; values of the types in `scalars` pass unchecked."""
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
                raise e.under(f"[{shorten(key)!r}]") from None
        if keys is None and all(map(operator.is_, taken.values(), value.values())):
            return value
        return taken

    return convert


def integer_key(key: str) -> int:
    if _INTEGER.fullmatch(key) is None:
        raise Mismatch(("", "expected a key that is an integer, got another"))
    return int(key)


# -- values that are sent as text or by name ------------------------------------------------


def text(hint: Any, read: Callable[[str], Any], wanted: str) -> Converter:
    numbers = (int, float) if hint is Decimal else ()

    def convert(value: Any) -> Any:
        if type(value) is not str and type(value) not in numbers:
            raise expected(f"{wanted} as a string", value)
        try:
            return read(str(value))
        except ValueError:
            raise Mismatch(("", f"expected {wanted}, got another string")) from None

    return convert


def enum_member(hint: type[enum.Enum]) -> Converter:
    if issubclass(hint, enum.Flag):
        return _flag(hint)
    # nuropb sends the name of a plain Enum: Colour.RED.
    by_name = [(f"{hint.__name__}.{name}", member) for name, member in hint.__members__.items()]
    return one_of(hint, [(member.value, member) for member in hint], otherwise=by_name)


def _flag(hint: type[enum.Flag]) -> Converter:
    def convert(value: Any) -> Any:
        if type(value) is not int or value < 0:  # -1 would set all flags
            raise expected(f"the number of a {hint.__name__}", value)
        try:
            return hint(value)
        except ValueError:
            raise Mismatch(("", f"expected a {hint.__name__}, got another number")) from None

    return convert


def one_of(
    hint: Any, choices: list[tuple[Any, Any]], otherwise: Iterable[tuple[Any, Any]] = ()
) -> Converter:
    """Convert the first of a pair in `choices` to its second. 1, 1.0 and True are different."""
    plain = [(getattr(value, "value", value), meant) for value, meant in choices]
    if any(type(value) not in _ONE for value, _ in plain):
        raise Uncheckable(hint, "its values are not all strings, numbers, bools or None")
    known = {(type(value), value): meant for value, meant in [*otherwise, *plain]}
    shown = [repr(value) for value, _ in plain[:_CHOICES_SHOWN]]
    wanted = f"one of {', '.join(shown)}{', …' if len(plain) > len(shown) else ''}"

    def convert(value: Any) -> Any:
        try:
            return known[type(value), value]
        except KeyError:
            raise Mismatch(("", f"expected {wanted}, got another value")) from None
        except TypeError:  # a list or dict
            raise expected(wanted, value) from None

    return convert


def object_of(
    fields: Fields,
    make: Callable[..., Any] | None = None,
    *,
    without: frozenset[str] = frozenset(),
    keep: frozenset[str] | None = None,
) -> Converter:
    """Convert an object with these fields, by `make` if there is one.

    Drops the fields in `without` and, when `keep` is not None, all that are not in it.
    """

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise expected("an object", value)
        if without and not without.isdisjoint(value):
            value = {name: item for name, item in value.items() if name not in without}
        if keep is not None and not value.keys() <= keep:
            value = {name: item for name, item in value.items() if name in keep}
        taken = fields.checked(value)
        if make is None:
            return taken
        try:
            return make(**taken)
        except (ValueError, AssertionError) as e:  # of __post_init__; pydantic takes these too
            raise Mismatch(("", str(e) or f"refused: {type(e).__name__}")) from None

    return convert
