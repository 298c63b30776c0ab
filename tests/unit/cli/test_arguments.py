"""Values of arguments."""

from __future__ import annotations

import pytest
import typer

from nuropb_rmq.cli.arguments import age, duration, mapping, value


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5d", 129_600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-1s", "0m", "1w", "1e3s", "nans", "1.s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_long_ones() -> None:
    assert age("60d") == 60 * 86_400
    for call, text, most in ((duration, "60d", "49d"), (age, "36501d", "36500d")):
        with pytest.raises(typer.BadParameter, match=f"at most {most}, got '{text}'"):
            call(text)


def test_values() -> None:
    assert value("VALUE", "1.5") == 1.5
    assert value("VALUE", "null") is None
    assert value("VALUE", "A-1") == "A-1"
    assert value("VALUE", "[1]") == [1]
    assert mapping("-p", ["a=1", "b=x=y", "c=", "a=2"]) == {"a": 2, "b": "x=y", "c": ""}
    assert mapping("-p", None) == {}
