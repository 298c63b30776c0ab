"""Take entries out of a header table, and leave the others byte for byte."""

from __future__ import annotations

from collections.abc import Container
from struct import error

from ..amqp import frames
from ..exceptions import AMQPProtocolError


def without(entries: bytes, names: Container[bytes], prefixes: tuple[bytes, ...] = ()) -> bytes:
    """Return the entries of a header table without those of these names, or that begin so.

    Raises AMQPProtocolError when the table cannot be read.
    """
    kept = []
    at = 0
    try:
        while at < len(entries):
            end_of_name = at + 1 + entries[at]
            _, end = frames.read_value(entries, end_of_name, frames.TABLE_DEPTH)
            name = entries[at + 1 : end_of_name]
            if name not in names and not name.startswith(prefixes):
                kept.append(entries[at:end])
            at = end
    except (ValueError, LookupError, OverflowError, OSError, error) as e:
        raise AMQPProtocolError(f"header table cannot be decoded: {e}") from e
    if at != len(entries):
        raise AMQPProtocolError("header table cannot be decoded: a value runs past its end")
    return b"".join(kept)
