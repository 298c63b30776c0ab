"""`listen`: events as they are published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import nuropb_rmq

from .conventions import FAILED, CommandError
from .verbs import At, verb

if TYPE_CHECKING:
    from nuropb_rmq import NuropbTransportError, ReceivedEvent

Patterns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATTERN]...",
        help="Topics, with * for a word and # for any words. [default: #]",
        show_default=False,
    ),
]
Count = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="End after N events.", show_default=False)
]
For = Annotated[
    float | None,
    typer.Option(
        "--for", metavar="SECONDS", min=0.01, max=10**7, help="End then.", show_default=False
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "listen")(listen)


async def listen(
    at: At, patterns: Patterns = None, *, count: Count = None, seconds: For = None
) -> None:
    """Print events as they are published, until Ctrl-C; take none from anybody.

    nuropb-rmq listen 'orders.*' '#.failed' --count 10

    Its queue ends with it. With --json each event is a line: topic, event, target, context, ids.
    """

    import asyncio  # noqa: PLC0415 - --help needs no event loop

    lost: NuropbTransportError | None = None

    def interrupted(error: NuropbTransportError | None) -> None:
        nonlocal lost
        lost = error
        at.out.note(f"events are missed: {error}" if error else "listening again", style="yellow")

    async with nuropb_rmq.EventListener(
        at.broker, *(patterns or ()), on_interrupted=interrupted
    ) as listener:
        at.out.note(f"listening to {', '.join(patterns or ['#'])}; Ctrl-C ends it", style="dim")
        left = -1 if count is None else count
        try:
            async with asyncio.timeout(seconds):
                while left:
                    _print(at, await anext(listener))
                    left -= 1
        except TimeoutError:
            pass
    if lost is not None:
        raise CommandError(f"the connection did not come back: {lost}", FAILED)


def _print(at: At, event: ReceivedEvent) -> None:
    if at.json:
        data = {
            "topic": event.topic,
            "event": event.event,
            "target": event.target,
            "context": event.context,
            "correlation_id": event.correlation_id,
            "trace_id": event.trace_id,
        }
        if event.problem is not None:
            data |= {"problem": event.problem, "body_size": event.body_size}
        at.out.data(data)
    elif event.problem is not None:
        at.out.flat(event.topic, f"no event: {event.problem} ({event.body_size} bytes)")
    else:
        at.out.flat(event.topic, event.event)
