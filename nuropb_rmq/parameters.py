"""The parameters of a method: what is checked of a call, and how they are described."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from . import serialization
from .exceptions import NuropbSerializationError, NuropbValidationError
from .hints import Check, Mismatch, check_of, label

__all__ = ["Parameters"]

_EMPTY: Final = inspect.Parameter.empty
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameters:
    """The parameters that a caller gives by name, without the method's context.

    Made once for each method; checking a call costs a dict look-up for each of its parameters.
    """

    def __init__(self, call: Callable[..., Any], *, without: str | None = None) -> None:
        """`call` is bound; `without` is the parameter that is not the caller's to give.

        Raises ValueError when it has no signature (some callables written in C).
        """
        signature = inspect.signature(call)
        hints = _hints(call, signature)
        parameters = [each for each in signature.parameters.values() if each.name != without]
        self._named = [each for each in parameters if each.kind in _BY_NAME]
        self._hints = hints
        self._required = frozenset(each.name for each in self._named if each.default is _EMPTY)
        self._checks: dict[str, Check | None] = {
            each.name: _check(each, hints) for each in self._named
        }
        self._any_name = False
        self._any_check: Check | None = None
        self.uncallable: str | None = None
        """A parameter without default that cannot be given by name."""
        for each in parameters:
            if each.kind is inspect.Parameter.VAR_KEYWORD:
                self._any_name = True
                self._any_check = _check(each, hints)
            elif each.kind is inspect.Parameter.POSITIONAL_ONLY and each.default is _EMPTY:
                self.uncallable = each.name
        self._reserved = without

    @property
    def names(self) -> frozenset[str]:
        """The names that a caller may give; more, when `takes_any_name`."""
        return frozenset(self._checks)

    @property
    def required(self) -> frozenset[str]:
        """Those of them that have no default."""
        return self._required

    @property
    def takes_any_name(self) -> bool:
        """Whether it takes names that it does not list (`**kwargs`)."""
        return self._any_name

    def checked(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters as the method takes them: `params` itself when nothing was converted.

        Raises NuropbValidationError naming the field.
        """
        checks = self._checks
        changed: dict[str, Any] | None = None
        for name, value in params.items():
            if name in checks:
                check = checks[name]
            elif self._any_name and name != self._reserved:
                check = self._any_check
            else:
                raise self._unknown(name)
            if check is None:
                continue
            try:
                taken = check(value)
            except Mismatch as e:
                raise NuropbValidationError(e.told(name)) from None
            if taken is not value:
                if changed is None:
                    changed = dict(params)
                changed[name] = taken
        if not self._required <= params.keys():
            missing = [each.name for each in self._named if each.name in self._required]
            absent = ", ".join(name for name in missing if name not in params)
            raise NuropbValidationError(f"{absent}: missing")
        return params if changed is None else changed

    def _unknown(self, name: str) -> NuropbValidationError:
        shown = name if len(name) <= 40 else name[:40] + "…"
        near = difflib.get_close_matches(name[:100], self._checks, n=1)
        if near:
            return NuropbValidationError(f"{shown}: no such parameter; did you mean {near[0]}?")
        known = ", ".join(self._checks) or "none"
        return NuropbValidationError(f"{shown}: no such parameter; known are: {known}")

    def describe(self) -> dict[str, Any]:
        """As nuropb_describe shows them; properties are pairs, in the order of the signature."""
        described: dict[str, Any] = {
            "type": "object",
            "properties": [
                [
                    each.name,
                    {
                        "type": self._label(each.name),
                        "description": "",
                        "default": "" if each.default is _EMPTY else _default(each.default),
                    },
                ]
                for each in self._named
            ],
            "required": [each.name for each in self._named if each.name in self._required],
        }
        if self._any_name:
            described["additionalProperties"] = True
        return described

    def _label(self, name: str) -> str:
        hint = self._hints.get(name, _EMPTY)
        return "" if hint is _EMPTY else label(hint)


def _check(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Check | None:
    hint = hints.get(parameter.name, _EMPTY)
    if hint is _EMPTY or isinstance(hint, str):
        return None
    if parameter.default is None:
        with contextlib.suppress(TypeError):  # a hint may be anything, and this one is no type
            hint = typing.Optional[hint]  # noqa: UP045 - `hint | None` fails for some types
    return check_of(hint)


def _hints(call: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """The hints by parameter; those that cannot be resolved stay the text that they are."""
    function = inspect.unwrap(getattr(call, "__func__", call))
    namespace = getattr(function, "__globals__", {})
    hints = {}
    for name, parameter in signature.parameters.items():
        hint = parameter.annotation
        if isinstance(hint, str):
            holder = types.SimpleNamespace(__annotations__={name: hint})
            with contextlib.suppress(Exception):  # any code may stand there, and fail as it likes
                hint = typing.get_type_hints(holder, namespace, include_extras=True)[name]
        hints[name] = hint
    return hints


def _default(value: Any) -> Any:
    """A default as JSON shows it; one that JSON cannot carry by the name of its type."""
    try:
        serialization.encode({"default": value})
    except NuropbSerializationError:
        return f"<{type(value).__name__}>"
    return value
