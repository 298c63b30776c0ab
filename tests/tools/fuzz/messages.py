"""Messages that hypothesis draws: wrong somewhere, or only odd, as bytes.

Whether a message is good is not said here: `reading` says it, from the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from nuropb_rmq.amqp import frames

from ...unit.amqp.strategies import damaged
from .bodies import RAW, SEALED, SPECIAL, bodies, encoded, payload_of, with_raw
from .line import FRAME_MAX, pack_frame
from .tables import KINDS, ODD, Strategy, headers_of, long, table_of, tables

ANSWERS = "nuropb-fuzz-answers-rq"
"""A queue whose name a service answers to."""
VICTIM = "fuzz-victim"
"""One that it never answers to."""
MARK = b"@@"
"""Stands for what makes a message unlike all others, in its correlation id and its body."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is published."""

    number: int
    what: str
    """The odd thing about it."""
    to_responses: bool
    """Sent to the client's response queue, instead of the service's queue."""
    raw_properties: bytes = field(repr=False)
    body: bytes = field(repr=False)
    cuts: tuple[int, ...] = field(repr=False)
    """Sizes of its body frames."""

    def pack(self, method: bytes) -> bytes:
        """All its frames."""
        head = frames.CONTENT_HEADER.pack(60, 0, len(self.body)) + self.raw_properties
        packed = [pack_frame(frames.FRAME_METHOD, method), pack_frame(frames.FRAME_HEADER, head)]
        at = 0
        for size in self.cuts:
            packed.append(pack_frame(frames.FRAME_BODY, self.body[at : at + size]))
            at += size
        return b"".join(packed)

    def __str__(self) -> str:
        return (
            f"message {self.number} ({self.what}): properties {self.raw_properties[:400]!r}, "
            f"body of {len(self.body)} bytes {self.body[:400]!r}"
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A message without its number."""

    what: str
    careful: bool
    """The broker may refuse it, and then closes the channel or the connection."""
    to_responses: bool
    properties: dict[str, Any]
    flags: int
    body: bytes
    cuts: tuple[int, ...]

    def numbered(self, number: int) -> Message:
        """The message with this number, which its message id begins with."""
        mark = b"%d-%x" % (number, number * 0x9E3779B97F4A7C15 % 2**64)  # no damage makes another's
        properties = dict(self.properties)
        properties["message_id"] = b"%d." % number + properties.get("message_id", b"")
        if "correlation_id" in properties:
            properties["correlation_id"] = properties["correlation_id"].replace(MARK, mark)[:255]
        body = self.body.replace(MARK, mark)
        cuts = list(self.cuts)
        while rest := len(body) - sum(cuts):
            cuts.append(min(rest, FRAME_MAX - frames.FRAME_OVERHEAD))
        return Message(
            number,
            self.what,
            self.to_responses,
            pack_properties(properties, self.flags),
            body,
            tuple(cuts),
        )


def pack_properties(properties: dict[str, Any], more_flags: int = 0) -> bytes:
    """Properties as bytes; short strings are given as bytes, headers as a table's entries."""
    flags, packed = more_flags, b""
    for flag, name, kind in frames._FIELDS:
        if name not in properties:
            continue
        value = properties[name]
        flags |= flag
        match kind:
            case "s":
                packed += bytes((len(value),)) + value
            case "F":
                packed += long(value)
            case "o":
                packed += bytes((value,))
            case _:
                packed += struct.pack(">Q", value)
    return struct.pack(">H", flags) + packed


# -- properties -----------------------------------------------------------------------------

SHORT: Strategy = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"", b"\xff" * 255, b"x" * 255, b"\x00", b"\n"])
)
CORRELATION_IDS = (
    b"c-" + MARK,
    MARK + b"\xff",
    MARK + b"\n",
    MARK + b"\xed\xa0\x80",
    "☃".encode() + MARK,
    MARK + b"x" * 255,
    b"\xff" * 255,
    b"",
    None,
)
REPLY_TOS = (
    ANSWERS.encode(),
    ANSWERS.encode(),
    VICTIM.encode(),
    b"nuropb-orders-sq",
    b"nuropb-orders-dlq",
    b"amq.rabbitmq.reply-to.g1h2",
    b"nuropb-\xff-rq",
    b"nuropb-" + b"x" * 240 + b"-rq",
    ANSWERS.encode() + b"\n",
    b"\xff" * 255,
    b"",
    None,
)
REFUSED: Strategy = st.sampled_from(
    [
        {"expiration": b"abc"},
        {"expiration": b""},
        {"expiration": b"-1"},
        {"expiration": b"1e3"},
        {"expiration": b" 5"},
        {"expiration": b"99999999999999"},
        {"expiration": "٣".encode()},
        {"delivery_mode": 0},
        {"delivery_mode": 255},
        {"user_id": b"nobody"},
        {"reply_to": b"amq.rabbitmq.reply-to"},
    ]
)
"""Properties that a broker may refuse; 3.10 refuses all of them, 4.x some."""
MORE: Strategy = st.fixed_dictionaries(
    {},
    optional={
        "content_type": SHORT,
        "content_encoding": SHORT,
        "priority": st.integers(0, 255),
        "timestamp": st.integers(0, 2**64 - 1),
        "type": SHORT,
        "user_id": st.just(b"guest"),
        "app_id": SHORT,
        "cluster_id": SHORT,
        "message_id": SHORT.map(lambda data: data[:200]),
        "expiration": st.sampled_from([b"60000", b"00060000", b"+60000", b"4294967295"]),
    },
)


