"""Write down the public surface of the package, as tests/data/public-api.txt has it.

`python -m tests.tools.public_api` writes that file anew; tests/unit/test_public_api.py compares.
Annotations and type aliases appear as the source has them, so all versions of Python agree, and
moving a class from one private module to another changes nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

PACKAGE: Final = "nuropb_rmq"
ROOT: Final = Path(__file__).parents[2]
SNAPSHOT: Final = ROOT / "tests" / "data" / "public-api.txt"
COMMAND: Final = "python -m tests.tools.public_api"

# In this order: a name of several modules is described in the first, and named in the others.
MODULES: Final = (
    PACKAGE,
    f"{PACKAGE}.asgi",
    f"{PACKAGE}.blocking",
    f"{PACKAGE}.testing",
    f"{PACKAGE}.testing.pytest_plugin",
    f"{PACKAGE}.config",
    f"{PACKAGE}.exceptions",
    f"{PACKAGE}.mesh",
    f"{PACKAGE}.protocol",
    f"{PACKAGE}.telemetry.prometheus",
    f"{PACKAGE}.transport",
)
HEADING: Final = f"""\
# The public names and signatures of {PACKAGE}, and its loggers. Written by `{COMMAND}`.
# A change here is a change for users: it belongs in CHANGELOG.md.
"""
WIDTH: Final = 100
# Methods that users call without naming them.
SPECIAL: Final = frozenset({"__call__", "__enter__", "__exit__", "__aenter__", "__aexit__"})


def snapshot() -> str:
    """Return the whole text."""
    lines = [HEADING]
    seen: dict[int, str] = {}
    for name in MODULES:
        module = import_module(name)
        entries = ["\n".join(_entry(module, each, seen)) for each in public_names(module)]
        lines += [f"== {name}", "", *_spaced(entries), ""]
    lines += ["== loggers", "", *sorted({name for _, name in loggers()})]
    return "\n".join(lines) + "\n"


def _spaced(entries: list[str]) -> Iterator[str]:
    """The entries, with an empty line before and after each of several lines."""
    for before, entry in zip(["", *entries], entries, strict=False):
        if "\n" in before or (before and "\n" in entry):
            yield ""
        yield entry


def public_names(module: ModuleType) -> list[str]:
    """Return the names in `__all__`, else those that the module imports or defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = (
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and not isinstance(value, ModuleType)
        )
    return sorted(names)


def loggers() -> Iterator[tuple[str, str]]:
    """Module (without the package's name) and logger of each logger that the package makes."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
                (argument,) = node.args
                if isinstance(argument, ast.Constant):
                    yield module, str(argument.value)
                elif ast.unparse(argument) == "__name__":
                    yield module, f"{PACKAGE}.{module}"


def _entry(module: ModuleType, name: str, seen: dict[int, str]) -> list[str]:
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        if (home := seen.setdefault(id(value), module.__name__)) != module.__name__:
            return [f"{name}: the same as in {home}"]
        return _class(value) if inspect.isclass(value) else _function(name, value)
    alias = _alias(module, name, value)
    return [f"{name} = {alias}" if alias else f"{name}: {type(value).__name__}"]


# -- classes --------------------------------------------------------------------------------


def _class(cls: type) -> list[str]:
    """The head of a class and its members, those of its private bases included."""
    if typing.is_typeddict(cls):
        bases = ["TypedDict"]
    else:
        bases = [base.__name__ for base in cls.__bases__ if not _is_hidden(base)]
    head = f"class {cls.__name__}({', '.join(bases)})" if bases else f"class {cls.__name__}"
    if dataclasses.is_dataclass(cls):
        frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        head = f"@dataclass(frozen={frozen})\n{head}"
    members: dict[str, list[str]] = {}
    for each in (cls, *filter(_is_hidden, cls.__mro__[1:-1])):
        for name, lines in _members(each):
            members.setdefault(name, lines)
    body = [line for name in sorted(members, key=_constructor_first) for line in members[name]]
    return [*head.splitlines(), *(f"    {line}" for line in body)]


def _constructor_first(name: str) -> tuple[bool, str]:
    return name != "__init__", name


def _is_hidden(base: type) -> bool:
    """Return whether it is `object`, or a class of this package that users have no name for."""
    if not base.__module__.startswith(PACKAGE):
        return base is object
    modules = map(import_module, MODULES)
    return not any(base.__name__ in public_names(module) for module in modules)


def _members(cls: type) -> Iterator[tuple[str, list[str]]]:
    """The members that a class itself defines."""
    if issubclass(cls, enum.Enum):
        for member in cls:
            yield member.name, [f"{member.name} = {member.value!r}"]
    elif typing.is_typeddict(cls):  # inherited keys as well
        for name, annotation in cls.__annotations__.items():
            yield name, [f"{name}: {annotation.__forward_arg__}"]
    elif not dataclasses.is_dataclass(cls):  # those have their fields in the constructor
        for name, annotation in _attributes(cls):
            yield name, [f"{name}: {annotation}" if annotation else name]
    for name, value in vars(cls).items():
        if _is_shown(name, cls):
            lines = _member(name, value)
            if lines:
                yield name, lines


def _is_shown(name: str, cls: type) -> bool:
    if name == "__init__":
        return not typing.is_typeddict(cls) and not issubclass(cls, enum.Enum)
    return not name.startswith("_") or name in SPECIAL


def _member(name: str, value: object) -> list[str]:
    if isinstance(value, property):
        assert value.fget is not None
        annotation = inspect.signature(value.fget).return_annotation
        return [f"{name}: {annotation}  # {'read and write' if value.fset else 'read only'}"]
    if isinstance(value, classmethod | staticmethod):
        return [f"@{type(value).__name__}", *_function(name, value.__func__)]
    return _function(name, value) if inspect.isfunction(value) else []


def _attributes(cls: type) -> Iterator[tuple[str, str]]:
    """Public attributes that the body or the constructor of a class sets, with annotations."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if not node.target.id.startswith("_"):
                yield node.target.id, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if not node.targets[0].id.startswith("_"):
                yield node.targets[0].id, ""
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            yield from _set_by(node)


