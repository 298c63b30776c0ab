"""Texts of peers: one line of bounded length, wherever one is written."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from nuropb_rmq import Encryptor, NuropbHandlingError, NuropbValidationError
from nuropb_rmq.mesh.discovery import Discovery
from nuropb_rmq.printable import printable
from nuropb_rmq.protocol.message import describe
from nuropb_rmq.protocol.remote_errors import remote_error

FORGED = "no\n2026-01-01 ERROR root: you are\r\x1b[31mhacked\u2028\x85\x00\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two words, é ☃", "two words, é ☃"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x00\x7f\x85", r"\x00\x7f\x85"),
        ("\u2028\u202e\ud800", r"\u2028\u202e\ud800"),
        ("x" * 1000, "x" * 1000),
        ("x" * 1001, "x" * 1000 + "…"),
        ("", ""),
    ],
)
def test_one_line_of_bounded_length(text: str, shown: str) -> None:
    assert printable(text) == shown


def assert_one_line(text: str) -> None:
    assert text.isprintable(), text
    assert len(text) < 2000


def test_a_remote_error_is_one_line_and_tells_all() -> None:
    error = remote_error({"error": {"error": "E" * 1_000_000, "description": FORGED * 1000}})
    assert_one_line(str(error))
    assert error.description == FORGED * 1000
    assert error.error == "E" * 256
    assert len(describe(error)["error"]) == 256
    known = remote_error({"error": {"error": "NuropbValidationError", "description": FORGED}})
    assert isinstance(known, NuropbValidationError)
    assert str(known).startswith("NuropbValidationError: no\\n2026")


def test_the_class_name_of_an_error_is_cut_in_an_answer() -> None:
    long: Any = type("E" * 1_000_000, (Exception,), {})
    also: Any = type("E" * 1_000_000, (NuropbHandlingError,), {})
    told = {"error": "E" * 256, "description": "why"}
    assert describe(long("why")) == told
    assert describe(also("why")) == {**told, "base": "NuropbHandlingError"}


async def test_what_a_service_answers_with_is_logged_on_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask(_: str) -> dict[str, Any]:
        return {"result": None, "error": {"error": FORGED, "description": FORGED}}

    with caplog.at_level(logging.DEBUG, "nuropb_rmq"):
        await Discovery(ask, Encryptor()).find("orders", 1)
    (record,) = caplog.records
    assert_one_line(record.getMessage())
