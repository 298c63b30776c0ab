"""Texts of peers cannot control a terminal, and JSON stays JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest

from nuropb_rmq.cli.conventions import CommandError
from nuropb_rmq.cli.output import Output, json_text
from nuropb_rmq.cli.verbs import ended

HOSTILE = "\x1b[2J\x07\x7f\x9b1m\u202eč\ud800\U000e0001[red]\n"


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, kept in (("utf-8", True), ("latin-1", False)):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        text = json_text({"a": HOSTILE})
        assert text.isprintable()
        assert ("č" in text) is kept
        assert json.loads(text) == {"a": HOSTILE}
        text.encode(encoding)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=False)
    out.line(HOSTILE)
    out.table(["a"], [[HOSTILE]])
    out.pairs([("a", HOSTILE)])
    out.flat(HOSTILE, HOSTILE)
    out.value(HOSTILE)
    out.note(HOSTILE)
    shown = "".join(capsys.readouterr())
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count("[red]") == 7


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The names of methods come from a service, for example."""

    def fail() -> int:
        raise CommandError(f"it has {HOSTILE}", 7)

    assert ended(fail) == 7
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    assert line.startswith("nuropb-rmq: it has \\x1b[2J")
    assert line.isprintable()
