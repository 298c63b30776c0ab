"""Hints of pydantic and msgspec: those libraries check and convert what is theirs.

Neither is imported here: who has hints of theirs has imported them. Of dates and times they read
ISO 8601 only, so texts as nuropb writes them are changed before, where a field is one.
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
import types
import typing
from collections import abc, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin

from ..protocol.values import ISO
from .type_hints import Converter, Mismatch, Uncheckable, is_typed_dict, short

__all__ = ["by_library"]

_ERRORS_TOLD: Final = 3
_CONSTRAINTS: Final = "annotated_types"
"""The package of pydantic's constraints (Gt, Len …), which anybody may use."""

_WITHOUT_VALUE: Final[Mapping[str, str]] = {
    "union_tag_invalid": "Input tag does not match any of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
}
"""Messages of pydantic that would quote the value."""
_BEFORE_VALUE: Final = ("Invalid enum value", "Invalid value")
"""Behind these msgspec quotes it."""
_OF_PYDANTIC: Final[Mapping[str, type]] = {
    **{f"{which}Datetime": datetime.datetime for which in ("Aware", "Naive", "Past", "Future")},
    **{f"{which}Date": datetime.date for which in ("Past", "Future")},
}
"""Its own types for dates and times."""
_CONTAINERS: Final = frozenset(
    {
        *(list, tuple, set, frozenset, dict, deque),
        *(abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection),
        *(abc.Set, abc.MutableSet, abc.Mapping, abc.MutableMapping),
    }
)

Normalizer = Callable[[Any], Any]
"""Returns a value with its dates and times in ISO 8601; never raises."""


def by_library(hint: Any) -> Converter | None:
    """Return what converts for a hint that belongs to one of the libraries, else None.

    Theirs are their classes and types, unions of these, and what is Annotated with theirs. Raises
    Uncheckable when they refuse it.
    """
    origin = get_origin(hint)
    parts = [hint, origin]
    whole = any
    if origin is Annotated:
        parts += hint.__metadata__
    elif origin in (Union, types.UnionType):
        parts = [each for each in get_args(hint) if each is not type(None)]
        whole = all
    for name, make in (("pydantic", _by_pydantic), ("msgspec", _by_msgspec)):
        library = sys.modules.get(name)
        if library is not None and whole(_belongs(part, library) for part in parts):
            try:
                convert = make(library, hint)
                normalize = _normalizer(hint, {})
            except Exception as e:  # whatever they say of a hint
                problem = str(e).partition("\n")[0]
                raise Uncheckable(hint, f"{name} says: {problem}") from e
            return convert if normalize is None else _normalized(convert, normalize)
    if any(_package(part) == _CONSTRAINTS for part in parts):
        raise Uncheckable(hint, f"{_CONSTRAINTS} are for pydantic, which is not imported")
    return None


def _belongs(part: Any, library: types.ModuleType) -> bool:
    """Return whether it is a model or struct, or made by the library itself for hints."""
    package = _package(part)
    if package == library.__name__:
        return True
    kind = part if isinstance(part, type) else type(part)
    if library.__name__ == "msgspec":
        return issubclass(kind, library.Struct)
    if package == _CONSTRAINTS or issubclass(kind, library.BaseModel):
        return True
    return isinstance(part, type) and bool(library.dataclasses.is_pydantic_dataclass(part))


def _package(part: Any) -> str:
    """Return the module in which it, or its class, is defined."""
    return str(getattr(part, "__module__", "")).partition(".")[0]


def _by_pydantic(pydantic: types.ModuleType, hint: Any) -> Converter:
    validate = pydantic.TypeAdapter(hint).validate_python

    def check(value: Any) -> Any:
        try:
            return validate(value)
        except pydantic.ValidationError as e:
            # Without the values: they are the caller's, and this goes into logs.
            found = e.errors(include_url=False, include_context=False, include_input=False)
        told = [
            ("".join(map(_step, each["loc"])), _WITHOUT_VALUE.get(each["type"], each["msg"]))
            for each in found[:_ERRORS_TOLD]
        ]
        raise Mismatch(*told, more=len(found) - len(told))

    return check


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{short(step)}"


