"""The first bytes that a server sends, and the servers that are no AMQP broker."""

from __future__ import annotations

from typing import Final

_TLS: Final = (b"\x15", b"\x16")
"""First bytes of an alert and of a handshake of TLS (RFC 8446, 5.1)."""
_OTHERS: Final = (
    (b"HTTP/", "an HTTP server answers: is this the port of the management API, or a proxy's?"),
    (b"SSH-", "an SSH server answers: is this its port, or a tunnel's?"),
    (b"\x15\x03", "a TLS server answers: use amqps://, or the port of AMQP without TLS"),
    (b"\x16\x03", "a TLS server answers: use amqps://, or the port of AMQP without TLS"),
)
_SHOWN: Final = 24  # bytes that an error quotes
_HEADER: Final = 8
"""Bytes of a protocol header (4.2.2)."""


def is_frame(first: bytes) -> bool:
    """Return whether these bytes may begin a frame (4.2.3): they are neither text nor TLS."""
    return first[:1] < b" " and not first.startswith(_TLS)


def problem(first: bytes) -> str | None:
    """Name what answers instead of an AMQP 0-9-1 broker; None: more bytes are needed to tell."""
    if first[:4] == b"AMQP"[: len(first)]:
        if len(first) < _HEADER:
            return None
        version = "-".join(map(str, first[5:_HEADER]))
        return f"the broker does not speak AMQP 0-9-1, but {version}"
    for start, text in _OTHERS:
        if first.startswith(start):
            return text
    return f"expected AMQP, got {first[:_SHOWN]!r}…; is this the port of AMQP?"
