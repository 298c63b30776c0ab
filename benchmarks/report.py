"""From the JSON of a run to what people read: tables in Markdown, pictures, and the verdict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from statistics import median

from . import peers, run, targets
from .chart import THEMES, Bar, Panel, draw
from .figures import FIGURES, ONCE_32, UNBOUNDED, Results, Scenario

TITLES = {
    "rpc[1]": "RPC, 1 at a time",
    "rpc[32]": "RPC, 32 concurrent",
    "rpc[256]": "RPC, 256 concurrent",
    "waiting[once-32]": "RPC, a handler that awaits once, 32 concurrent",
    "waiting[once-256]": "RPC, a handler that awaits once, 256 concurrent",
    "waiting[ten-32]": "RPC, a handler that awaits ten times, 32 concurrent",
    "waiting[ten-256]": "RPC, a handler that awaits ten times, 256 concurrent",
    "waiting[5ms-32]": "RPC, a handler that waits 5 ms, 32 concurrent",
    "waiting[5ms-256]": "RPC, a handler that waits 5 ms, 256 concurrent",
    "body[16]": "RPC, bodies of 16 KB both ways, 32 concurrent",
    "body[256]": "RPC, bodies of 256 KB both ways, 32 concurrent",
    "encrypted": "RPC, encrypted, 32 concurrent",
    "beside[keys]": "Plain calls, one at a time, beside encrypted ones, each with a key of its own",
    "beside[bodies]": "Plain calls, one at a time, beside encrypted ones of 300 KB both ways",
    "elsewhere[1]": "RPC, 1 at a time, beside what is not RabbitMQ",
    "elsewhere[32]": "RPC, 32 concurrent, beside what is not RabbitMQ",
    "elsewhere[256]": "RPC, 256 concurrent, beside what is not RabbitMQ",
    "thread": "RPC, 32 concurrent, a synchronous method in a thread",
    "hops": "RPC over three services, 32 concurrent",
    "prometheus": "RPC, 32 concurrent, with and without Prometheus's metrics",
    "telemetry": "RPC, 32 concurrent, with and without OpenTelemetry",
    "published": "Events published, 1,000 outstanding, into a durable queue",
    "awaited[1]": "Events published, each awaited singly",
    "awaited[10]": "Events published, 10 awaited together",
    "awaited[100]": "Events published, 100 awaited together",
    "awaited[1000]": "Events published, 1,000 awaited together",
    "delivered[1]": "Events from publisher to 1 subscriber",
    "delivered[10]": "Events from publisher to 10 subscribers, all handled",
    "backlog": "Backlog of events drained",
    "start": "A service from nothing to ready",
    "import": "Import",
    "outstanding": "Memory of each outstanding request",
    "growth_calls": "Calls of one process, in windows up to 200,000",
    "growth_outstanding": "RPC with more and more outstanding",
}
OURS = {each.label for each in (peers.TRANSPORT, peers.SPEED, peers.TRANSIENT, peers.POSTED)}
OURS |= {each.label for each in (peers.MESH, peers.MESH_SPEED, peers.ADAPTER)}
OURS |= {peers.MESH_PROMETHEUS.label, peers.MESH_THREAD.label}
OURS |= {each.label for each in peers.OTEL}
OURS |= {each.label for each in (*peers.BESIDE_KEYS, *peers.BESIDE_BODIES)}
FLOORS = {each.label for each in peers.FLOORS}


def verdict(results: Results) -> tuple[list[list[str]], int]:
    """Rows of the table of figures, and how many are missed."""
    rows = []
    missed = 0
    for figure in FIGURES:
        try:
            value = figure.value(results)
        except KeyError:  # that scenario was not run, or that side does not run here
            rows.append([figure.text, f"{figure.kind} {figure.bound:,g}{figure.unit}", "-", "-"])
            continue
        held = figure.held(value)
        missed += not held
        shown = f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
        told = f"{shown}{figure.unit}"
        bound = f"{figure.kind} {figure.bound:,g}{figure.unit}"
        rows.append([figure.text, bound, told, "held" if held else "MISSED"])
    for text, value_of in UNBOUNDED:
        try:
            rows.append([text, "", f"{value_of(results):,.2f} times", ""])
        except KeyError:
            continue
    return rows, missed


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def scenario_table(kept: Scenario) -> str:
    """One scenario: medians, and the spread of its rates."""
    if kept.name == "outstanding":
        rows = [[label, f"{kept.median(label, 'bytes'):,.0f}"] for label in kept.sides]
        return markdown(["", "bytes"], rows)
    if kept.name in ("start", "import"):
        rows = [
            [
                label,
                f"{kept.median(label, 'seconds') * 1000:,.0f}",
                f"{kept.median(label, 'cpu') * 1000:,.0f}",
            ]
            for label in kept.sides
        ]
        return markdown(["", "ms", "ms CPU"], rows)
    known = {name for side in kept.sides.values() for name in side}
    rows = [list(_row(kept, label, known)) for label in kept.sides]
    head = ["", "each second", "from - to", "µs CPU each", "µs of the broker's"]
    if "p50" in known:
        head += ["ms median", "ms p99"]
    if "load" in known:
        head.append("encrypted, each second")
    return markdown(head, rows)


def _row(kept: Scenario, label: str, known: Set[str]) -> Iterator[str]:
    rates = kept.rates(label)
    yield f"**{label}**" if label in OURS else label
    yield f"{median(rates):,.0f}"
    yield f"{min(rates):,.0f} - {max(rates):,.0f}"
    yield f"{median(kept.each(label, 'cpu')) * 1e6:,.1f}"
    yield f"{median(kept.each(label, 'broker')) * 1e6:,.0f}"
    if "p50" in known:
        yield f"{kept.median(label, 'p50') * 1000:,.2f}"
        yield f"{kept.median(label, 'p99') * 1000:,.2f}"
    if "load" in known:
        yield f"{kept.median(label, 'load'):,.0f}"


def pages(results: Results) -> Iterator[str]:
    """figures.md, piece by piece."""
    yield "# Figures of a quick run: indicative only\n" if results.quick else "# Figures of a run\n"
    yield (
        f"{results.date}, {machine(results)}; {_versions(results)}. Written by `scripts/bench`; "
        "benchmarks/README.md says how to read it.\n"
    )
    yield "## Compared\n"
    yield markdown(["", "measured"], [[text, told] for text, _, told, _ in verdict(results)[0]])
    for kept in results.scenarios.values():
        yield f"## {TITLES.get(kept.name, kept.name)}\n"
        yield scenario_table(kept)
        for label, reason in kept.missing.items():
            yield f"{label} does not run here: {reason}\n"


def machine(results: Results) -> str:
    """Tell where a run was measured."""
    on = results.machine
    return (
        f"{on['cpu']}, {on['cores']} cores that the broker shares, Python {on['python']}, RabbitMQ "
        f"{results.broker}"
    )


def _versions(results: Results) -> str:
    versions: dict[str, str] = {}
    for kept in results.scenarios.values():
        versions |= kept.versions
    known = (peers.AIO_PIKA, peers.FASTSTREAM, peers.AIORMQ)
    return ", ".join(f"{each.label} {versions.get(each.label, '-')}" for each in known)


def pictures(results: Results) -> Iterator[tuple[str, str, list[Panel]]]:
    """Name, title and panels of those that can be drawn."""
    for name, scenario, handler in (
        ("rpc", "rpc[32]", "answers at once"),
        ("waiting", ONCE_32, "awaits once"),
    ):
        kept = results.scenarios.get(scenario)
        if kept is not None:
            title = f"RPC, 32 concurrent, 600 bytes of JSON both ways: a handler that {handler}"
            yield name, title, _call_panels(kept)
    published, delivered = (results.scenarios.get(name) for name in ("published", "delivered[1]"))
    if published is not None and delivered is not None:
        panels = [
            _panel(published, "published per second, 1,000 outstanding", published.rates),
            _panel(delivered, "handled per second, end to end", delivered.rates),
        ]
        yield "events", "Events: ours persistent and confirmed, unless it says transient", panels


def _call_panels(kept: Scenario) -> list[Panel]:
    return [
        _panel(kept, "calls per second: more is better", kept.rates),
        _panel(
            kept, "µs CPU per call, both ends: less is better", lambda label: _micro(kept, label)
        ),
    ]


def _micro(kept: Scenario, label: str) -> list[float]:
    return [each * 1e6 for each in kept.each(label, "cpu")]


def _panel(kept: Scenario, title: str, values: Callable[[str], list[float]]) -> Panel:
    bars = []
    for label in kept.sides:
        kind = "ours" if label in OURS else "floor" if label in FLOORS else "theirs"
        measured = values(label)
        bars.append(Bar(label, median(measured), min(measured), max(measured), kind))
    return Panel(title, bars)


def files(results: Results) -> Iterator[tuple[str, str]]:
    """Yield name and text of each file that is made of a run alone."""
    yield "figures.md", "\n".join(pages(results))
    if not results.quick:
        yield "targets.md", targets.page(results)
    for name, title, panels in pictures(results):
        for theme in THEMES:
            yield f"{name}-{theme.name}.svg", draw(title, panels, theme)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__)
    parser.add_argument("source", metavar="RUN.json", type=Path, help="kept, or pytest-benchmark's")
    parser.add_argument("folder", type=Path, help="where run.json, tables and pictures are written")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a figure is missed")
    given = parser.parse_args()
    if not given.source.is_file():
        parser.error(f"{given.source} is no file; scripts/bench keeps a run in benchmarks/results")
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    kept = run.read(given.source)
    run.write(kept, folder / "run.json")
    results = Results(kept)
    for name, written in files(results):
        (folder / name).write_text(written, encoding="utf-8")
    rows, missed = verdict(results)
    for text, bound, value, word in rows:
        print(f"{text:48}{bound:>20}{value:>14}  {word}")
    if "import" in results.scenarios and results.not_needed():
        print(f"not needed at import: {', '.join(results.not_needed())}")
    print(f"{missed} missed; tables and pictures are in {folder}")
    return 1 if given.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
