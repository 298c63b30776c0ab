"""Write the source of a typed interface from a service's description.

The description is a peer's message: only names that Python allows, and text in string literals,
get into the source.
"""

from __future__ import annotations

import builtins
import json
import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..mesh.described import KINDS, Part, methods_of, params_of, result_of
from ..printable import printable

_FORMATS: Final[Mapping[object, tuple[str, str]]] = {
    "date-time": ("datetime", "datetime.datetime"),
    "date": ("datetime", "datetime.date"),
    "time": ("datetime", "datetime.time"),
    "duration": ("datetime", "datetime.timedelta"),
    "uuid": ("uuid", "uuid.UUID"),
    "decimal": ("decimal", "decimal.Decimal"),
}
"""Module and class of what is sent as text, by the format of JSON Schema."""
_WIDTH: Final = 88


class StubSource:
    """The source of one module: a Protocol, and a TypedDict for each object of its methods."""

    def __init__(self, service: str, description: Mapping[str, Any], *, blocking: bool) -> None:
        self._service = service
        self._description = description
        self._def = "def" if blocking else "async def"
        self._methods = methods_of(description)
        self._imports: set[str] = set()
        self._typing: set[str] = {"ClassVar", "Protocol"}
        self._classes: dict[str, str] = {}
        """Source of the classes by name; "" for one that is being written."""
        self._known: dict[str, str] = {}
        """Names of the classes by their content."""

    def text(self, name: str) -> str:
        """Return the source; the Protocol is called `name`."""
        self._classes[name] = ""
        body = "\n".join(self._method(*item) for item in sorted(self._methods.items()))
        doc = _docstring(self._description.get("description"), "    ")
        doc = f"{doc}\n" if doc else ""
        del self._classes[name]
        head = f'"""The service `{_safe(self._service)}`, as its clients call it."""'
        imports = [f"import {module}" for module in sorted(self._imports)]
        imports.append(f"from typing import {', '.join(sorted(self._typing))}")
        protocol = f"class {name}(Protocol):\n{doc}    _service_name: ClassVar[str] = "
        protocol += f"{_literal(self._service)}\n\n{body}"
        parts = [head + "\n\nfrom __future__ import annotations", "\n".join(imports)]
        return "\n\n".join(parts) + "\n\n\n" + "\n\n\n".join([*self._classes.values(), protocol])

    # -- methods ----------------------------------------------------------------------------

    def _method(self, name: str, described: Mapping[str, Any]) -> str:
        if not is_name(name) or name.startswith("_"):
            return f"    # {_safe(name)} cannot be called from Python by this name\n"
        params = params_of(described)
        for each in params.fields():
            if not is_name(each) or each == "self":
                what = f"{_safe(each)!r} cannot be the name of a parameter in Python"
                return f"    # {name}: {what}\n"
        title = "".join(word.title() for word in name.split("_"))
        result = self._type(result_of(described), f"{title}Result")
        parameters = self._parameters(params, title)
        doc = _docstring(described.get("description"), "        ")
        if described.get("requires_encryption"):
            doc += "        # Encrypted: the service requires it.\n"
        line = f"    {self._def} {name}({', '.join(parameters)}) -> {result}:"
        if len(line) > _WIDTH:
            lines = "".join(f"        {parameter},\n" for parameter in parameters)
            line = f"    {self._def} {name}(\n{lines}    ) -> {result}:"
        return f"{line}\n{doc}        ...\n" if doc else f"{line} ...\n"

    def _parameters(self, params: Part, title: str) -> list[str]:
        needed, written = params.listed("required"), ["self"]
        left_out = by_name = False
        for name, part in params.fields().items():
            kind = self._type(part, f"{title}{name.title()}", sent=True)
            if name in needed:
                if left_out and not by_name:
                    written.append("*")
                    by_name = True
                written.append(f"{name}: {kind}")
            else:
                left_out = True
                written.append(f"{name}: {kind} = {_default(part, kind)}")
        if params.schema.get("additionalProperties"):
            name = "others"
            while name in params.fields():
                name += "_"
            written.append(f"**{name}: {self._any()}")
        return written

    # -- types ------------------------------------------------------------------------------

    def _type(  # noqa: PLR0911 - a table
        self, part: Part, title: str, *, sent: bool = False
    ) -> str:
        """Return the annotation for a part; `title` names an object without a name of its own."""
        values = part.values()
        if values:
            return self._literals(values)
        if part.schema.get("format") == "decimal":
            return self._named("decimal", "decimal.Decimal")
        choices = part.choices()
        if choices:
            return self._union(self._type(choice, title, sent=sent) for choice in choices)
        match part.schema.get("type"):
            case "string":
                return self._text(part)
            case "array":
                return self._array(part, title, sent=sent)
            case "object":
                return self._object(part, title, sent=sent)
            case str(kind) if kind in KINDS:
                return self._builtin(KINDS[kind])
        return self._any()

    def _text(self, part: Part) -> str:
        if part.schema.get("contentEncoding") == "base64":
            return self._builtin("bytes")
        known = part.schema.get("format")
        if isinstance(known, str) and known in _FORMATS:
            return self._named(*_FORMATS[known])
        return self._builtin("str")

    def _array(self, part: Part, title: str, *, sent: bool) -> str:
        members = part.parts("prefixItems")
        if members and part.schema.get("minItems") == len(members):
            kinds = [self._type(member, f"{title}Item", sent=sent) for member in members]
            return f"{self._builtin('tuple')}[{', '.join(kinds)}]"
        items = self._type(part.at("items"), f"{title}Item", sent=sent)
        return f"{self._builtin('list')}[{items}]"

    def _object(self, part: Part, title: str, *, sent: bool) -> str:
        if part.fields():
            return self._class(part, part.name or title, sent=sent)
        values = self._type(part.at("additionalProperties"), f"{title}Value", sent=sent)
        return f"{self._builtin('dict')}[{self._builtin('str')}, {values}]"

    def _class(self, part: Part, title: str, *, sent: bool) -> str:
        """Return the name of the TypedDict for an object; write it unless it is known."""
        content = json.dumps([title, part.schema, sorted(part.closure().items())])
        if content in self._known:
            return self._known[content]
        name = self._known[content] = self._free(title, sent=sent)
        self._classes[name] = ""
        self._typing.add("TypedDict")
        needed = part.listed("required")
        fields = {}
        for field, member in part.fields().items():
            fields[field] = self._type(member, f"{name}{field.title()}", sent=sent)
            if field not in needed:
                self._typing.add("NotRequired")
                fields[field] = f"NotRequired[{fields[field]}]"
        if all(map(is_name, fields)):
            lines = "\n".join(f"    {field}: {kind}" for field, kind in fields.items())
            self._classes[name] = f"class {name}(TypedDict):\n{lines}"
        else:
            lines = "".join(
                f"    {_literal(field)}: {_literal(kind)},\n" for field, kind in fields.items()
            )
            self._classes[name] = f"{name} = TypedDict({_literal(name)}, {{\n{lines}}})"
        return name

    def _free(self, title: str, *, sent: bool) -> str:
        """Return a name for a class that nothing in the module has."""
        plain = re.sub(r"\W", "_", title, flags=re.ASCII)
        plain = plain if is_name(plain) else f"Object_{plain}"
        taken = {*self._classes, *self._methods, *vars(builtins), "NotRequired", "TypedDict"}
        taken |= {"Any", "ClassVar", "Literal", "Protocol", "datetime", "decimal", "uuid"}
        if plain in taken and sent:
            plain += "Input"
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        return name

    def _union(self, members: Iterable[str]) -> str:
        kinds = list(dict.fromkeys(members))
        anything = self._unhidden("Any")  # imported by the member that is it
        return anything if anything in kinds else " | ".join(kinds)

    def _literals(self, values: list[Any]) -> str:
        if not all(isinstance(value, str | int | None) for value in values):
            return self._any()
        return f"{self._from_typing('Literal')}[{', '.join(map(_literal, values))}]"

    # -- names that a method of the Protocol may hide from the annotations behind it ----------

    def _any(self) -> str:
        return self._from_typing("Any")

    def _from_typing(self, name: str) -> str:
        known = self._unhidden(name)
        self._typing.add(name if known == name else f"{name} as {known}")
        return known

    def _unhidden(self, name: str) -> str:
        return f"{name}_" if name in self._methods else name

    def _builtin(self, name: str) -> str:
        if name not in self._methods:
            return name
        self._imports.add("builtins")
        return f"builtins.{name}"

    def _named(self, module: str, name: str) -> str:
        hidden = module in self._methods
        self._imports.add(f"{module} as {module}_" if hidden else module)
        return name.replace(f"{module}.", f"{module}_.", 1) if hidden else name


