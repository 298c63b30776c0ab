"""Hints of pydantic and msgspec, which check and convert values for them.

Neither is imported here: a program with their hints has imported them. They read dates and times
in ISO 8601 only, so nuropb's texts are converted first, for fields that are dates or times.
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

from ..printable import shorten
from ..protocol.values import ISO
from .type_hints import Converter, Mismatch, Uncheckable, is_typed_dict

_ERRORS_SHOWN: Final = 3
_CONSTRAINTS: Final = "annotated_types"
"""The package of pydantic's constraints (Gt, Len …), which other libraries use too."""

_WITHOUT_VALUE: Final[Mapping[str, str]] = {
    "union_tag_invalid": "Input tag does not match any of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
}
"""Texts in place of pydantic's that would quote the value, by the type of the error."""
_BEFORE_VALUE: Final = ("Invalid enum value", "Invalid value")
"""Beginnings of msgspec's texts that go on with the value."""
_OF_PYDANTIC: Final[Mapping[str, type]] = {
    **{f"{which}Datetime": datetime.datetime for which in ("Aware", "Naive", "Past", "Future")},
    **{f"{which}Date": datetime.date for which in ("Past", "Future")},
}
"""Pydantic's own types for dates and times, and the types that they stand for."""
_CONTAINERS: Final = frozenset(
    {
        *(list, tuple, set, frozenset, dict, deque),
        *(abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection),
        *(abc.Set, abc.MutableSet, abc.Mapping, abc.MutableMapping),
    }
)

Normalizer = Callable[[Any], Any]
"""Function that returns a value with its dates and times in ISO 8601; never raises."""


def by_library(hint: Any) -> Converter | None:
    """Return the converter for a hint that belongs to one of the libraries; else None.

    Raises Uncheckable when the library refuses the hint.
    """
    library = library_of(hint)
    if library is None:
        if any(_package(part) == _CONSTRAINTS for part in _parts(hint)):
            raise Uncheckable(hint, f"{_CONSTRAINTS} are for pydantic, which is not imported")
        return None
    make = _by_pydantic if library.__name__ == "pydantic" else _by_msgspec
    try:
        convert = make(library, hint)
        normalize = _normalizer(hint, {})
    except Exception as e:  # the library refuses the hint; its errors may be any
        problem = str(e).partition("\n")[0]
        raise Uncheckable(hint, f"{library.__name__} says: {problem}") from e
    return convert if normalize is None else _normalized(convert, normalize)


def library_of(hint: Any) -> types.ModuleType | None:
    """Return the library that a hint belongs to, or None.

    Theirs are their classes and types, unions of these, and hints Annotated with them.
    """
    whole = all if get_origin(hint) in (Union, types.UnionType) else any
    parts = _parts(hint)
    for name in ("pydantic", "msgspec"):
        library = sys.modules.get(name)
        if library is not None and whole(_belongs(part, library) for part in parts):
            return library
    return None


def _parts(hint: Any) -> list[Any]:
    """Return the parts of a hint that decide whose it is."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return [member for member in get_args(hint) if member is not type(None)]
    return [hint, origin, *(hint.__metadata__ if origin is Annotated else ())]


def _belongs(part: Any, library: types.ModuleType) -> bool:
    """Return whether a part of a hint is a model or struct, or of the library itself."""
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
    """Return the top-level package in which a part of a hint, or its class, is defined."""
    return str(getattr(part, "__module__", "")).partition(".")[0]


def _by_pydantic(pydantic: types.ModuleType, hint: Any) -> Converter:
    validate = pydantic.TypeAdapter(hint).validate_python

    def check(value: Any) -> Any:
        try:
            return validate(value)
        except pydantic.ValidationError as e:
            # Without the values, which may be secret: this goes into logs.
            found = e.errors(include_url=False, include_context=False, include_input=False)
        problems = [
            ("".join(map(_step, item["loc"])), _WITHOUT_VALUE.get(item["type"], item["msg"]))
            for item in found[:_ERRORS_SHOWN]
        ]
        raise Mismatch(*problems, more=len(found) - len(problems))

    return check


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{shorten(step)}"


def _by_msgspec(msgspec: types.ModuleType, hint: Any) -> Converter:
    convert = msgspec.convert
    msgspec.json.Decoder(hint)  # raises now if convert() would refuse the hint at every call

    def check(value: Any) -> Any:
        try:
            return convert(value, hint)
        except msgspec.ValidationError as e:
            text = str(e)
        problem, at, place = text.rpartition(" - at `$")
        if not at:
            problem, place = text, ""
        for start in _BEFORE_VALUE:
            if problem.startswith(start):
                problem = start
        raise Mismatch((place.rstrip("`"), problem))

    return check


# -- dates and times ------------------------------------------------------------------------


def _normalized(convert: Converter, normalize: Normalizer) -> Converter:
    return lambda value: convert(normalize(value))


def _normalizer(  # noqa: PLR0911 - a table
    hint: Any, known: dict[Any, Normalizer]
) -> Normalizer | None:
    """Return the normalizer for values of a hint; None when they cannot contain a date or time.

    `known` has those of the classes around it: a class may contain itself.
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
            [_normalizer(argument, known) for argument in arguments], variadic=... in arguments
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
        for names, field_hint in fields
        if (normalize := _normalizer(field_hint, known)) is not None
        for name in names
    }
    if not by_name:
        return None
    made.append(_of_fields(by_name))
    return made[0]


def _of_union(members: Iterable[Any], known: dict[Any, Normalizer]) -> Normalizer | None:
    if str in members:  # the value may be just text
        return None
    normalizers = [made for member in members if (made := _normalizer(member, known)) is not None]

    def normalize(value: Any) -> Any:
        for normalizer in normalizers:
            changed = normalizer(value)
            if changed is not value:
                return changed
        return value

    return normalize if normalizers else None


def _of_items(items: list[Normalizer | None], *, variadic: bool) -> Normalizer | None:
    """Normalize containers: list[X], tuple[X, ...], dict[K, X] by X, tuple[X, Y] one by one."""
    if all(one is None for one in items):
        return None
    of_item = items[0] if variadic else items[-1]

    def normalize(value: Any) -> Any:
        if type(value) is list:
            if len(items) > 1 and not variadic:
                rest = [None] * (len(value) - len(items))
                pairs = zip(value, [*items, *rest], strict=False)
                return [item if one is None else one(item) for item, one in pairs]
            return value if of_item is None else [of_item(item) for item in value]
        if type(value) is dict and of_item is not None:
            return {key: of_item(item) for key, item in value.items()}
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
    """Yield the keys that a field of a class may have, None for the whole value, and its hint."""
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
    """Yield the names that a field of a pydantic model may have."""
    for alias in (field.alias, field.validation_alias):
        for choice in getattr(alias, "choices", (alias,)):
            if isinstance(choice, str):
                yield choice
