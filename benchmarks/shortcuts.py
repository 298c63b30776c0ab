"""Time each shortcut of the library beside the plain form that gives the same.

    python -m benchmarks.shortcuts [--rounds 7]

Writes results/shortcuts.md. Both sides run in turn, and must return equal results; a figure is the
median of the rounds' ratios of CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import platform
import statistics
import string
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from random import Random
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import rsa
from pamqp import body as pamqp_body
from pamqp import commands, decode, frame, header

from nuropb_rmq import Encryptor
from nuropb_rmq.amqp import frames
from nuropb_rmq.nearest import nearest
from nuropb_rmq.protocol import constants, reader, serialization, writer
from nuropb_rmq.service.thread_pool import Threads

from .pages import RESULTS
from .report import markdown

AT_LEAST: Final = 0.05
"""Seconds of CPU that one measurement takes."""
DEPTH: Final = 100
AT_A_TIME: Final = 32
"""Calls in threads that are under way."""


class Shortcut(NamedTuple):
    """One function, and what it stands for. `calls`: one run of either does so many."""

    function: str
    what: str
    plain: str
    quick: Callable[[], Any]
    slow: Callable[[], Any]
    calls: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rows = []
    for each in shortcuts():
        if each.quick() != each.slow():
            raise AssertionError(f"{each.function}, {each.what}: the results differ")
        quick, slow = measured(each, rounds)
        ratio = statistics.median(a / b for a, b in zip(quick, slow, strict=True))
        figures = (micro(quick, each), micro(slow, each), f"{ratio:.2f}")
        rows.append([f"`{each.function}`", each.what, each.plain, *figures])
        print(*rows[-1], sep=" | ", flush=True)
    head = ["function", "of", "plain form", "µs", "plain, µs", "times the plain one's"]
    (RESULTS / "shortcuts.md").write_text(PAGE.format(
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        table=markdown(head, rows),
    ), encoding="utf-8")  # fmt: skip


PAGE: Final = """# Shortcuts

Functions that do in less time what a plain form does. Made by `python -m benchmarks.shortcuts` on
{day}, Python {python}: both in turn, with equal results; CPU of this process, medians.

{table}
"""


def measured(each: Shortcut, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of one run, of both sides in each round."""
    sides: list[list[float]] = [[], []]
    counts = [enough(each.quick), enough(each.slow)]
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 else (1, 0):
            work = (each.quick, each.slow)[side]
            sides[side].append(cpu_of(work, counts[side]) / counts[side])
    return sides[0], sides[1]


def enough(work: Callable[[], Any]) -> int:
    """Return how often to run it in one measurement."""
    count = 1
    while (took := cpu_of(work, count)) < AT_LEAST / 4:
        count *= 4
    return max(1, round(count * AT_LEAST / took))


def cpu_of(work: Callable[[], Any], count: int) -> float:
    """Return the seconds that so many runs take, in all threads."""
    began = time.process_time()
    for _ in repeat(None, count):
        work()
    return time.process_time() - began


def micro(seconds: list[float], each: Shortcut) -> str:
    """Format the median of one call."""
    return f"{statistics.median(seconds) / each.calls * 1e6:,.2f}"


# -- the shortcuts --------------------------------------------------------------------------


def shortcuts() -> Iterator[Shortcut]:
    """Yield all of them."""
    yield from of_frames()
    yield from of_json()
    yield from of_encryption()
    yield from of_names()
    yield from of_threads()


CORRELATION_ID: Final = "c" * 32
REPLY_TO: Final = "r" * 40


def pack() -> bytes:
    """Pack the properties of a request, as a client does."""
    packed = writer.pack_properties(
        constants.REQUEST,
        CORRELATION_ID,
        trace_id="t" * 32,
        reply_to=REPLY_TO,
        expiration=60_000,
    )
    return packed + frames.shortstr("m-17")


def of_frames() -> Iterator[Shortcut]:
    """Yield those of packing and reading AMQP."""
    raw = pack()
    properties = frames.decode_properties(raw)
    entries = properties.headers or b""
    headers = frames.decode_table(entries)
    yield Shortcut(
        "writer.pack_properties", "the properties of a request", "`frames.encode_properties`",
        pack,
        lambda: frames.encode_properties(frames.Properties(
            content_type=constants.CONTENT_TYPE,
            headers=b"".join(frames.table_entry(name, text) for name, text in headers.items()),
            delivery_mode=1,
            correlation_id=CORRELATION_ID,
            reply_to=REPLY_TO,
            expiration="60000",
            message_id="m-17",
        )),
    )  # fmt: skip
    yield Shortcut(
        "reader.Head", "the properties of a request",
        "`frames.decode_properties`, and `decode_table` of its headers",
        lambda: reader.Head(frames.Content(1, False, b"\0\0", raw_properties=raw)).headers,
        lambda: frames.decode_table(frames.decode_properties(raw).headers or b""),
    )  # fmt: skip
    table = len(entries).to_bytes(4, "big") + entries
    yield Shortcut(
        "frames.decode_table", "the headers of a request", "pamqp's `decode.field_table`",
        lambda: frames.decode_table(entries), lambda: decode.field_table(table)[1],
    )  # fmt: skip
    method = frames.publish_method("nuropb-rpc-exchange", "orders", mandatory=True)
    body = b"x" * 600

    def by_pamqp() -> bytes:
        publish = commands.Basic.Publish(0, "nuropb-rpc-exchange", "orders", True, False)
        content = header.ContentHeader(0, len(body), commands.Basic.Properties(
            content_type=properties.content_type,
            headers=headers,
            delivery_mode=properties.delivery_mode,
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
            expiration=properties.expiration,
            message_id=properties.message_id,
        ))  # fmt: skip
        parts = (publish, content, pamqp_body.ContentBody(body))
        return b"".join(frame.marshal(part, 1) for part in parts)

    yield Shortcut(
        "frames.pack_content", "a request of 600 bytes, with its properties", "pamqp's `marshal`",
        lambda: frames.pack_content(1, method, pack(), body, 131_072),
        by_pamqp,
    )  # fmt: skip


