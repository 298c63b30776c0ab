"""Read the parameters of a method and their hints, in the same way on every version of Python.

Since Python 3.14 annotations are computed on access, and an unknown name raises then (PEP 649):
there they are read as forward references.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any


def signature_of(call: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a callable; names in annotations need not be resolvable.

    Raises ValueError when it has no signature (some callables written in C).
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format  # noqa: PLC0415 - new in 3.14

        return inspect.signature(call, annotation_format=Format.FORWARDREF)
    else:  # noqa: RET505 - mypy sees one branch of the two, by the version
        return inspect.signature(call)


def hints_of(call: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """Return the hints by parameter; those that cannot be resolved stay text or ForwardRef.

    Names are those of the function's module, then those of the class that it is bound to.
    """
    function = inspect.unwrap(getattr(call, "__func__", call))
    names = getattr(function, "__globals__", {})
    bound = getattr(call, "__self__", None)
    of_class = vars(bound if isinstance(bound, type) else type(bound))
    return {
        name: _resolved(parameter.annotation, names, of_class)
        for name, parameter in signature.parameters.items()
    }


def result_hint(call: Callable[..., Any], signature: inspect.Signature) -> Any:
    """Return the hint of a function's result, resolved as hints_of() does; empty without one."""
    result = inspect.Parameter(
        "result", inspect.Parameter.KEYWORD_ONLY, annotation=signature.return_annotation
    )
    return hints_of(call, signature.replace(parameters=[result]))["result"]


def _resolved(hint: Any, names: dict[str, Any], of_class: Mapping[str, Any]) -> Any:
    if hint is inspect.Parameter.empty:
        return hint
    holder = types.SimpleNamespace(__annotations__={"hint": hint})
    for local in ({}, of_class):
        with contextlib.suppress(Exception):  # annotations may be any code, and raise anything
            return typing.get_type_hints(holder, names, local, include_extras=True)["hint"]
    return hint
