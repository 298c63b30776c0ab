"""Whatever a handler raises, its requester is told: something short, and soon."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from nuropb_rmq import Message, NuropbException, NuropbHandlingError, NuropbValidationError
from nuropb_rmq.protocol.message import MAX_DESCRIPTION
from nuropb_rmq.protocol.remote_errors import remote_error

from ..support import Transports, request


class NotInStockError(NuropbValidationError):
    """A service's own."""


class UnprintableError(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("hush-hush")


class OddError(NuropbException):
    def __init__(self, said: Any) -> None:
        super().__init__("odd")
        self.said = said

    def to_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = self.said
        return said


CIRCLE: dict[str, Any] = {"error": "Odd", "description": "round"}
CIRCLE["again"] = CIRCLE
UNTOLD = "no text: its str() or to_dict() failed"

RAISED: dict[str, tuple[BaseException, dict[str, Any]]] = {
    "an ordinary one": (LookupError("no"), {"error": "LookupError", "description": "no"}),
    "one without a text": (
        TimeoutError(),
        {"error": "TimeoutError", "description": "TimeoutError without a text"},
    ),
    "a key": (KeyError("id"), {"error": "KeyError", "description": "'id'"}),
    "a class of the service's own": (
        NotInStockError("two are left"),
        {
            "error": "NotInStockError",
            "description": "two are left",
            "base": "NuropbValidationError",
        },
    ),
    "another service's refusal of that class": (
        remote_error({"error": {"error": "Own", "base": "NuropbDeprecatedError"}}),
        {"error": "Own", "description": "", "base": "NuropbDeprecatedError"},
    ),
    "a group": (
        ExceptionGroup("two", [ExceptionGroup("inner", [LookupError("a")]), ValueError()]),
        {"error": "ExceptionGroup", "description": "two: LookupError: a; ValueError"},
    ),
    "a large group": (
        ExceptionGroup("many", [LookupError("a")] * 1000),
        {
            "error": "ExceptionGroup",
            "description": f"many: {'; '.join(['LookupError: a'] * 20)}; …",
        },
    ),
    "a group that cannot be printed": (
        ExceptionGroup("odd", [UnprintableError()]),
        {"error": "ExceptionGroup", "description": UNTOLD},
    ),
    "one that cannot be printed": (
        UnprintableError(),
        {"error": "UnprintableError", "description": UNTOLD},
    ),
    "one with a description that is no text": (
        NuropbHandlingError({"a": 1}),  # type: ignore[arg-type]
        {"error": "NuropbHandlingError", "description": "{'a': 1}"},
    ),
    "one that says more": (
        OddError({"error": "Odd", "description": "7", "code": 7}),
        {"error": "Odd", "description": "7", "code": 7},
    ),
    "one that says too much": (
        OddError({"error": "Odd", "description": "7", "more": "x" * 100_000}),
        {"error": "Odd", "description": "7"},
    ),
    "one that says nothing": (OddError(None), {"error": "OddError", "description": UNTOLD}),
    "one that JSON cannot carry": (OddError(CIRCLE), {"error": "OddError", "description": UNTOLD}),
}


@pytest.mark.parametrize("name", RAISED)
async def test_whatever_is_raised_is_told(mesh: Transports, name: str) -> None:
    raised, told = RAISED[name]

    async def fail(_: Message) -> NoReturn:
        raise raised

    await mesh.service(fail)
    client = await mesh.client()
    response = await client.request(request(), timeout=5)
    assert response["error"] == told


async def test_a_very_long_text_is_told_in_part(mesh: Transports) -> None:
    async def fail(_: Message) -> NoReturn:
        raise LookupError("x" * 50_000_000)

    await mesh.service(fail)
    client = await mesh.client()
    response = await client.request(request(), timeout=20)
    assert response["error"] is not None
    assert response["error"]["description"] == "x" * MAX_DESCRIPTION + "…"
