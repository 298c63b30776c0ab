"""Compare an interface with the description of a service: calls that could never succeed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MethodType
from typing import Any, Final, Protocol

from ..exceptions import InterfaceMismatchError
from ..nearest import nearest
from ..printable import printable
from ..service.parameters import Parameters
from .client import Calls, service_of, stubs_of
from .described import KINDS, Part, Schema, methods_of, params_of, result_of


class Describes(Protocol):
    """The part of a Mesh that check() uses."""

    async def describe_service(
        self, service_name: str, *, refresh: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return the description of a service."""


_Known = dict[tuple[int, int], tuple[Schema, frozenset[str]]]
_DEEPEST: Final = 12
"""Levels of a schema that are compared: types may contain themselves."""
_LONGEST: Final = 40
_MOST: Final = 20
"""Names that are shown."""
_WORDS: Final[Mapping[str, str]] = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_ANY: Final = frozenset(_WORDS)
_KIND_OF: Final = {label: kind for kind, label in KINDS.items()}


async def check(
    mesh: Describes,
    interface: type,
    service: str | None,
    *,
    calls: Calls,
    timeout: float | None,
) -> None:
    """Compare an interface with a service; see Mesh.check. Raises its errors."""
    name, stubs = service_of(interface, service), stubs_of(interface, calls)
    methods = methods_of(await mesh.describe_service(name, refresh=True, timeout=timeout))
    problems: list[str] = []
    for stub in stubs.values():
        described = methods.get(stub.name)
        if described is None:
            problems.append(
                f"{stub.name}: the service has no such method{_meant(stub.name, methods)}"
            )
            continue
        bound = MethodType(stub.function, stub)  # any object: self is no parameter
        ours = Parameters(bound, without=stub.context_parameter, checks=False)
        schemas = ours.schemas(of_caller=True)
        problems += [
            f"{stub.name}: {problem}"
            for problem in (
                *_of_names(params_of(schemas), params_of(described)),
                *_of_types(schemas, described),
            )
        ]
    if problems:
        text = "".join(f"\n  {problem}" for problem in problems)
        error = InterfaceMismatchError(
            f"{interface.__name__} does not fit the service {name!r}:{text}"
        )
        error.problems = tuple(problems)
        raise error


_OF_TEXT: Final = {"type", "title", "description", "default"}
"""Names in the schema of a text that is nothing else: no date, no bytes, no member of an Enum."""


def misfit(params: Mapping[str, Any], method: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first parameter that is no text where a method's description wants text, and why.

    Other types are the service's to check: it may convert what its description does not tell. Only
    params_schema counts: nuropb's services take values of any type.
    """
    if not isinstance(method.get("params_schema"), dict):
        return None
    wanted = params_of(method).fields()
    found = (
        problem
        for name, value in params.items()
        if name in wanted and not isinstance(value, str)
        if wanted[name].schema.get("type") == "string" and wanted[name].schema.keys() <= _OF_TEXT
        for problem in _misfits(Part({"const": value}), wanted[name], name)
    )
    return next(found, None)


def _of_names(ours: Part, theirs: Part) -> Iterator[str]:
    """Yield why the service refuses a call, by the names of its parameters."""
    given, known = ours.fields(), theirs.fields()
    if theirs.schema.get("additionalProperties") is False:
        for name in given:
            if name not in known:
                yield f"the service has no parameter {name!r}{_meant(name, known)}"
    for name in map(str, theirs.listed("required")):
        if name not in given:
            yield f"the service needs {_shown(name)}, which the interface lacks"
        elif name not in ours.listed("required"):
            yield f"{name!r} has a default in the interface, and the service needs it"


def _of_types(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    wanted = params_of(theirs).fields()
    for name, given in params_of(ours).fields().items():
        if name in wanted:
            for path, text in _misfits(given, wanted[name], name):
                yield f"parameter {path}: the interface sends {text}"
    for path, text in _misfits(result_of(theirs), result_of(ours), "result"):
        yield f"{path}: the service sends {text}"


def _misfits(
    given: Part, wanted: Part, path: str, depth: int = _DEEPEST
) -> Iterator[tuple[str, str]]:
    """Yield path and text of each part of which no value that is sent would be taken."""
    sends, takes = _kinds(given), _kinds(wanted)
    if not _with_integers(sends) & _with_integers(takes):
        yield path, f"{_said(sends)}, and {_said(takes)} is expected"
        return
    if not depth:
        return
    sent, known = given.fields(), wanted.fields()
    if sent and known and not given.schema.get("additionalProperties"):
        for name in map(str, wanted.listed("required")):
            if name not in sent:
                yield path, f"an object without {_shown(name)}, which is expected"
        for name, part in sent.items():
            if name in known:
                at = f"{path}.{printable(name, _LONGEST)}"
                yield from _misfits(part, known[name], at, depth - 1)
            elif wanted.schema.get("additionalProperties") is False:
                yield path, f"an object with {_shown(name)}{_meant(name, known)}"
    items = given.at("items"), wanted.at("items")
    yield from _misfits(*items, f"{path}[]", depth - 1)


def _kinds(part: Part, depth: int = _DEEPEST, known: _Known | None = None) -> frozenset[str]:
    """Return the types of JSON that a part admits.

    known: of the schemas that were looked at, by identity and depth: references of a peer's
        description may lead to one in more ways than can be gone.
    """
    known = {} if known is None else known
    at = id(part.schema), depth
    if at not in known:
        # With the schema itself: else another one could get its identity.
        known[at] = part.schema, _kinds_of(part, depth, known)
    return known[at][1]


def _kinds_of(part: Part, depth: int, known: _Known) -> frozenset[str]:
    values = part.values()
    if values:
        return frozenset(
            _KIND_OF["None" if value is None else type(value).__name__] for value in values
        )
    choices = part.choices()
    if choices and depth:
        return frozenset[str]().union(*(_kinds(choice, depth - 1, known) for choice in choices))
    kind = part.schema.get("type")
    return frozenset((kind,)) if isinstance(kind, str) and kind in _ANY else _ANY


def _with_integers(kinds: frozenset[str]) -> frozenset[str]:
    """Return the types with `integer` where there is `number`: 3 is a number, too."""
    return kinds | {"integer"} if "number" in kinds else kinds


def _said(kinds: frozenset[str]) -> str:
    return " or ".join(text for kind, text in _WORDS.items() if kind in kinds)


def _meant(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f"; did you mean {_shown(near)}?"
    return f"; it has {', '.join(map(_shown, names[:_MOST])) or 'none'}"


def _shown(name: str) -> str:
    return printable(name, _LONGEST)
