"""The figures in pages that people read, written from the runs that are committed beside them.

    python -m benchmarks.pages

A page marks where they go: <!-- figures: NAME -->, what was written, <!-- end -->.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from . import run, scale
from .figures import ONCE_32, ONCE_256, Results
from .peers import (
    ADAPTER,
    AIO_PIKA,
    ELSEWHERE,
    FASTSTREAM,
    MESH,
    NUROPB,
    NUROPB_RMQ,
    OTEL,
    POSTED,
    ROOT,
    SPEED,
    TRACED,
    TRANSIENT,
    TRANSPORT,
    Peer,
)
from .report import files, machine, markdown
from .units import Units

RESULTS: Final = ROOT / "benchmarks" / "results"
PAGES: Final = (
    "README.md",
    "docs/performance.md",
    "docs/operations/scale.md",
    "docs/guides/telemetry.md",
)

_BLOCK: Final = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_COMPARED: Final = (
    ("a call, 1 at a time", "rpc[1]", TRANSPORT),
    ("… 32 at a time", "rpc[32]", TRANSPORT),
    ("… 256 at a time", "rpc[256]", TRANSPORT),
    ("… its handler awaits once, 32 at a time", ONCE_32, TRANSPORT),
    ("… its handler awaits once, 256 at a time", ONCE_256, TRANSPORT),
    ("… its handler waits 5 ms, 256 at a time", "waiting[5ms-256]", TRANSPORT),
    ("… by Mesh, 32 at a time", "rpc[32]", MESH),
    ("… by RMQTransport, 32 at a time", "rpc[32]", ADAPTER),
    ("… 16 KB both ways, 32 at a time", "body[16]", TRANSPORT),
    ("… encrypted, 32 at a time", "encrypted", MESH),
    ("events published, persistent and confirmed", "published", TRANSPORT),
    ("events published, transient as nuropb's", "published", TRANSIENT),
    ("events from publisher to handler, persistent", "delivered[1]", TRANSPORT),
    ("events from publisher to handler, transient", "delivered[1]", TRANSIENT),
)

_PEERS: Final = (MESH, TRANSPORT, NUROPB, NUROPB_RMQ, AIO_PIKA, FASTSTREAM)

_KEPT: Final = {
    MESH: "waits in a queue",
    **dict.fromkeys(ELSEWHERE, "fails at once"),
}
"""A call while no instance of its service runs."""

_TELEMETRY: Final = (
    ("installed, without a provider", OTEL[0], MESH),
    ("one trace in 100 recorded", OTEL[1], MESH),
    ("metrics", OTEL[2], MESH),
    ("every trace recorded: six spans for a call", OTEL[3], MESH),
    ("aio-pika's RPC by its contrib instrumentation, all recorded", TRACED[1], TRACED[0]),
    ("FastStream's request by its middleware, all recorded", TRACED[3], TRACED[2]),
)

_COSTS: Final[tuple[tuple[str, str, Peer | str], ...]] = (
    ("a call, one at a time", "rpc[1]", TRANSPORT),
    ("… 32 at a time", "rpc[32]", TRANSPORT),
    ("… 256 at a time", "rpc[256]", TRANSPORT),
    ("… 5,000 at a time", "growth_outstanding", "5000 outstanding"),
    ("… its handler awaits once, 32 at a time", ONCE_32, TRANSPORT),
    ("… its handler awaits ten times, 32 at a time", "waiting[ten-32]", TRANSPORT),
    ("… its handler waits 5 ms, 256 at a time", "waiting[5ms-256]", TRANSPORT),
    ("… by Mesh, 32 at a time", "rpc[32]", MESH),
    ("… by RMQTransport, 32 at a time", "rpc[32]", ADAPTER),
    ("… with the `speed` extra, 32 at a time", "rpc[32]", SPEED),
    ("… encrypted, by Mesh, 32 at a time", "encrypted", MESH),
    ("… 16 KB both ways, 32 at a time", "body[16]", TRANSPORT),
    ("… 256 KB both ways, 32 at a time", "body[256]", TRANSPORT),
    ("an event, each awaited singly", "awaited[1]", TRANSPORT),
    ("… 10 awaited together", "awaited[10]", TRANSPORT),
    ("… 100 awaited together", "awaited[100]", TRANSPORT),
    ("… 1,000 awaited together", "awaited[1000]", TRANSPORT),
    ("… 1,000 posted, their futures awaited (`post()`)", "published", POSTED),
    ("an event, transient, each awaited singly", "awaited[1]", TRANSIENT),
    ("… 1,000 awaited together", "awaited[1000]", TRANSIENT),
    ("an event from its publisher to one handler", "delivered[1]", TRANSPORT),
    ("… to ten handlers", "delivered[10]", TRANSPORT),
    ("an event out of a backlog, handled", "backlog", TRANSPORT),
)


def _machine(results: Results) -> str:
    return f"Measured on {results.date}: {machine(results)}.\n"


def _compared(results: Results) -> str:
    """Ours beside nuropb 0.1.8, as ratios."""
    rows = [
        [
            text,
            f"{median(results.scenarios[scenario].rates(ours.label)):,.0f}",
            f"{results.speed(scenario, ours, NUROPB):.2f}",
            f"{results.cpu(scenario, ours, NUROPB):.2f}",
        ]
        for text, scenario, ours in _COMPARED
    ]
    return markdown(["", "each second", "times nuropb's", "CPU of nuropb's"], rows)


def _peers(results: Results) -> str:
    """Ours and the other libraries, by the same three figures."""
    calls, one, events = (results.scenarios[name] for name in ("rpc[32]", "rpc[1]", "delivered[1]"))
    rows = [
        [
            f"**{label}**" if ours else label,
            f"{median(calls.rates(label)):,.0f}",
            f"{median(calls.each(label, 'cpu')) * 1e6:,.0f}",
            f"{1000 / median(one.rates(label)):.2f}",
            f"{median(events.rates(label)):,.0f}",
        ]
        for label, ours in ((peer.label, peer.ours) for peer in _PEERS)
    ]
    heads = ["", "calls/s, 32 at a time", "µs CPU of a call", "ms, 1 at a time", "events handled/s"]
    return markdown(heads, rows)


def _elsewhere(results: Results) -> str:
    """Ours and what is not RabbitMQ, with what becomes of a call that nobody can take."""
    rows = []
    for peer, kept in _KEPT.items():
        cells = [peer.label if peer is not MESH else f"**{peer.label}**"]
        for name in ("elsewhere[1]", "elsewhere[32]", "elsewhere[256]"):
            calls = results.scenarios[name]
            cpu = median(calls.each(peer.label, "cpu")) * 1e6
            cells += [f"{median(calls.rates(peer.label)):,.0f}", f"{cpu:,.0f}"]
        rows.append([*cells, "yes" if peer is MESH else "no", kept])
    heads = [f"{each}, {many}" for many in ("1", "32", "256") for each in ("calls/s", "µs CPU")]
    return markdown(["", *heads, "confirmed", "without the service"], rows)


def _telemetry(results: Results) -> str:
    """The CPU of a call with OpenTelemetry, ours and that of others, over a call without it."""
    rows = []
    for text, peer, without in _TELEMETRY:
        kept = results.scenarios["telemetry"]
        cpu = median(kept.each(peer.label, "cpu")) * 1e6
        ratio = results.cpu("telemetry", peer, without)
        rows.append([text, f"{ratio:.2f}", f"{cpu:,.0f}"])
    return markdown(["", "times the CPU without", "µs CPU"], rows)


def _costs(results: Results) -> str:
    """Absolute figures of ours."""
    rows = []
    for text, scenario, side in _COSTS:
        kept = results.scenarios[scenario]
        label = side if isinstance(side, str) else side.label
        cpu, broker = (median(kept.each(label, name)) * 1e6 for name in ("cpu", "broker"))
        rate = median(kept.rates(label))
        rows.append([text, f"{rate:,.0f}", f"{cpu:,.0f}", f"{broker:,.0f}"])
    return markdown(["", "each second", "µs CPU", "µs of the broker's"], rows)


def _start(results: Results) -> str:
    """Tell of a program's beginning."""
    kept = results.scenarios
    start = kept["start"].median(TRANSPORT.label, "cpu") * 1000
    imported = kept["import"].median("nuropb_rmq.mesh", "cpu") * 1000
    held = kept["outstanding"].median(TRANSPORT.label, "bytes") / 1000
    return (
        f"Until it is ready a service takes {start:.0f} ms of CPU; to import `Mesh` takes "
        f"{imported:.0f} ms. A request that waits for its answer holds {held:.1f} KB, its task "
        "included.\n"
    )


