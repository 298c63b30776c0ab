"""Draw docs/images/exchanges-*.svg: exchanges and queues, by the names that the code declares.

    python -m tests.tools.exchanges_image

tests/unit/test_reference.py compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from nuropb_rmq import Retry, TransportConfig
from nuropb_rmq.broker.topology import Topology

FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
WIDTH: Final = 960
HEIGHT: Final = 430

THEMES: Final[Mapping[str, Mapping[str, str]]] = {
    "light": {
        "paper": "#ffffff", "ink": "#1f2328", "faint": "#59636e", "edge": "#d1d9e0",
        "exchange": "#eef4ff", "queue": "#f6f8fa", "program": "#ffffff",
        "call": "#0b57d0", "event": "#146c2e", "response": "#8250df",
        "retry": "#9a6700", "dead": "#c5221f",
    },
    "dark": {
        "paper": "#0d1117", "ink": "#e6edf3", "faint": "#9aa4af", "edge": "#3d444d",
        "exchange": "#152238", "queue": "#161b22", "program": "#0d1117",
        "call": "#79b8ff", "event": "#56d364", "response": "#d2a8ff",
        "retry": "#e3b341", "dead": "#ff8a80",
    },
}  # fmt: skip


def pictures() -> Iterator[tuple[Path, str]]:
    """Yield each picture: where it is, and its text."""
    for theme, colours in THEMES.items():
        yield FOLDER / f"exchanges-{theme}.svg", "\n".join(_svg(colours)) + "\n"


def _svg(colours: Mapping[str, str]) -> Iterator[str]:
    delay = Retry().delays[1]
    config = TransportConfig(amqp_url="amqp://h", service_name="orders", retry_delays=(delay,))
    orders = Topology.of(config, "1")
    billing = Topology.of(TransportConfig(amqp_url="amqp://h", service_name="billing"), "1")
    assert orders.service_queue
    assert billing.service_queue
    assert orders.dead_letters
    assert orders.dead_letters.exchange
    client = TransportConfig(amqp_url="amqp://h", service_name="client", client_only=True)
    answers = client.response_queue_name("1").replace("-1-", "-{instance}-")

    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    yield "<title>Exchanges and queues of a client and the services orders and billing</title>"
    yield "<defs>"
    for kind in ("call", "event", "response", "retry", "dead"):
        yield (
            f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{colours[kind]}"/>'
            "</marker>"
        )
    yield "</defs>"
    yield (
        "<style>text{font:12px system-ui,sans-serif;fill:" + colours["ink"] + "}"
        ".name{font-family:ui-monospace,monospace;font-size:11.5px}"
        ".faint{fill:" + colours["faint"] + ";font-size:11px}</style>"
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{colours["paper"]}"/>'

    # What moves, below the boxes.
    yield from _arrow(colours, "event", "M130 80H228", "event", (140, 72))
    yield from _arrow(colours, "event", "M410 72H538", "topic", (452, 65))
    yield from _arrow(colours, "event", "M410 88H470V160H538", "topic", (478, 128))
    yield from _arrow(colours, "event", "M740 72H808", "", (0, 0))
    yield from _arrow(
        colours, "call", "M130 172H228", "request,", (138, 164), "command", (138, 188)
    )
    yield from _arrow(colours, "call", "M410 180H538", "orders", (440, 196))
    yield from _arrow(colours, "call", "M740 172H808", "one of all instances", (0, 0))
    yield from _arrow(
        colours, "response", "M830 194V232H330V262", "response (default exchange)", (338, 226)
    )
    yield from _arrow(colours, "response", "M228 284H132", "", (0, 0))
    yield from _arrow(colours, "retry", "M860 194V284H782", "fails: retry", (790, 278))
    yield from _arrow(colours, "retry", "M640 262V196", f"after {delay} s", (648, 254))
    yield from _arrow(colours, "dead", "M890 194V372H772", "fails for good", (790, 366))
    yield from _arrow(colours, "dead", "M600 372H542", "", (0, 0))
    yield from _arrow(colours, "dead", "M310 372H212", "", (0, 0))
    yield from _arrow(colours, "dead", "M556 194V312H620V348", "rejected, expired", (500, 326))

    yield from _program(colours, 20, 50, 110, 254, "a client", "Mesh(url)")
    yield from _exchange(colours, 230, 58, 180, orders.events_exchange.name, "topic exchange")
    yield from _exchange(colours, 230, 150, 180, orders.rpc_exchange.name, "direct exchange")
    yield from _queue(colours, 540, 50, 200, billing.service_queue.name, "queue of billing")
    yield from _queue(colours, 540, 150, 200, orders.service_queue.name, "queue of orders")
    yield from _queue(colours, 230, 262, 230, answers, "answers, of one process")
    yield from _queue(colours, 590, 262, 190, orders.retry_queues[0].name, "waits, comes back")
    yield from _exchange(colours, 600, 350, 170, orders.dl_exchange.name, "fanout exchange")
    yield from _exchange(
        colours, 310, 350, 230, orders.dead_letters.exchange.name, "headers exchange"
    )
    yield from _queue(
        colours, 40, 350, 170, orders.dead_letters.queue.name, "dead letters of orders"
    )
    yield from _program(colours, 810, 50, 130, 44, "billing", "a service")
    yield from _program(colours, 810, 150, 130, 44, "orders", "a service")
    yield "</svg>"


def _arrow(
    colours: Mapping[str, str], kind: str, path: str, *labels: str | tuple[int, int]
) -> Iterator[str]:
    colour = colours[kind]
    yield (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" '
        f'marker-end="url(#{kind})"/>'
    )
    for text, at in zip(labels[::2], labels[1::2], strict=True):
        if isinstance(at, tuple) and at != (0, 0):
            yield f'<text x="{at[0]}" y="{at[1]}" style="fill:{colour}">{text}</text>'


def _program(
    colours: Mapping[str, str], x: int, y: int, width: int, height: int, name: str, about: str
) -> Iterator[str]:
    yield _box(colours, x, y, width, height, "program", "ink", 4)
    yield from _texts(x + width // 2, y + height // 2, name, about, "")


def _exchange(
    colours: Mapping[str, str], x: int, y: int, width: int, name: str, about: str
) -> Iterator[str]:
    yield _box(colours, x, y, width, 44, "exchange", "call", 22)
    yield from _texts(x + width // 2, y + 22, name, about)


def _queue(
    colours: Mapping[str, str], x: int, y: int, width: int, name: str, about: str
) -> Iterator[str]:
    yield _box(colours, x, y, width, 44, "queue", "faint", 0)
    for at in (6, 11):
        yield (f'<path d="M{x + width - at} {y}v44" stroke="{colours["faint"]}" stroke-width="1"/>')
    yield from _texts(x + (width - 10) // 2, y + 22, name, about)


def _box(
    colours: Mapping[str, str], x: int, y: int, width: int, height: int,
    fill: str, edge: str, round_by: int,
) -> str:  # fmt: skip
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{round_by}" '
        f'fill="{colours[fill]}" stroke="{colours[edge]}" stroke-width="1.2"/>'
    )


def _texts(x: int, middle: int, name: str, about: str, kind: str = "name") -> Iterator[str]:
    yield f'<text class="{kind}" x="{x}" y="{middle - 3}" text-anchor="middle">{name}</text>'
    yield f'<text class="faint" x="{x}" y="{middle + 13}" text-anchor="middle">{about}</text>'


if __name__ == "__main__":
    for path, text in pictures():
        path.write_text(text, encoding="utf-8")
