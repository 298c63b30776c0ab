"""`top`: what the services of a virtual host do, live."""

from __future__ import annotations

from typing import Annotated

import typer

from .verbs import At, ManagementUrl, verb

Every = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.2, max=3600, help="Between two pictures.")
]
Count = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="End after N pictures.", show_default=False)
]
Plain = Annotated[bool, typer.Option("--plain", help="Print one picture below the other.")]
Each = Annotated[bool, typer.Option("--instances", help="A line for each instance, too.")]


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    verb(app, "top")(top)


async def top(
    at: At,
    *,
    every: Every = 2.0,
    count: Count = None,
    plain: Plain = False,
    instances: Each = False,
    management_url: ManagementUrl = None,
) -> int:
    """Show what all services do, until Ctrl-C: rates, durations, what waits, dead letters.

    Queues come from the management API. Rates, durations and states come from services that report
    them: `nuropb-rmq serve --report 5`, or nuropb_rmq.telemetry.reports.report(mesh).
    """
    from . import live  # noqa: PLC0415 - the help loads no event loop

    return await live.show(
        at, every=every, count=count, plain=plain, each=instances, management_url=management_url
    )