def blocks(results: Results, units: Units) -> Mapping[str, Callable[[], str]]:
    """Each block by its name in the pages."""
    return {
        "machine": partial(_machine, results),
        "compared": partial(_compared, results),
        "peers": partial(_peers, results),
        "elsewhere": partial(_elsewhere, results),
        "telemetry": partial(_telemetry, results),
        "costs": partial(_costs, results),
        "start": partial(_start, results),
        "scale-units": partial(scale.units_table, units),
        "scale-model": partial(scale.model_table, units, scale.Node(), scale.Mesh(0)),
    }


def written() -> Iterator[tuple[Path, str]]:
    """Yield each file that is made of the committed runs, as it must be."""
    results = Results(run.read(RESULTS / "run.json"))
    units = Units(**json.loads((RESULTS / "scale.json").read_text(encoding="utf-8")))
    for name, text in files(results):
        yield RESULTS / name, text
    yield RESULTS / "scale.md", scale.page(units, scale.Node(), scale.Mesh(0))
    made = blocks(results, units)
    for name in PAGES:
        page = (ROOT / name).read_text(encoding="utf-8")
        filled = _BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]]()}\n{found[3]}", page)
        yield ROOT / name, filled


if __name__ == "__main__":
    for path, text in written():
        path.write_text(text, encoding="utf-8")
