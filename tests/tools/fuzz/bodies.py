"""Bodies that are wrong somewhere, or only odd."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import strategies as st

from ...unit.amqp.strategies import damaged
from .tables import Strategy

MAX_BODY = 150_000
"""max_body_bytes of the service and the client."""

PAYLOADS: dict[str, dict[str, Any]] = {
    "request": {"service": "orders", "method": "m", "params": {"n": "@@"}},
    "event": {"topic": "orders.t", "event": {"n": "@@"}, "target": None},
    "response": {"result": {"n": "@@"}, "error": None, "warning": None, "reply_to": ""},
}
PAYLOADS["command"] = PAYLOADS["request"]

JSON: Strategy = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.text(st.characters(codec=None), max_size=8),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
AROUND = [(b" ", b"\n"), (b"", b","), (b"", b"\x00"), (b"\x00", b""), (b"", b"{}")]
"""Put before and behind a payload."""
SPECIAL = (
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"NaN",
    b"{",
    b'{"tag": "request",',
    b"\x00",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b"[" * 20_000 + b"]" * 20_000,
    b'{"a":' * 6000 + b"1" + b"}" * 6000,
    b"{}" * 2,
    b"x" * (MAX_BODY + 1),
    b"9" * 5000,
    b"1e999999",
    b"-" * 1000,
    b'"' + b"\\" * 9999,
    b"\xff" * 50,
)
"""Whole bodies, none of which is a payload."""


def _nested(depth: int, closing: bool) -> str:
    left, right = ("[", "]") if closing else ('{"a":', "}")
    return left * depth + "1" + right * depth


RAW = (
    "NaN", "-Infinity", "1e999", "-0", "1E400", "0x10", "01", "1.", "'a'", "undefined", "",
    "9" * 4300, "9" * 4301, "9" * 10_000, "1." + "0" * 9000, '"\\ud800"', '"\\udc00\\ud800"',
    '"\\u0000"', '"\x00"', '"\t"', '"\x7f"', '"\\x41"', '"☃"', '{"a":1,"a":2}', "[1,]",
    "tRue", "true", "null", "[]", "{}", '""', "0", "//", "/**/1",
    *(_nested(depth, closing) for depth in (97, 98, 99, 100, 101, 102, 3000)
      for closing in (True, False)),
)  # fmt: skip
"""Put into a payload's place as they are, whether they are JSON or not."""


def payload_of(kind: str) -> dict[str, Any]:
    """A payload in which nothing is wrong."""
    ids = {"tag": kind, "correlation_id": "c-@@", "context": {}, "trace_id": "t-1"}
    return {**ids, **PAYLOADS[kind]}


def encoded(payload: dict[str, Any]) -> bytes:
    """As JSON."""
    return json.dumps(payload).encode()


def with_raw(payload: dict[str, Any], value: str) -> bytes:
    """As JSON, with this text in the place of "##"."""
    return encoded(payload).replace(b'"##"', value.encode())


@st.composite
def bodies(draw: st.DrawFn, kind: str) -> bytes:
    """A payload that is right, but for what is wrong with it."""
    payload = payload_of(kind)
    whole = encoded(payload)
    name = draw(st.sampled_from([*payload, "more", "params", "event"]))
    match draw(
        st.sampled_from(["", "", "less", "odd", "raw", "more", "bytes", "encoding", "special"])
    ):
        case "less":
            payload.pop(name, None)
        case "odd":
            payload[name] = draw(JSON)
        case "raw":
            payload[name] = "##"
            value = draw(st.sampled_from(RAW))
            return with_raw(payload, value)
        case "more":
            before, behind = draw(st.sampled_from(AROUND))
            return bytes(before + whole + behind)
        case "bytes":
            return bytes(draw(damaged(whole)))
        case "encoding":
            encoding = draw(
                st.sampled_from(["utf-16", "utf-8-sig", "utf-32", "utf-16-le", "utf-7"])
            )
            return json.dumps(payload).encode(encoding)
        case "special":
            return draw(st.sampled_from(SPECIAL))
    return encoded(payload)


SEALED: Strategy = st.one_of(
    st.sampled_from([b".", b"a.b", b"=." * 9, base64.b64encode(b"k" * 256) + b".Z0FBQUFB"]),
    st.binary(min_size=256, max_size=256).map(lambda key: base64.b64encode(key) + b".gAAAA"),
    st.binary(max_size=30),
)
"""Bodies that are said to be encrypted."""
