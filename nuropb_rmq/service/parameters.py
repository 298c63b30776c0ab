"""The parameters of a method: what is checked of a call, and how they are described."""

from __future__ import annotations

import contextlib
import inspect
import json
import typing
from collections.abc import Callable
from typing import Any, Final

from ..exceptions import NuropbSerializationError
from ..protocol import serialization
from .checks import Fields
from .converters import Converters
from .signatures import hints_of, signature_of
from .type_hints import Converter, Uncheckable, label

__all__ = ["Parameters", "Unfit"]

_EMPTY: Final = inspect.Parameter.empty
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Unfit(Exception):  # noqa: N818 - it does not leave the making of a service
    """A method has a parameter that no caller could give; the text names it."""


class Parameters:
    """The parameters that a caller gives by name, without the method's context.

    Made once for each method; `fields` check a call.
    """

    def __init__(
        self, call: Callable[..., Any], *, without: str | None = None, checks: bool = True
    ) -> None:
        """`call` is bound; `without` is the parameter that is not the caller's to give.

        Raises ValueError when it has no signature (some callables written in C), and Unfit for a
        parameter that cannot be given by name or, when it `checks`, for a hint that nothing can be
        checked against.
        """
        signature = signature_of(call)
        self._hints = hints_of(call, signature)
        parameters = [each for each in signature.parameters.values() if each.name != without]
        self._named = [each for each in parameters if each.kind in _BY_NAME]
        self._checks = checks
        self._make = Converters().of if checks else _unchecked
        any_name, convert_any = False, None
        for each in parameters:
            if each.kind is inspect.Parameter.VAR_KEYWORD:
                any_name, convert_any = True, self._converter(each)
            elif each.kind is inspect.Parameter.POSITIONAL_ONLY and each.default is _EMPTY:
                raise Unfit(
                    f"parameter {each.name!r} is positional-only, and callers give names; remove "
                    "the '/', or hide the method"
                )
        self.fields = Fields(
            {each.name: self._converter(each) for each in self._named},
            [each.name for each in self._named if each.default is _EMPTY],
            what="parameter",
            any_name=any_name,
            convert_any=convert_any,
            reserved=without,
        )

    def _converter(self, parameter: inspect.Parameter) -> Converter | None:
        hint = self._hints[parameter.name]
        if hint is _EMPTY:
            return None
        if parameter.default is None:
            with contextlib.suppress(TypeError):  # a hint may be anything, and this one is no type
                hint = typing.Optional[hint]  # noqa: UP045 - `hint | None` fails for some types
        try:
            return self._make(hint)
        except Uncheckable as e:
            shown = self._label(parameter.name)
            why = f"{e}" if f"{e}".startswith(shown) else f"{shown}: {e}"
            raise Unfit(
                f"parameter {parameter.name!r}: {why}; use a type that JSON can be converted to "
                "(README, Parameters and results), or Any"
            ) from e

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
                        "default": "" if each.default is _EMPTY else self._default(each.default),
                    },
                ]
                for each in self._named
            ],
            "required": [each.name for each in self._named if each.name in self.fields.required],
        }
        if self.fields.any_name:
            described["additionalProperties"] = True
        return described

    def _label(self, name: str) -> str:
        hint = self._hints[name]
        return "" if hint is _EMPTY else label(hint)

    def _default(self, value: Any) -> Any:
        """A default as JSON shows it; one that JSON cannot carry by the name of its type."""
        encode = serialization.encode_strictly if self._checks else serialization.encode
        try:
            return json.loads(encode({"default": value}))["default"]
        except NuropbSerializationError:
            return f"<{type(value).__name__}>"


def _unchecked(_: Any) -> Converter | None:
    return None
