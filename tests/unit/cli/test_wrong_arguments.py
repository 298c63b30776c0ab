"""Wrong arguments: one readable line on standard error, and status 2. Nothing is connected."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from nuropb_rmq.cli import main

SERVE = ["serve", "shop:Orders", "--url", "memory://shop", "--log-config"]
REQUEST = ("request", "orders", "x", "-p")
NEEDS = ["--url", "memory://nobody"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*REQUEST, "order_id"], "--param: expected NAME=VALUE or @FILE.json, got 'order_id'"),
        ([*REQUEST, "=1"], "expected NAME=VALUE"),
        ([*REQUEST, "@/no/such/file"], "--param: @/no/such/file: [Errno 2] No such file"),
        ([*REQUEST, "@list.json"], "--param: @list.json: expected a JSON object"),
        ([*REQUEST, "@half.json"], "--param: @half.json is no JSON: Unterminated string"),
        ([*REQUEST, "@empty.json"], "--param: @empty.json is empty: expected JSON"),
        ([*REQUEST, "@bytes.json"], "--param: @bytes.json: 'utf-8' codec can't decode"),
        ([*REQUEST, 'rows=["a"'], "--param: rows: is no JSON"),
        (["request", "orders", "x", "--context", "{}"], "--context: expected NAME=VALUE"),
        (["request", "orders", "x", "--timeout", "0"], "--timeout"),
        (["request", "orders", "x", "--log-level", "all"], "one of debug, info, warning, error"),
        (["request", "orders"], "Missing argument 'METHOD'"),
        (["reqest", "orders", "x"], "Did you mean 'request'?"),
        (["reqest\x1b[2J\n"], "No such command"),
        (["command", "orders", "ship", "--ttl", "soon"], "expected a time like 90s, 10m, 2h or 3d"),
        (["publish", "orders.new", "@half.json"], "VALUE: @half.json is no JSON"),
        (["publish", "orders.new", "{"], "VALUE: is no JSON"),
        (["publish", "orders.new", "-"], "VALUE: standard input is empty: expected JSON"),
        (["listen", "--count", "0"], "--count"),
        (["listen", "a" * 300], "topics: must be a topic, a string of 1 to 255 bytes"),
        (["dlq", "list", "orders", "--older-than", "10x"], "expected a time like 90s, 10m, 2h"),
        (["dlq", "list", "orders", "--newer-than", "0s"], "expected a time like 90s, 10m, 2h"),
        (["dlq", "list", "orders", "--type", "letter"], "type: must be one of request, command"),
        (["dlq", "lst", "orders"], "No such command 'lst'. Did you mean 'list'?"),
        (["dlq", "orders", "--limit", "0"], "--limit"),
        (["dlq", "orders", "more"], "(more). See nuropb-rmq dlq groups --help"),
        (["dlq", "replay", "orders", "--expiration", "1e9d"], "expected a time like"),
        (["dlq", "replay", "orders", "--yes", "--url", "http://x"], "amqp_url: http:// is not"),
        ([*SERVE, "none.json"], "--log-config: none.json: [Errno 2] No such file"),
        ([*SERVE, "half.json"], "--log-config: half.json: Unterminated string"),
        ([*SERVE, "list.json"], "--log-config: list.json: "),
        ([*SERVE, "empty.json"], "--log-config: empty.json: Expecting value"),
        (["dlq", "replay", ""], "service_name: must be 1 to 255 bytes"),
    ],
)
def test_one_readable_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "half.json").write_text('{"order_id": "A-', encoding="utf-8")
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "empty.json").write_text(" \n", encoding="utf-8")
    (tmp_path / "bytes.json").write_bytes(b"\xff{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.delenv("NUROPB_RMQ_URL", raising=False)
    url = [] if "--url" in arguments else NEEDS
    assert main([*arguments, *(url if arguments[0] in ("request", "dlq", "listen") else [])]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("nuropb-rmq: ")
    assert says in line
    assert line.isprintable()


def test_the_address_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NUROPB_RMQ_URL", raising=False)
    assert main(["listen"]) == 2
    assert capsys.readouterr().err.startswith("nuropb-rmq: --url is missing: give it, or set NURO")


@pytest.mark.parametrize("verb", [[], ["dlq"]])
def test_no_verb(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(verb) == 2
    assert "Usage: nuropb-rmq" in "".join(capsys.readouterr())
