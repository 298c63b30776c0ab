"""The parameters of a method: checks of a call, and their description."""

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
from .schemas import Schema, Schemas
from .signatures import hints_of, result_hint, signature_of
from .type_hints import Converter, Uncheckable, label

_EMPTY: Final = inspect.Parameter.empty
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Unfit(Exception):  # noqa: N818 - it does not leave the making of a service
    """A method has a parameter that no caller could pass; the text names it."""


class Parameters:
    """The parameters that a caller passes by name, without the method's context.

    Made once for each method; `fields` checks a call.
    """

    def __init__(
        self, call: Callable[..., Any], *, without: str | None = None, checks: bool = True
    ) -> None:
        """Read the bound `call`; `without` is the parameter that callers may not pass.

        Raises ValueError when it has no signature (some callables written in C). Raises Unfit for a
        parameter that cannot be passed by name and, if `checks`, for a hint that cannot be checked.
        """
        signature = signature_of(call)
        self._hints = hints_of(call, signature)
        self._result = result_hint(call, signature)
        parameters = [item for item in signature.parameters.values() if item.name != without]
        self._named = [parameter for parameter in parameters if parameter.kind in _BY_NAME]
        self._checks = checks
        self._make = Converters().of if checks else _unchecked
        any_name, convert_any = False, None
        for item in parameters:
            if item.kind is inspect.Parameter.VAR_KEYWORD:
                any_name, convert_any = True, self._converter(item)
            elif item.kind is inspect.Parameter.POSITIONAL_ONLY and item.default is _EMPTY:
                raise Unfit(
                    f"parameter {item.name!r} is positional-only, and callers pass names; remove "
                    "the '/', or hide the method"
                )
        self.fields = Fields(
            {item.name: self._converter(item) for item in self._named},
            [item.name for item in self._named if item.default is _EMPTY],
            what="parameter",
            any_name=any_name,
            convert_any=convert_any,
            reserved=without,
        )

    def _converter(self, parameter: inspect.Parameter) -> Converter | None:
        try:
            return self._make(self._hint(parameter))
        except Uncheckable as e:
            shown = self._label(parameter.name)
            why = f"{e}" if f"{e}".startswith(shown) else f"{shown}: {e}"
            raise Unfit(
                f"parameter {parameter.name!r}: {why}; use a type that can be made from JSON "
                "(docs/reference/values.md), or Any"
            ) from e

    def _hint(self, parameter: inspect.Parameter) -> Any:
        """Return the hint of a parameter, which may be None when that is its default."""
        hint = self._hints[parameter.name]
        if hint is _EMPTY:
            return Any
        if parameter.default is None:
            with contextlib.suppress(TypeError):  # a hint may be any object, not only a type
                return typing.Optional[hint]  # noqa: UP045 - `hint | None` fails for some types
        return hint

    def schemas(self, *, of_caller: bool = False) -> dict[str, Schema]:
        """Return the JSON Schemas of the parameters and of the result.

        A service reads parameters and writes results, and a caller the other way round.
        """
        params_schemas = Schemas(written=of_caller)
        result_schemas = Schemas(written=not of_caller, drops_unknown=of_caller)
        properties = {item.name: params_schemas.of(self._hint(item)) for item in self._named}
        for item in self._named:
            if item.default is _EMPTY:
                continue
            with contextlib.suppress(NuropbSerializationError):
                properties[item.name].update(self._encoded(item.default))
        params = {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in self.fields.required],
            "additionalProperties": self.fields.any_name,
        }
        result = {} if self._result is _EMPTY else result_schemas.of(self._result)
        return {
            "params_schema": params_schemas.whole(params),
            "result_schema": result_schemas.whole(result),
        }

    def describe(self) -> dict[str, Any]:
        """Return the answer to nuropb_describe; properties are pairs, in the signature's order."""
        described: dict[str, Any] = {
            "type": "object",
            "properties": [
                [
                    item.name,
                    {
                        "type": self._label(item.name),
                        "description": "",
                        "default": "" if item.default is _EMPTY else self._default(item.default),
                    },
                ]
                for item in self._named
            ],
            "required": [item.name for item in self._named if item.name in self.fields.required],
        }
        if self.fields.any_name:
            described["additionalProperties"] = True
        return described

    def _label(self, name: str) -> str:
        hint = self._hints[name]
        return "" if hint is _EMPTY else label(hint)

    def _default(self, value: Any) -> Any:
        """Return a default in its JSON form; without one, the name of its type."""
        try:
            return self._encoded(value)["default"]
        except NuropbSerializationError:
            return f"<{type(value).__name__}>"

    def _encoded(self, value: Any) -> dict[str, Any]:
        encode = serialization.encode_strictly if self._checks else serialization.encode
        encoded: dict[str, Any] = json.loads(encode({"default": value}))
        return encoded


def _unchecked(_: Any) -> Converter | None:
    return None
