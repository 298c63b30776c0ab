"""Read the JSON Schemas in a service's description.

A description is a peer's message: every part of it may be missing, or of another type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..service.schemas import REFERENCE

Schema = Mapping[str, Any]

KINDS: Final[Mapping[str, str]] = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "array": "list",
    "object": "dict",
}
"""The types of JSON Schema, and Python's names for them."""
_BY_LABEL: Final = {label: kind for kind, label in KINDS.items()}
_LABEL: Final = re.compile(r"(?:str|int|float|bool|None)(?: \| (?:str|int|float|bool|None))*")
"""The types in nuropb's form of parameters that JSON has; the others are names of classes."""


class Part:
    """One part of a schema; references are resolved by the definitions around it."""

    __slots__ = ("name", "root", "schema")

    def __init__(self, schema: object, root: Schema | None = None) -> None:
        self.schema: Schema = schema if isinstance(schema, dict) else {}
        self.root: Schema = self.schema if root is None else root
        self.name: str = ""
        """The name of its definition, or its title; "" when it has none."""
        reference = self.schema.get("$ref")
        if isinstance(reference, str):
            self.name = reference.removeprefix(REFERENCE)
            found = _dict(self.root, "$defs").get(self.name)
            self.schema = found if isinstance(found, dict) and "$ref" not in found else {}
        elif isinstance(self.schema.get("title"), str):
            self.name = self.schema["title"]

    def at(self, word: str) -> Part:
        """Return the part for a keyword, like `items`; one that admits anything without it."""
        return Part(self.schema.get(word), self.root)

    def parts(self, word: str) -> list[Part]:
        """Return the parts in the list of a keyword, like `prefixItems`."""
        return [Part(member, self.root) for member in self.listed(word)]

    def fields(self) -> dict[str, Part]:
        """Return the fields of an object, by name."""
        fields = _dict(self.schema, "properties").items()
        return {str(name): Part(schema, self.root) for name, schema in fields}

    def listed(self, word: str) -> list[Any]:
        """Return the list of a keyword, like `required`; [] when there is none."""
        return _list(self.schema, word)

    def values(self) -> list[Any]:
        """Return the values that it names, by `enum` or `const`; [] when it names none."""
        return [self.schema["const"]] if "const" in self.schema else self.listed("enum")

    def choices(self) -> list[Part]:
        """Return the parts of which a value has to fit one; [] when it has none."""
        kinds = self.listed("type")
        if kinds:
            return [Part({**self.schema, "type": kind}, self.root) for kind in kinds]
        return self.parts("anyOf") or self.parts("oneOf")

    def closure(self) -> dict[str, Any]:
        """Return the definitions that it refers to, and those that these refer to."""
        found: dict[str, Any] = {}
        unread: list[Any] = [self.schema]
        while unread:
            part = unread.pop()
            if isinstance(part, list):
                unread.extend(part)
            elif isinstance(part, dict):
                reference = part.get("$ref")
                if isinstance(reference, str):
                    name = reference.removeprefix(REFERENCE)
                    if name not in found:
                        found[name] = _dict(self.root, "$defs").get(name)
                        unread.append(found[name])
                unread.extend(part.values())
        return found


def methods_of(description: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the methods of a service by name, as they are described."""
    methods = _dict(description, "methods").items()
    return {str(name): method for name, method in methods if isinstance(method, dict)}


def params_of(method: Mapping[str, Any]) -> Part:
    """Return the parameters of a method. It takes others when `additionalProperties` is not False.

    Without a schema they are read from nuropb's form, in which types are Python's names, and
    **kwargs is one more parameter.
    """
    schema = method.get("params_schema")
    if isinstance(schema, dict):
        return Part(schema)
    form = method.get("parameters")
    if not isinstance(form, dict):
        return Part({})
    properties = dict(_of_nuropb(form.get("properties")))
    takes_others = properties.pop("kwargs", None) is not None
    return Part(
        {
            "properties": properties,
            "required": [name for name in properties if name in _list(form, "required")],
            "additionalProperties": form.get("additionalProperties", takes_others),
        }
    )


def result_of(method: Mapping[str, Any]) -> Part:
    """Return the result of a method."""
    return Part(method.get("result_schema"))


def _of_nuropb(pairs: object) -> Iterator[tuple[str, Schema]]:
    for pair in pairs if isinstance(pairs, list) else ():
        match pair:
            case [str(name), {"type": str(label)}] if _LABEL.fullmatch(label):
                yield name, {"type": [_BY_LABEL[part] for part in label.split(" | ")]}
            case [str(name), *_]:
                yield name, {}


def _list(around: Mapping[str, Any], name: str) -> list[Any]:
    found = around.get(name)
    return found if isinstance(found, list) else []


def _dict(around: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = around.get(name)
    return found if isinstance(found, dict) else {}
