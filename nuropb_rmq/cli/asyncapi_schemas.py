"""The JSON Schemas of a description as AsyncAPI has them: draft 7, with definitions in one place.

A description is a peer's message: only keywords that are known, with values of their kind, go into
the document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..mesh.described import KINDS, Part
from ..service.schemas import REFERENCE

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")
_DEEPEST: Final = 50


def key(name: str) -> str:
    """Return a name as the key of a component or channel may be."""
    return _UNFIT.sub("_", name)[:200] or "_"


class Components:
    """The schemas that others refer to, by name."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}

    def of(self, part: Part, prefix: str) -> dict[str, Any]:
        """Return a schema; what it refers to gets names that begin with the prefix."""
        return _Translation(self.schemas, part.root, prefix).of(part.schema)


class _Translation:
    """The schemas of one parameter object, or of one result."""

    def __init__(self, schemas: dict[str, Any], root: Mapping[str, Any], prefix: str) -> None:
        self._schemas = schemas
        self._root = root
        self._prefix = prefix
        self._depth = 0

    def of(self, schema: Any) -> dict[str, Any]:
        """Return a schema of draft 7 for one of draft 2020-12; {} admits anything."""
        if not isinstance(schema, dict) or self._depth > _DEEPEST:
            return {}
        self._depth += 1
        reference = schema.get("$ref")
        if isinstance(reference, str):
            made = self._referred(reference.removeprefix(REFERENCE))
        else:
            made = {name: value for name, value in schema.items() if _is_plain(name, value)}
            made |= self._parts(schema)
        self._depth -= 1
        return made

    def _referred(self, name: str) -> dict[str, Any]:
        definitions = self._root.get("$defs")
        if not isinstance(definitions, dict) or name not in definitions:
            return {}
        known = f"{self._prefix}.{key(name)}"
        if known not in self._schemas:
            self._schemas[known] = {}  # taken: it may refer to itself
            self._schemas[known] = self.of(definitions[name])
        return {"$ref": f"#/components/schemas/{known}"}

    def _parts(self, schema: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        properties = schema.get("properties")
        if isinstance(properties, dict):
            made["properties"] = {str(name): self.of(each) for name, each in properties.items()}
        for name in ("anyOf", "oneOf", "allOf"):
            if isinstance(schema.get(name), list) and schema[name]:
                made[name] = [self.of(each) for each in schema[name]]
        for name in ("additionalProperties", "items"):
            if name in schema:
                value = schema[name]
                made[name] = value if isinstance(value, bool) else self.of(value)
        members = schema.get("prefixItems")
        if isinstance(members, list) and members:
            if "items" in made:
                made["additionalItems"] = made["items"]
            made["items"] = [self.of(each) for each in members]
        return made


def _refers(value: Any) -> bool:
    """Return whether a value would be read as a reference, somewhere in it."""
    return '"$ref"' in json.dumps(value, default=str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    known = all(isinstance(kind, str) and kind in KINDS for kind in kinds)
    return bool(kinds) and known and len(set(kinds)) == len(kinds)


_CHECKS: Final[dict[Callable[[Any], bool], tuple[str, ...]]] = {
    _is_type: ("type",),
    lambda value: isinstance(value, list) and bool(value) and not _refers(value): ("enum",),
    lambda value: not _refers(value): ("const", "default"),
    lambda value: isinstance(value, str): ("title", "description", "format", "contentEncoding"),
    lambda value: isinstance(value, bool): ("uniqueItems",),
    lambda value: _is_texts(value) and len(set(value)) == len(value): ("required",),
    _is_count: ("minItems", "maxItems", "minLength", "maxLength", "minProperties",
                "maxProperties"),
    _is_number: ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    lambda value: _is_number(value) and value > 0: ("multipleOf",),
}  # fmt: skip
_PLAIN: Final = {name: check for check, names in _CHECKS.items() for name in names}


def _is_plain(name: str, value: Any) -> bool:
    return name in _PLAIN and _PLAIN[name](value)