def payload(size: int) -> dict[str, Any]:
    """Return a request of about so many bytes, of short texts and numbers."""
    order = {"id": 12345, "name": "widget", "price": 9.5, "tags": ["a", "b"], "open": True}
    count = max(1, size // len(json.dumps(order)))
    params = {"orders": [order] * count}
    return {"tag": "request", "service": "orders", "method": "add", "params": params}


def plainly(value: Mapping[str, Any]) -> bytes:
    """Encode as json does."""
    return json.dumps(value, separators=(",", ":")).encode()


def depth_of(body: bytes) -> int:
    """Return how deep a body nests, byte by byte."""
    deepest = depth = 0
    quoted = escaped = False
    for byte in body:
        if quoted:
            if escaped or byte != ord('"'):
                escaped = byte == ord("\\") and not escaped
            else:
                quoted = False
        elif byte == ord('"'):
            quoted = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def decoded(body: bytes) -> Any:
    """Decode a body that does not nest too deep."""
    return json.loads(body) if depth_of(body) <= DEPTH else None


def of_json() -> Iterator[Shortcut]:
    """Yield those of bodies."""
    small, large = payload(500), payload(60_000)
    texts = {**payload(1), "params": {"text": "Lorem ipsum dolor sit amet. " * 9_000}}
    orjson = vars(serialization)["orjson"]
    vars(serialization)["orjson"] = None
    try:
        for named, value in (("600 bytes", small), ("250 KB of long texts", texts)):
            yield Shortcut(
                "serialization.encode", named, "`json.dumps`",
                partial(serialization.encode, value), partial(plainly, value),
            )  # fmt: skip
    finally:
        vars(serialization)["orjson"] = orjson
    for named, value in (("600 bytes", small), ("60 KB", large)):
        yield Shortcut(
            "serialization.encode", f"{named}, with orjson", "`json.dumps`",
            partial(serialization.encode, value), partial(plainly, value),
        )  # fmt: skip
    many: dict[str, Any] = {"params": [[]] * 40_000}
    for named, value in (("600 bytes", small), ("60 KB", large), ("120 KB of empty lists", many)):
        body = plainly(value)
        yield Shortcut(
            "serialization.decode", named, "`json.loads`, and a loop over the brackets",
            partial(serialization.decode, body, max_depth=DEPTH), partial(decoded, body),
        )  # fmt: skip


def of_encryption() -> Iterator[Shortcut]:
    """Yield those of encryption; the key of a service is 2048 bits."""
    key = rsa.generate_private_key(65537, 2048)
    body = plainly(payload(500))

    def call(key_uses: int) -> Callable[[], bytes]:
        client, service = Encryptor(key_uses=key_uses), Encryptor("orders", key)
        client.add_public_key("orders", key.public_key())

        def both_ways() -> bytes:
            sent = client.encrypt_payload(body, "c", "orders")
            request = service.decrypt_payload(sent, "c")
            answer = service.encrypt_payload(request, "c")
            return client.decrypt_payload(answer, "c")

        return both_ways

    yield Shortcut(
        "Encryptor", "a call of 600 bytes, both ends", "the same with a key for each call",
        call(1000), call(1),
    )  # fmt: skip


def of_names() -> Iterator[Shortcut]:
    """Yield that of misspelt names."""
    chosen = Random(1)
    names = ["".join(chosen.choices(string.ascii_lowercase[:8], k=20)) for _ in range(200)]
    wrong = names[7][:-2] + "xy"
    yield Shortcut(
        "nearest", "one of 200 names like each other", "`difflib.get_close_matches`",
        lambda: nearest(wrong, names), lambda: difflib.get_close_matches(wrong, names, n=1)[0],
    )  # fmt: skip


def of_threads() -> Iterator[Shortcut]:
    """Yield that of methods in threads."""
    loop = asyncio.new_event_loop()
    pool = ThreadPoolExecutor(AT_A_TIME)
    threads = Threads("shortcuts", AT_A_TIME)

    async def opened() -> None:
        threads.open()

    async def ours() -> None:
        await asyncio.gather(*(threads.run(int) for _ in range(AT_A_TIME)))

    async def plain() -> None:
        await asyncio.gather(*(
            loop.run_in_executor(pool, copy_context().run, int) for _ in range(AT_A_TIME)
        ))  # fmt: skip

    loop.run_until_complete(opened())
    try:
        yield Shortcut(
            "Threads.run", f"a call in a thread, {AT_A_TIME} at a time", "`loop.run_in_executor`",
            lambda: loop.run_until_complete(ours()), lambda: loop.run_until_complete(plain()),
            AT_A_TIME,
        )  # fmt: skip
    finally:
        threads.close()
        pool.shutdown()
        loop.close()


if __name__ == "__main__":
    main()
