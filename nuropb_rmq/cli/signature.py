"""Methods of a service, a line each, with types as Python writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..mesh.described import KINDS, Part, params_of, result_of

_DEEPEST: Final = 8


class Signatures:
    """Writes signatures; objects that have a name are written once, by `classes`."""

    def __init__(self) -> None:
        self._classes: dict[str, Part] = {}

    def of(self, name: str, method: Mapping[str, Any]) -> str:
        """Return name, parameters and result of a method, as its description has them."""
        params = params_of(method)
        needed = params.listed("required")
        # A default stands beside a reference, too, which a Part has followed.
        stated = _dict(params.schema.get("properties"))
        parts = []
        for parameter, part in params.fields().items():
            text = f"{parameter}: {self.type(part)}"
            if parameter not in needed:
                default = {**part.schema, **_dict(stated.get(parameter))}.get("default", ...)
                text += " = ..." if default is ... else f" = {default!r}"
            parts.append(text)
        if params.schema.get("additionalProperties"):
            parts.append("**others")
        result = self.type(result_of(method))
        arrow = "" if result == "any" else f" -> {result}"
        return f"{name}({', '.join(parts)}){arrow}"

    def classes(self) -> Iterator[tuple[str, str]]:
        """Yield names and fields of the objects in all signatures, and of those in them."""
        written: set[str] = set()
        while left := [name for name in self._classes if name not in written]:
            for name in left:
                written.add(name)
                yield name, self._fields(self._classes[name], 0)

    def type(self, part: Part, depth: int = 0) -> str:  # noqa: PLR0911 - a table
        """Return a type: str, list[int], date-time, 'a' | 'b', a name; any."""
        values = part.values()
        if values:
            return " | ".join(map(repr, values))
        if depth > _DEEPEST:
            return "..."
        known = part.schema.get("format")
        choices = part.choices()
        if choices and known != "decimal":
            return " | ".join(dict.fromkeys(self.type(each, depth + 1) for each in choices))
        match part.schema.get("type"):
            case "array":
                return self._array(part, depth)
            case "object":
                return self._object(part, depth)
            case _ if isinstance(known, str):
                return known
            case "string" if part.schema.get("contentEncoding") == "base64":
                return "bytes"
            case str(kind) if kind in KINDS:
                return KINDS[kind]
        return "any"

    def _array(self, part: Part, depth: int) -> str:
        members = part.parts("prefixItems")
        if members:
            return f"tuple[{', '.join(self.type(each, depth + 1) for each in members)}]"
        items = self.type(part.at("items"), depth + 1)
        return "list" if items == "any" else f"list[{items}]"

    def _object(self, part: Part, depth: int) -> str:
        if part.fields() and part.name:
            self._classes.setdefault(part.name, part)
            return part.name
        if part.fields():
            return self._fields(part, depth)
        values = self.type(part.at("additionalProperties"), depth + 1)
        return "dict" if values == "any" else f"dict[str, {values}]"

    def _fields(self, part: Part, depth: int) -> str:
        needed = part.listed("required")
        fields = ", ".join(
            f"{name}{'' if name in needed else '?'}: {self.type(field, depth + 1)}"
            for name, field in part.fields().items()
        )
        return f"{{{fields}}}"


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
