"""Bodies of many parts, or deep ones: what they cost, and that none is followed too deep."""

from __future__ import annotations

import contextlib
import gc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nuropb_rmq.exceptions import MalformedMessageError
from nuropb_rmq.protocol.serialization import decode, nests_deeper

from ...steps import steps


@pytest.mark.parametrize(
    "part",
    [
        b"{}",
        b'{"a":1}',
        b'{"id":12345,"name":"widget","tags":["a","b"]}',
        b'"[",[]',
        b'"\\"",[]',
        b"[" * 95 + b"]" * 95,
        b'{"":' * 95 + b"0" + b"}" * 95,
    ],
    ids=["empty", "small", "usual", "brackets in text", "quotes in text", "lists", "dicts"],
)
def test_no_part_of_a_large_body_takes_a_step_of_python(part: bytes) -> None:
    body = b"[" + b",".join([part] * (200_000 // len(part))) + b"]"
    decode(body, max_depth=100)
    assert steps(lambda: decode(body, max_depth=100)) < 100


@pytest.mark.parametrize("body", [b"[]", b"[", b"\xff", b"[" * 101])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(body: bytes, enabled: bool) -> None:
    large = body + b" " * 100_000
    collections: list[str] = []

    def count(phase: str, _: object) -> None:
        collections.append(phase)

    gc.callbacks.append(count)
    try:
        if not enabled:
            gc.disable()
        with contextlib.suppress(MalformedMessageError):
            decode(large, max_depth=100)
        assert gc.isenabled() is enabled
        collections.clear()
        decode(b"[" + b"[]," * 100_000 + b"[]]", max_depth=100)
        assert not collections
        assert gc.isenabled() is enabled
    finally:
        gc.callbacks.remove(count)
        gc.enable()


def reached(body: bytes) -> int:
    """Return the greatest depth of a parser before it meets something wrong; or more."""
    depth = most = 0
    within = escaped = False
    for byte in body.decode():
        if within:
            within = escaped or byte != '"'
            escaped = byte == "\\" and not escaped
        elif byte == '"':
            within = True
        elif byte in "[{":
            depth += 1
            most = max(most, depth)
        elif byte in "]}":
            depth -= 1
        if depth < 0 or (byte == "\\" and not within):
            break
    return most


@given(st.text(alphabet='[]{}"\\,:1 ', max_size=60).map(str.encode), st.integers(1, 6))
@example(b"[[{]]]]", 2)
def test_no_body_is_followed_deeper_whatever_it_is(body: bytes, limit: int) -> None:
    assert nests_deeper(body, limit) or reached(body) <= limit
