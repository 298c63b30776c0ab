"""Draw one trace, as real services made it, as a picture for the docs.

    python -m tests.tools.trace_image docs/images/trace.svg

starts a private node; an HTTP request asks a service, which asks another one, sends it a command
and adds an event.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan

from nuropb_rmq import Mesh
from nuropb_rmq.asgi import get_mesh, lifespan
from nuropb_rmq.telemetry import Links
from nuropb_rmq.testing import RabbitMQNode

from ..asgi.support import Served
from ..telemetry.services import Orders, Stock
from ..telemetry.support import Recorded, Traced, parent_of, span_id

_COLOURS: Final = {
    "SERVER": "#4c78a8",
    "CLIENT": "#72b7b2",
    "PRODUCER": "#e0a03a",
    "CONSUMER": "#9d75b5",
    "INTERNAL": "#8a8a8a",
}
_ROW: Final = 24
_NAMES: Final = 560
_BARS: Final = 520
_STYLE: Final = (
    "text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#24292f}"
    ".back{fill:#fff}.line{stroke:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.line{stroke:#30363d}}"
)

TheMesh = Annotated[Mesh, Depends(get_mesh)]


async def record(url: str) -> Recorded:
    """Make one HTTP request, and return the spans of all that it brought about."""
    recorded = Recorded()
    meshes = Traced(url, recorded)
    meshes.options = {"links": Links.CHILD}
    orders, stock = Orders(), Stock()
    orders.mesh = await meshes.serve(orders)
    await meshes.serve(stock)
    app = FastAPI(lifespan=lifespan(meshes.mesh(service_name="front")))

    @app.post("/orders/{number}")
    async def place(number: int, mesh: TheMesh) -> Any:
        return await mesh.request("orders", "place", {"number": number})

    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=recorded.tracer_provider, exclude_spans=["receive", "send"]
    )
    async with Served(app) as served:
        for _ in range(2):  # the first one fetches the services' descriptions
            recorded.clear()
            (await served.http.post("/orders/7")).raise_for_status()
            await recorded.count("POST /orders/{number}")
            await recorded.count("process nuropb-events-exchange:orders.*:nuropb-stock-sq")
            await recorded.count("process nuropb-rpc-exchange:stock:nuropb-stock-sq", 2)
    FastAPIInstrumentor.uninstrument_app(app)
    await meshes.stop()
    return recorded


def in_order(spans: list[ReadableSpan]) -> Iterator[tuple[ReadableSpan, int]]:
    """Yield each span and its depth, children below their parents."""
    known = {span_id(each) for each in spans}

    def below(parent: int | None, depth: int) -> Iterator[tuple[ReadableSpan, int]]:
        for each in spans:
            over = parent_of(each) if parent_of(each) in known else None
            if over == parent:
                yield each, depth
                yield from below(span_id(each), depth + 1)

    return below(None, 0)


def draw(spans: list[ReadableSpan]) -> str:
    """Return the picture: a row for each span, its name and kind, and its time as a bar."""
    rows = list(in_order(spans))
    begin = min(each.start_time or 0 for each in spans)
    whole = max(each.end_time or 0 for each in spans) - begin
    width, height = _NAMES + _BARS + 90, (len(rows) + 1) * _ROW + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="A trace of {len(rows)} spans"><style>{_STYLE}</style>',
        f'<rect class="back" width="{width}" height="{height}"/>',
    ]
    for number, (span, depth) in enumerate(rows):
        start, end = (span.start_time or 0) - begin, (span.end_time or 0) - begin
        left, length = _NAMES + start / whole * _BARS, max(2, (end - start) / whole * _BARS)
        top = 8 + number * _ROW
        colour = _COLOURS[span.kind.name]
        parts += [
            f'<rect x="{8 + depth * 18}" y="{top + 6}" width="10" height="10" fill="{colour}"/>',
            f'<text x="{24 + depth * 18}" y="{top + 16}">{escape(span.name)}</text>',
            f'<rect x="{left:.1f}" y="{top + 4}" width="{length:.1f}" height="14" '
            f'fill="{colour}"/><text x="{left + length + 5:.1f}" y="{top + 16}">'
            f"{(end - start) / 1e6:.1f} ms</text>",
            f'<path class="line" d="M0 {top + _ROW - 1}H{width}"/>',
        ]
    x = 8
    for kind, colour in _COLOURS.items():
        if any(each.kind.name == kind for each in spans):
            y = 8 + len(rows) * _ROW
            parts.append(f'<rect x="{x}" y="{y + 6}" width="10" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{x + 16}" y="{y + 16}">{kind}</text>')
            x += 110
    return "\n".join((*parts, "</svg>\n"))


def main(path: Path) -> None:
    """Record, and write the picture."""
    with RabbitMQNode() as node:
        recorded = asyncio.run(record(node.amqp_url))
    print(recorded.tree)
    path.write_text(draw(recorded.spans), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
