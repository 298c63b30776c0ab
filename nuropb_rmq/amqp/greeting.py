"""The first bytes of whatever answers at a broker's address."""

from __future__ import annotations

from typing import Final

_TLS: Final = (b"\x15", b"\x16")
"""What an alert and a handshake of TLS begin with (RFC 8446, 5.1)."""
_OTHERS: Final = (
    (b"HTTP/", "an HTTP server answers: is this the port of the management API, or a proxy's?"),
    (b"SSH-", "an SSH server answers: is this its port, or a tunnel's?"),
    (b"\x15\x03", "a TLS server answers: use amqps://, or the port of AMQP without TLS"),
    (b"\x16\x03", "a TLS server answers: use amqps://, or the port of AMQP without TLS"),
)
_SHOWN: Final = 24
_HEADER: Final = 8
"""Bytes of a protocol header (4.2.2)."""


def is_frame(first: bytes) -> bool:
    """Return whether these may begin a frame, with its type (4.2.3): neither text, nor TLS."""
    return first[:1] < b" " and not first.startswith(_TLS)


def problem(first: bytes) -> str | None:
    """Name what answers instead of an AMQP 0-9-1 broker; None: more bytes are needed to tell."""
    if first[:4] == b"AMQP"[: len(first)]:
        if len(first) < _HEADER:
            return None
        version = "-".join(str(each) for each in first[5:_HEADER])
        return f"the broker does not speak AMQP 0-9-1, but {version}"
    for begins, said in _OTHERS:
        if first.startswith(begins):
            return said
    shown = first[:_SHOWN]
    return f"what answers does not speak AMQP: it begins with {shown!r}; is this the port of AMQP?"