def _by_msgspec(msgspec: types.ModuleType, hint: Any) -> Converter:
    convert = msgspec.convert
    msgspec.json.Decoder(hint)  # raises for what convert() would refuse at every call

    def check(value: Any) -> Any:
        try:
            return convert(value, hint)
        except msgspec.ValidationError as e:
            told = str(e)
        problem, at, place = told.rpartition(" - at `$")
        if not at:
            problem, place = told, ""
        for said in _BEFORE_VALUE:
            if problem.startswith(said):
                problem = said
        raise Mismatch((place.rstrip("`"), problem))

    return check


# -- dates and times ------------------------------------------------------------------------


def _normalized(convert: Converter, normalize: Normalizer) -> Converter:
    return lambda value: convert(normalize(value))


def _normalizer(  # noqa: PLR0911 - a table
    hint: Any, known: dict[Any, Normalizer]
) -> Normalizer | None:
    """Return what normalizes values of this hint; None when no date or time can be in them.

    `known` are the classes on the way: one that holds itself is normalized by what is made for it.
    """
    if isinstance(hint, type) and (iso := ISO.get(_OF_PYDANTIC.get(hint.__name__, hint))):
        return lambda value: iso(value) if type(value) is str else value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _of_union(arguments, known)
    if origin is Annotated:
        return _normalizer(arguments[0], known)
    if origin in _CONTAINERS:
        return _of_items(
            [_normalizer(each, known) for each in arguments], variadic=... in arguments
        )
    hint = origin or hint
    if not isinstance(hint, type):
        return None
    if hint in known:
        return known[hint]
    fields = list(_fields(hint))
    if not fields:
        return None
    made: list[Normalizer] = []
    known[hint] = lambda value: made[0](value) if made else value
    by_name = {
        name: normalize
        for names, each in fields
        if (normalize := _normalizer(each, known)) is not None
        for name in names
    }
    if not by_name:
        return None
    made.append(_of_fields(by_name))
    return made[0]


def _of_union(members: Iterable[Any], known: dict[Any, Normalizer]) -> Normalizer | None:
    if str in members:  # it is text as well
        return None
    each = [made for member in members if (made := _normalizer(member, known)) is not None]

    def normalize(value: Any) -> Any:
        for one in each:
            changed = one(value)
            if changed is not value:
                return changed
        return value

    return normalize if each else None


def _of_items(items: list[Normalizer | None], *, variadic: bool) -> Normalizer | None:
    """Of list[X], tuple[X, ...], dict[K, X]: the last one counts; of tuple[X, Y] each."""
    if all(one is None for one in items):
        return None
    each = items[0] if variadic else items[-1]

    def normalize(value: Any) -> Any:
        if type(value) is list:
            if len(items) > 1 and not variadic:
                rest = [None] * (len(value) - len(items))
                pairs = zip(value, [*items, *rest], strict=False)
                return [item if one is None else one(item) for item, one in pairs]
            return value if each is None else [each(item) for item in value]
        if type(value) is dict and each is not None:
            return {key: each(item) for key, item in value.items()}
        return value

    return normalize


def _of_fields(by_name: Mapping[Any, Normalizer]) -> Normalizer:
    if None in by_name:
        return by_name[None]

    def normalize(value: Any) -> Any:
        if type(value) is dict:
            return {
                key: one(item) if (one := by_name.get(key)) is not None else item
                for key, item in value.items()
            }
        if type(value) is list:  # by position: a NamedTuple, or a struct that is an array
            return [
                one(item) if (one := by_name.get(index)) is not None else item
                for index, item in enumerate(value)
            ]
        return value

    return normalize


def _fields(kind: type) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The keys under which each field of a class may come, None for the whole, and its hint."""
    fields: Any = getattr(kind, "model_fields", None)
    if isinstance(fields, Mapping):
        is_root = getattr(kind, "__pydantic_root_model__", False)
        for name, field in fields.items():
            yield (*_aliases(field), None if is_root else name), field.annotation
    elif hasattr(kind, "__struct_fields__"):
        fields = sys.modules["msgspec"].structs.fields(kind)
        for index, field in enumerate(fields):
            yield (index, field.encode_name), field.type
    elif dataclasses.is_dataclass(kind) or is_typed_dict(kind) or issubclass(kind, tuple):
        hints = typing.get_type_hints(kind)
        for index, (name, hint) in enumerate(hints.items()):
            yield (index, name), hint


def _aliases(field: Any) -> Iterator[str]:
    """Return the names that a field of a pydantic model may have."""
    for alias in (field.alias, field.validation_alias):
        for each in getattr(alias, "choices", (alias,)):
            if isinstance(each, str):
                yield each
