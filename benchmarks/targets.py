"""Each target with what was measured, and of those that are missed, why: results/targets.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from .figures import FIGURES, Figure, Results

_BROKER: Final = (
    "The broker shares the two cores, and takes as much CPU for a call as we do, for it confirms "
    "what nuropb does not ask it to; our own CPU is within its target. A broker on cores of its "
    "own would change it, or weaker guarantees."
)
_NATS: Final = (
    "A call over NATS is two messages and nothing else. Ours has two confirms and an "
    "acknowledgement, headers, a deadline on both sides, and content frames of their own. What is "
    "left is Python; a parser in C would change it."
)
_SDK: Final = (
    "Three records of histograms, which the convention demands, cost the SDK some 9 µs each on a "
    "fast machine; the ratio of one round to the next varies by a quarter here. Fewer histograms "
    "would change it."
)
_NOISE: Final = "Rounds of the same side differ by more than this on the machine of this run: "

WHY: Final[Mapping[str, str]] = {
    "RPC, 32 concurrent: calls/s of nuropb's": _BROKER,
    "RPC, 256 concurrent: calls/s of nuropb's": _BROKER,
    "RPC, 32, awaits once: calls/s of nuropb's": _BROKER,
    "RPC, 256, awaits once: calls/s of nuropb's": _BROKER,
    "RPC, 32, with `speed`: calls/s of nuropb's": _BROKER,
    "RPC, 1 at a time: CPU of the floor's": (
        "Four turns of the loop and eleven system calls, where the floor has eight: the reads of "
        "two confirms, and the acknowledgement, which waits for the second. To acknowledge later, "
        "with the next answer, would save one write of seven, and more would be delivered again "
        "after a crash: left out."
    ),
    "RPC, 32 concurrent: CPU of NATS's": _NATS,
    "RPC, 256 concurrent: CPU of NATS's": _NATS,
    "RPC, 32, awaits once: CPU of one that does not": (
        "The task of a handler that waits. Eager tasks of Python 3.12 take as long, measured: "
        "docs/decisions/002."
    ),
    "RPC, 1 at a time: median latency of nuropb's": _NOISE + "0.59 to 1.12, median 0.751.",
    "RPC, 32: calls/s of FastStream's": (
        "FastStream asks one request at a time, so its rate is the latency of one; ours shares "
        "the cores with the broker."
    ),
    "encrypted RPC, 32: calls/s of nuropb's": (
        "94 of 100 instructions are Fernet's. One of our own, on the primitives of cryptography, "
        "needs 0.53 to 0.72 of the time; left out for safety: docs/decisions/012."
    ),
    "16 KB bodies: calls/s of the fastest peer's": (
        "The same JSON, encoded and decoded four times, is most of it on both sides. orjson, by "
        "the extra `speed`, changes it: 1.9 times."
    ),
    "cost of a call after 200,000, of an early one": (
        _NOISE + "from 149 to 217 µs in windows of 5,000 calls, up and down; the last ten are "
        "no dearer than those in the middle."
    ),
    "import of Mesh: CPU": (
        "0.30 and 0.32 s on the machines of the last two runs, 0.23 s on a faster one. All "
        "packages that it brings are needed; cryptography and httpx, loaded when they are first "
        "used, would change it, and make the first call pay."
    ),
    "RMQTransport, RPC 32: CPU of Transport's": (
        "Its callbacks get messages of nuropb's shape, which are made of each of ours. To make "
        "them when they are looked at would change it."
    ),
    "a synchronous method in a thread, over an async one: CPU": (
        "180 before outcomes that come together woke the loop once. Half of the rest is the "
        "system's, which wakes threads; a queue of our own in place of the executor's futures "
        "would save some 20 µs, and would need an end of its own at the interpreter's exit."
    ),
    "OpenTelemetry without a provider: CPU without": _NOISE + "0.82 to 1.19.",
    "OpenTelemetry, 1 % sampled: CPU without": _SDK,
    "OpenTelemetry's metrics: CPU without": _SDK,
}
"""Why a figure is missed, and what would have to change, by its text."""
_UNKNOWN: Final = "Not looked into yet."


def page(results: Results) -> str:
    """Return the page."""
    return "\n".join(_parts(results))


def missed(results: Results) -> Iterator[tuple[Figure, float]]:
    """Yield each figure that is missed, and its value."""
    for figure in FIGURES:
        try:
            value = figure.value(results)
        except KeyError:  # not measured
            continue
        if not figure.held(value):
            yield figure, value


def _parts(results: Results) -> Iterator[str]:
    failing = dict(missed(results))
    yield "# Targets\n"
    yield f"Of the run of {results.date} in figures.md.\n"
    yield "| | target | measured | missed by |"
    yield "| --- | ---: | ---: | ---: |"
    for figure in FIGURES:
        bound = f"{figure.kind} {figure.bound:,g}{figure.unit}"
        try:
            value = figure.value(results)
        except KeyError:
            yield f"| {figure.text} | {bound} | - | - |"
            continue
        by = f"{abs(value / figure.bound - 1):.0%}" if figure in failing and figure.bound else ""
        shown = f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
        yield f"| {figure.text} | {bound} | {shown}{figure.unit} | {by} |"
    yield "\n## Why, and what would have to change\n"
    for figure in failing:
        yield f"**{figure.text}.** {WHY.get(figure.text, _UNKNOWN)}\n"
