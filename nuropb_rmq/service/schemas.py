"""JSON Schema (draft 2020-12) of parameters and results, made from type hints.

They follow the converters (`nuropb_rmq.service.converters`): these take each value that fits. Where
a hint says nothing that JSON Schema can say, the schema is {}, which admits any value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import types
import typing
import uuid
from collections import abc, deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal, Union, get_args, get_origin

from .libraries import library_of
from .type_hints import (
    QUALIFIERS,
    Uncheckable,
    class_hints,
    has_default,
    is_typed_dict,
    required_keys,
)

Schema = dict[str, Any]

_SCALARS: Final[Mapping[Any, str]] = {
    str: "string",
    typing.LiteralString: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    None: "null",
}
_TEXTS: Final[Mapping[type, Schema]] = {
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"type": "string", "format": "duration"},
    Decimal: {"type": "string", "format": "decimal"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    bytearray: {"type": "string", "contentEncoding": "base64"},
}
"""Schemas of what is sent as text; for its exact forms see `nuropb_rmq.protocol.values`."""
_SETS: Final = frozenset((set, frozenset, abc.Set, abc.MutableSet))
_ARRAYS: Final = frozenset(
    (list, deque, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection)
)
_OBJECTS: Final = frozenset((dict, abc.Mapping, abc.MutableMapping))
REFERENCE: Final = "#/$defs/"


class Schemas:
    """Makes the schemas of one method's parameters, or of its result.

    `written`: for values that this process writes, which have all the fields of their class;
    otherwise for values that it reads, where fields with a default may be left out.
    `drops_unknown`: as for Converters.
    """

    def __init__(self, *, written: bool, drops_unknown: bool = False) -> None:
        self._written = written
        self._drops_unknown = drops_unknown
        self._definitions: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def whole(self, schema: Schema) -> Schema:
        """Return a schema with the definitions that it refers to."""
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def of(self, hint: Any) -> Schema:  # noqa: PLR0911 - a table
        """Return the schema of a hint; {} for one that cannot be said in JSON Schema."""
        library = library_of(hint)
        if library is not None:
            return self._by_library(library, hint)
        try:
            hash(hint)
        except TypeError:
            return {}
        if hint in _SCALARS:
            return {"type": _SCALARS[hint]}
        if hint is Decimal and not self._written:
            return {**_TEXTS[hint], "type": ["string", "number"]}
        if hint in _TEXTS:
            return dict(_TEXTS[hint])
        if get_origin(hint) is not None or hint in _ARRAYS | _OBJECTS | _SETS | {tuple}:
            return self._of_container(hint)
        if isinstance(hint, typing.NewType):
            return self.of(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":
            return self.of(hint.__value__)
        return self._of_class(hint) if isinstance(hint, type) else {}

    def _of_container(self, hint: Any) -> Schema:  # noqa: PLR0911 - a table
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in QUALIFIERS:
            return self.of(arguments[0])
        if origin is Literal:
            return {"enum": [_plain(value) for value in arguments]}
        if origin in (Union, types.UnionType):
            return _any_of(self.of(member) for member in arguments)
        kind = origin or hint
        if kind is tuple:
            return self._of_tuple(arguments, known=isinstance(hint, types.GenericAlias))
        if kind in _OBJECTS:
            schema = self.of(arguments[1]) if arguments else {}
            return {"type": "object", **({"additionalProperties": schema} if schema else {})}
        items = self.of(arguments[0]) if arguments else {}
        array = {"type": "array", **({"items": items} if items else {})}
        if kind in _SETS:
            return {**array, "uniqueItems": True}
        return array if kind in _ARRAYS else self._of_class(kind)

    def _of_tuple(self, arguments: tuple[Any, ...], *, known: bool) -> Schema:
        if not arguments and not known:
            return {"type": "array"}
        if arguments[1:] == (...,):
            return {"type": "array", "items": self.of(arguments[0])}
        return _fixed([self.of(argument) for argument in arguments], len(arguments))

    def _of_class(self, kind: type) -> Schema:
        if issubclass(kind, enum.Flag):
            return {"type": "integer", "minimum": 0}
        if kind in self._names:
            return {"$ref": REFERENCE + self._names[kind]}
        make: Callable[[Any], Schema]
        if issubclass(kind, enum.Enum):
            make = _of_enum
        elif is_typed_dict(kind):
            make = self._of_typed_dict
        elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
            make = self._of_named_tuple
        elif dataclasses.is_dataclass(kind):
            make = self._of_dataclass
        else:
            return {}
        name = self._names[kind] = self._free(kind.__name__)
        self._definitions[name] = {}  # taken; a class may contain itself
        with contextlib.suppress(Uncheckable):  # a result; parameters have been checked
            self._definitions[name] = make(kind)
        return {"$ref": REFERENCE + name}

    def _free(self, name: str) -> str:
        """Return a name for a definition: two modules may have a class of one name."""
        free, number = name, 1
        while free in self._definitions:
            number += 1
            free = f"{name}_{number}"
        return free

    # -- classes ----------------------------------------------------------------------------

    def _of_typed_dict(self, kind: Any) -> Schema:
        hints = class_hints(kind)
        required = required_keys(kind, hints)
        return self._object(hints, [name for name in hints if name in required])

    def _of_dataclass(self, kind: Any) -> Schema:
        hints = class_hints(kind)
        fields = dataclasses.fields(kind)
        required = [
            item.name for item in fields if self._written or (item.init and not has_default(item))
        ]
        return self._object({item.name: hints[item.name] for item in fields}, required)

    def _of_named_tuple(self, kind: Any) -> Schema:
        hints = class_hints(kind)
        items = [self.of(hints.get(name, Any)) for name in kind._fields]
        return _fixed(items, len(items) - (0 if self._written else len(kind._field_defaults)))

    def _object(self, hints: Mapping[str, Any], required: list[str]) -> Schema:
        return {
            "type": "object",
            "properties": {name: self.of(hint) for name, hint in hints.items()},
            "required": required,
            "additionalProperties": self._drops_unknown,
        }

    # -- pydantic and msgspec ---------------------------------------------------------------

    def _by_library(self, library: types.ModuleType, hint: Any) -> Schema:
        """Return the library's own schema, with its definitions among ours."""
        suffix = ""
        while True:
            schema, definitions = _asked(library, hint, suffix, written=self._written)
            known = self._definitions
            if all(known.get(name, made) == made for name, made in definitions.items()):
                known.update(definitions)
                return schema
            suffix = f"_{int(suffix[1:] or 1) + 1}"