# -- parts ----------------------------------------------------------------------------------


def _default(part: Part, kind: str) -> str:
    """Return a default as source; `...`, which a Protocol allows, where only the service has it."""
    value = part.schema.get("default", ...)
    if not isinstance(value, str | int | float | bool | None):
        return "..."
    name = "None" if value is None else type(value).__name__
    return _literal(value) if value in part.values() or name in kind.split(" | ") else "..."


def is_name(name: str) -> bool:
    """Return whether Python allows this name."""
    is_free = not keyword.iskeyword(name) and name != "__debug__"
    return name.isascii() and name.isidentifier() and is_free


def _literal(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _safe(text: str) -> str:
    """Return a peer's text for a comment or docstring of one line."""
    return printable(text.replace("\\", "/").replace('"', "'"), 80)


def _docstring(text: object, indent: str) -> str:
    if not isinstance(text, str) or not text.strip():
        return ""
    lines = [line.rstrip().replace("\\", "\\\\").replace('"""', "'''") for line in text.split("\n")]
    safe = [printable(line) if line.strip() else "" for line in lines]
    body = "\n".join(f"{indent}{line}" if line else "" for line in safe).strip()
    if body.endswith('"'):
        body += " "
    end = f"\n{indent}" if "\n" in body else ""
    return f'{indent}"""{body}{end}"""\n'