def _set_by(constructor: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    arguments = constructor.args
    hints = {
        each.arg: ast.unparse(each.annotation)
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if each.annotation is not None
    }
    for node in ast.walk(constructor):
        if isinstance(node, ast.AnnAssign):
            name, hint = ast.unparse(node.target), ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):  # of a parameter, mostly
            name, hint = ast.unparse(node.targets[0]), hints.get(ast.unparse(node.value), "")
        else:
            continue
        if name.startswith("self.") and not name.startswith("self._"):
            yield name.removeprefix("self."), hint


# -- functions ------------------------------------------------------------------------------


class _Text:
    """Stands for an annotation or a default; its repr is the text as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _function(name: str, function: Callable[..., Any]) -> list[str]:
    overloads = typing.get_overloads(function)
    if overloads:
        return [line for each in overloads for line in ("@overload", *_one_function(name, each))]
    return _one_function(name, function)


def _one_function(name: str, function: Callable[..., Any]) -> list[str]:
    signature = inspect.signature(function)
    parameters = [
        each.replace(
            annotation=_plain(each.annotation, inspect.Parameter.empty),
            default=_plain(each.default, inspect.Parameter.empty, _default),
        )
        for each in signature.parameters.values()
        if each.name not in {"self", "cls"}
    ]
    result = _plain(signature.return_annotation, inspect.Signature.empty)
    plain = inspect.Signature(parameters, return_annotation=result)
    word = "async def" if inspect.iscoroutinefunction(function) else "def"
    return _broken(f"{word} {name}{plain}")


def _plain(value: object, empty: object, text: Callable[[Any], str] = str) -> Any:
    return value if value is empty else _Text(text(value))


def _default(value: object) -> str:
    """A default, without what differs between runs and versions: addresses, an enum's repr."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    if isinstance(value, frozenset):
        return f"frozenset({{{', '.join(sorted(map(_default, value)))}}})"
    text = repr(value)
    return f"<{type(value).__name__}>" if " at 0x" in text else text


# -- text -----------------------------------------------------------------------------------


def _alias(module: ModuleType, name: str, value: object) -> str | None:
    """The source of a type alias, from wherever it is defined; None for any other value."""
    if typing.get_origin(value) is None:
        return None
    homes = (each for home, each in sorted(sys.modules.items()) if home.startswith(f"{PACKAGE}."))
    for home in (module, *homes):
        if vars(home).get(name) is not value:
            continue
        for node in ast.parse(inspect.getsource(home)).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                return ast.unparse(node.value)
    raise LookupError(f"{module.__name__}.{name}: no module of {PACKAGE} assigns it")


def _broken(line: str) -> list[str]:
    """The line of a function, or a line for each of its parameters where that is long."""
    if len(line) <= WIDTH:
        return [line]
    head, _, rest = line.partition("(")
    inside, result = _split_at_the_end(rest)
    return [f"{head}(", *(f"    {each}," for each in _arguments(inside)), f"){result}"]


def _split_at_the_end(rest: str) -> tuple[str, str]:
    """Return the text before the closing parenthesis, and that after it."""
    depth = 0
    for at, character in enumerate(rest):
        if character == ")" and depth == 0:
            return rest[:at], rest[at + 1 :]
        depth += {"(": 1, ")": -1}.get(character, 0)
    return rest, ""


def _arguments(text: str) -> Iterator[str]:
    depth, begin = 0, 0
    for at, character in enumerate(text):
        if character == "," and depth == 0:
            yield text[begin:at].strip()
            begin = at + 1
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
    yield text[begin:].strip()


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