def _asked(
    library: types.ModuleType, hint: Any, suffix: str, *, written: bool
) -> tuple[Schema, dict[str, Schema]]:
    """Return a library's schema of a hint, and its definitions, all named with `suffix`."""
    try:
        if library.__name__ == "msgspec":
            (schema,), definitions = library.json.schema_components(
                [hint], ref_template=f"{REFERENCE}{{name}}{suffix}"
            )
        else:
            schema = library.TypeAdapter(hint).json_schema(
                mode="serialization" if written else "validation",
                ref_template=f"{REFERENCE}{{model}}{suffix}",
            )
            definitions = schema.pop("$defs", {})
    except Exception:  # noqa: BLE001 - a type without a schema; theirs and a program's own code
        return {}, {}
    return schema, {f"{name}{suffix}": made for name, made in definitions.items()}


# -- parts ----------------------------------------------------------------------------------


def _of_enum(kind: Any) -> Schema:
    return {"enum": [_plain(member) for member in kind]}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _fixed(items: list[Schema], least: int) -> Schema:
    schema: Schema = {"type": "array", "minItems": least, "maxItems": len(items)}
    return {**schema, "prefixItems": items} if items else schema


def _any_of(members: Iterable[Schema]) -> Schema:
    different: list[Schema] = []
    for member in members:
        if member not in different:
            different.append(member)
    if {} in different:
        return {}
    if all(member.keys() == {"type"} for member in different):
        return {"type": [member["type"] for member in different]}
    return {"anyOf": different}
