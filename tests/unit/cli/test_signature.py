"""Signatures of methods, from their descriptions."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq.cli.signature import Signatures
from nuropb_rmq.mesh.described import Part

LINE = {
    "type": "object",
    "properties": {
        "item": {"type": "string"},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
    },
    "required": ["item"],
}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "any"),
        ({"type": "integer"}, "int"),
        ({"type": ["string", "null"]}, "str | None"),
        ({"type": "string", "format": "date-time"}, "date-time"),
        ({"type": ["string", "number"], "format": "decimal"}, "decimal"),
        ({"type": "string", "contentEncoding": "base64"}, "bytes"),
        ({"enum": ["a", 1, None]}, "'a' | 1 | None"),
        ({"const": "a"}, "'a'"),
        ({"anyOf": [{"type": "array"}, {"type": "object"}]}, "list | dict"),
        ({"type": "array", "items": {"type": "number"}}, "list[float]"),
        ({"type": "array", "prefixItems": [{"type": "null"}, {}]}, "tuple[None, any]"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "dict[str, bool]"),
        ({"type": "object", "properties": {"a": {}}}, "{a?: any}"),
        ({"type": "colour"}, "any"),
    ],
)
def test_types(schema: dict[str, Any], text: str) -> None:
    assert Signatures().type(Part(schema)) == text


def test_a_method_and_its_classes() -> None:
    params = {
        "type": "object",
        "properties": {"line": {"$ref": "#/$defs/Line"}, "days": {"type": "integer", "default": 3},
                       "rest": {}, "other": {"$ref": "#/$defs/Line", "default": None}},
        "required": ["line"],
        "additionalProperties": True,
        "$defs": {"Line": LINE},
    }  # fmt: skip
    signatures = Signatures()
    described = {"params_schema": params, "result_schema": {"type": "string"}}
    written = signatures.of("place", described)
    rest = "days: int = 3, rest: any = ..., other: Line = None, **others"
    assert written == f"place(line: Line, {rest}) -> str"
    assert list(signatures.classes()) == [("Line", "{item: str, parts?: list[Line]}")]


def test_what_nuropb_says() -> None:
    form = {"properties": [["order_id", {"type": "str"}], ["more", {"type": "Order"}]],
            "required": ["order_id"]}  # fmt: skip
    assert Signatures().of("get", {"parameters": form}) == "get(order_id: str, more: any = ...)"
    assert Signatures().of("get", {}) == "get()"


def test_an_endless_one() -> None:
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(50):
        deep = {"type": "array", "items": deep}
    assert "..." in Signatures().type(Part(deep))