# -- messages -------------------------------------------------------------------------------


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Anything; about a third of it can be read and is run, when it is sent to a service."""
    to_responses = draw(st.integers(0, 5)) == 0
    kind = draw(st.sampled_from([*KINDS, "response"] if to_responses else ["request", *KINDS[:3]]))
    wrong = draw(st.sampled_from(["nothing", "properties", "headers", "headers", "body", "body",
                                  "body", "everything", "encrypted", "refused"]))  # fmt: skip
    sealed = wrong == "encrypted"
    properties: dict[str, Any] = {"correlation_id": b"c-" + MARK}
    reply_to = draw(st.sampled_from(REPLY_TOS))
    if reply_to is not None:
        properties["reply_to"] = reply_to
    table: bytes | None = table_of(headers_of(kind, encrypted=sealed))
    body = draw(SEALED) if sealed else b""
    flags, careful = 0, wrong == "refused"
    if wrong in ("properties", "everything"):
        properties |= draw(MORE)
        properties["correlation_id"] = draw(st.sampled_from(CORRELATION_IDS) | SHORT)
        flags = draw(st.sampled_from([0, 0, 0, 1, 2, 3]))
    if wrong in ("headers", "everything"):
        table = draw(tables(kind, sealed))
    if wrong in ("body", "everything"):
        body = draw(bodies(kind))
    elif not sealed:
        payload = payload_of(kind)
        if wrong == "properties":  # they alone say what it is, whatever that is
            del payload["correlation_id"]
        body = encoded(payload)
    if careful:
        properties |= draw(REFUSED)
        if draw(st.integers(0, 9)) == 0:
            table = draw(damaged(table or b""))
    if table is not None:
        properties["headers"] = table
    if properties["correlation_id"] is None:
        del properties["correlation_id"]
    cuts = draw(st.lists(st.sampled_from([0, 0, 1, 2, 9]), max_size=5)) if len(body) > 55 else []
    careful = careful or flags > 0 or len(table or b"") > 100_000  # more than a frame may be
    return Draft(wrong, careful, to_responses, properties, flags, body, tuple(cuts))


def classics() -> Iterator[Draft]:
    """Requests with each of the oddities that are listed, and no other."""
    right = {"reply_to": ANSWERS.encode(), "correlation_id": b"c-" + MARK}
    headers = headers_of("request", encrypted=False)
    named, nameless = encoded(payload_of("request")), payload_of("request")
    del nameless["correlation_id"]

    def draft(what: str, properties: dict[str, Any], body: bytes = named) -> Draft:
        whole = {"headers": table_of(headers), **right, **properties}
        kept = {name: value for name, value in whole.items() if value is not None}
        return Draft(what, False, False, kept, 0, body, ())

    for table in (None, b"", table_of({b"nuropb_type": headers[b"nuropb_type"]})):
        yield draft("headers", {"headers": table})
    for name in (b"odd", b"trace_id", b"nuropb_type", b"nuropb_ca_count"):
        for value in ODD:
            if len(value) < 1000 or name == b"odd":
                yield draft("headers", {"headers": table_of({**headers, name: value})})
    for correlation_id in CORRELATION_IDS:
        yield draft("properties", {"correlation_id": correlation_id}, encoded(nameless))
    for reply_to in REPLY_TOS:
        yield draft("properties", {"reply_to": reply_to})
    for body in SPECIAL:
        yield draft("body", {}, body)
    for part in ("params", "more"):
        for raw in RAW:
            yield draft("body", {}, with_raw({**payload_of("request"), part: "##"}, raw))


BATCH = 20


def drawn(start: int, count: int) -> Iterator[list[Draft]]:
    """About `count` drafts, in batches: those that are always there, then those of a seed.

    A seed gives the same ones in the same test: hypothesis also draws what it finds in the sources
    that are imported.
    """
    known = [*classics()]
    yield known
    made = len(known)
    round_ = 0
    while made < count:
        for batch in _draw(start * 1_000_003 + round_):
            made += len(batch)
            yield batch
            if made >= count:
                return
        round_ += 1


def _draw(start: int) -> list[list[Draft]]:
    """hypothesis as a mere generator: some batches of one seed."""
    found: list[list[Draft]] = []

    @seed(start)
    @settings(
        max_examples=15,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(drafts(), min_size=BATCH, max_size=BATCH))
    def collect(batch: list[Draft]) -> None:
        found.append(batch)

    collect()
    return found
