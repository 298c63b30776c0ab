"""Type hints of parameters: how they are named in a description, and what they check.

Checked are the types of JSON (str, int, float, bool, None, list, dict), unions and containers of
them, and what holds pydantic models or msgspec structs, by those libraries. Any other hint lets
everything pass. Neither library is imported here: who has hints of theirs has imported them.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

__all__ = ["Check", "Mismatch", "check_of", "label"]

Check = Callable[[Any], Any]
"""Given a value, returns the value to use, or raises Mismatch."""

_NONE: Final = type(None)
_SCALARS: Final[Mapping[Any, tuple[type, ...]]] = {
    str: (str,),
    int: (int,),
    float: (float, int),
    bool: (bool,),
    _NONE: (_NONE,),
    None: (_NONE,),
}
_JSON_NAMES: Final[Mapping[type, str]] = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    _NONE: "null",
    list: "a list",
    dict: "an object",
}
_ERRORS_TOLD: Final = 3


class Mismatch(Exception):  # noqa: N818 - it does not leave the check of a call
    """A value is not what the hint wants: `problems` are pairs of a path and what is wrong there.

    Paths are made on the way out, so that a value that fits costs none.
    """

    def __init__(self, *problems: tuple[str, str], more: int = 0) -> None:
        super().__init__()
        self.problems = problems
        self.more = more

    def under(self, step: str) -> Mismatch:
        """The same, seen from the value around this one."""
        return Mismatch(*((step + path, what) for path, what in self.problems), more=self.more)

    def told(self, field: str) -> str:
        """For the caller."""
        told = "; ".join(f"{field}{path}: {what}" for path, what in self.problems)
        return f"{told}; and {self.more} more" if self.more else told


def label(hint: Any) -> str:
    """The hint as one would write it: `str`, `list[int]`, `str | None`, `Order`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return label(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(map(label, arguments))
    if isinstance(hint, list):  # the arguments of a Callable
        return f"[{', '.join(map(label, hint))}]"
    if origin is not None:
        return f"{_name(origin)}[{', '.join(map(label, arguments))}]"
    return _name(hint)


def _name(hint: Any) -> str:
    match hint:
        case str():  # it could not be resolved
            return hint
        case None | types.NoneType:
            return "None"
        case types.EllipsisType():
            return "..."
    name = getattr(hint, "__name__", None)
    return name if isinstance(name, str) else str(hint).removeprefix("typing.")


def check_of(hint: Any) -> Check | None:
    """What checks values for this hint; None when everything passes."""
    parts = list(_parts(hint))
    for name, by_library in (("pydantic", _by_pydantic), ("msgspec", _by_msgspec)):
        library = sys.modules.get(name)
        if library is not None and any(_belongs(part, library) for part in parts):
            return by_library(library, hint)
    return _plain(hint)


# -- the types of JSON ----------------------------------------------------------------------


def _plain(hint: Any) -> Check | None:
    if _hashable(hint) and hint in _SCALARS:
        return _scalar(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if hint is list or origin is list:
        return _list(*arguments[:1])
    if hint is dict or origin is dict:
        keys, values = arguments or (str, Any)
        # Keys are text in JSON: what makes them something else is the method's own doing.
        return _dict(_plain(values)) if keys in (str, Any) else None
    return None


def _scalar(hint: Any) -> Check:
    accepted = _SCALARS[hint]
    name = _JSON_NAMES[accepted[0]]

    def check(value: Any) -> Any:
        # What JSON decodes to has these very types; isinstance would take True for an int.
        if type(value) in accepted:
            return value
        raise _mismatch(value, name)

    return check


def _list(hint: Any = Any) -> Check:
    items = _plain(hint)
    accepted = frozenset(_SCALARS.get(hint, ()) if _hashable(hint) else ())

    def check(value: Any) -> Any:
        if type(value) is not list:
            raise _mismatch(value, "a list")
        if items is not None and not accepted.issuperset(map(type, value)):
            for index, item in enumerate(value):
                try:
                    items(item)
                except Mismatch as e:
                    raise e.under(f"[{index}]") from None
        return value

    return check


def _dict(values: Check | None) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise _mismatch(value, "an object")
        if values is not None:
            for key, item in value.items():
                try:
                    values(item)
                except Mismatch as e:
                    raise e.under(f"[{_short(key)!r}]") from None
        return value

    return check


def _union(members: tuple[Any, ...]) -> Check | None:
    checks = [_plain(member) for member in members]
    if None in checks:
        return None
    wanted = " or ".join(_wanted(member) for member in members)

    def check(value: Any) -> Any:
        nearest: Mismatch | None = None
        for each in checks:
            assert each is not None  # noqa: S101 - narrows for mypy
            try:
                return each(value)
            except Mismatch as e:
                if e.problems[0][0]:
                    nearest = e  # it is inside of this value, and so tells more
        raise nearest or _mismatch(value, wanted)

    return check


def _wanted(hint: Any) -> str:
    plain = get_origin(hint) or hint
    return _JSON_NAMES.get(_NONE if plain is None else plain, label(hint))


def _mismatch(value: Any, wanted: str) -> Mismatch:
    found = _JSON_NAMES.get(type(value), type(value).__name__)
    return Mismatch(("", f"{found}, {wanted} is needed"))


def _short(key: object) -> str:
    text = str(key)
    return text if len(text) <= 40 else text[:40] + "…"


def _hashable(hint: Any) -> bool:
    try:
        hash(hint)
    except TypeError:
        return False
    return True


# -- pydantic and msgspec -------------------------------------------------------------------


def _parts(hint: Any) -> Iterator[Any]:
    """The hint and all that it is made of."""
    yield hint
    for argument in get_args(hint):
        if isinstance(argument, list):
            for each in argument:
                yield from _parts(each)
        else:
            yield from _parts(argument)


def _belongs(part: Any, library: types.ModuleType) -> bool:
    """Whether it is a model or struct, or what the library itself has made for hints."""
    kind = part if isinstance(part, type) else type(part)
    name = library.__name__
    if kind.__module__.partition(".")[0] == name:
        return True
    if name == "msgspec":
        return issubclass(kind, library.Struct)
    if issubclass(kind, library.BaseModel):
        return True
    return isinstance(part, type) and library.dataclasses.is_pydantic_dataclass(part)


def _by_pydantic(pydantic: types.ModuleType, hint: Any) -> Check:
    validate = pydantic.TypeAdapter(hint).validate_python

    def check(value: Any) -> Any:
        try:
            return validate(value)
        except pydantic.ValidationError as e:
            # Without the values: they are the caller's, and this goes into logs.
            found = e.errors(include_url=False, include_context=False, include_input=False)
        told = [
            ("".join(f".{_short(step)}" for step in each["loc"]), each["msg"])
            for each in found[:_ERRORS_TOLD]
        ]
        raise Mismatch(*told, more=len(found) - len(told))

    return check


def _by_msgspec(msgspec: types.ModuleType, hint: Any) -> Check:
    convert = msgspec.convert

    def check(value: Any) -> Any:
        try:
            return convert(value, hint)
        except msgspec.ValidationError as e:
            problem, _, place = str(e).partition(" - at `$")
            raise Mismatch((place.rstrip("`"), problem)) from None

    return check
