"""Pictures of the services of a virtual host, again and again: what `top` does."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, Final

from rich import box
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import nuropb_rmq

from ..printable import printable
from .board import Board, Row
from .conventions import PARTLY, CommandError, counted
from .verbs import At
from .who import seen

REPORTS: Final = "nuropb.stats.#"
_COLUMNS: Final = (
    (
        110,
        (
            "inst", "state", "in/s", "fail/s", "retry/s", "redel/s", "p50", "p99", "run", "hand",
            "outbox", "wait", "dead",
        ),
    ),
    (72, ("inst", "state", "in/s", "p50", "p99", "run", "wait", "dead")),
    (0, ("state", "in/s", "p99", "wait", "dead")),
)  # fmt: skip
"""The columns of the table, by the columns that a terminal must have."""
_STYLES: Final = {"READY": "green", "OUTAGE": "yellow", "BLOCKED": "yellow", "-": "dim"}
_AT_LEAST: Final = 5.0
"""Seconds between two looks at the management API: its figures are no younger."""


async def show(
    at: At,
    *,
    every: float,
    count: int | None,
    plain: bool,
    each: bool,
    management_url: str | None,
) -> int:
    """Show pictures, `every` seconds one; with `each`, a line for each instance, too.

    Returns the exit status: whether the last picture has all figures.
    """
    board = Board()
    looking = _Looking(at, board, management_url)
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(
            nuropb_rmq.EventListener(at.broker, REPORTS, on_interrupted=looking.interrupted)
        )
        tasks = [
            asyncio.create_task(_take(listener, board), name="nuropb-top-reports"),
            asyncio.create_task(looking.run(every), name="nuropb-top-queues"),
        ]
        stack.push_async_callback(_end, tasks)
        tasks.append(asyncio.create_task(looking.first(), name="nuropb-top-looked"))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        console = at.out.console
        live = console.is_terminal and not (plain or at.json or console.is_dumb_terminal)
        draw = stack.enter_context(_live(at)) if live else None
        left = -1 if count is None else count
        while left:
            for task in tasks:
                if task.done():
                    task.result()  # raises what has ended it
            rows = board.rows(time.monotonic(), each=each)
            if at.json:
                at.out.data(
                    {
                        "services": [_dict(row) for row in rows],
                        "alarms": looking.alarms,
                        "problem": looking.problem,
                    }
                )
            elif draw is not None:
                draw.update(_picture(rows, looking, at.out.console.width), refresh=True)
            else:
                at.out.console.print(_picture(rows, looking, at.out.console.width))
            left -= 1
            if left:
                await asyncio.sleep(every)
        return PARTLY if looking.problem else 0


class _Looking:
    """Looks at the queues again and again, and remembers what is wrong."""

    def __init__(self, at: At, board: Board, management_url: str | None) -> None:
        self._config = nuropb_rmq.TransportConfig(
            amqp_url=at.broker, service_name="nuropb-top", client_only=True
        )
        self._board = board
        self._management_url = management_url
        self._queues: str | None = None
        self._reports: str | None = None
        self.looked = asyncio.Event()
        self.alarms: tuple[str, ...] | None = None
        """Those of the broker, in words; None: not known."""

    @property
    def problem(self) -> str | None:
        """The figures that cannot be shown, and the reason; None: all are."""
        problems = [each for each in (self._reports, self._queues) if each]
        return "; ".join(problems) or None

    async def first(self) -> None:
        """Wait until it has looked."""
        await self.looked.wait()

    def interrupted(self, error: nuropb_rmq.NuropbTransportError | None) -> None:
        """Note that reports are missed, or no longer."""
        self._reports = f"reports are missed: {error}" if error else None

    async def run(self, every: float) -> None:
        """Look, until it is cancelled."""

        while True:
            try:
                found = await seen(self._config, self._management_url)
                self._board.take_queues(found.services)
                self.alarms = found.alarms
                self._queues = "alarms are not told" if found.alarms is None else None
            except CommandError as e:
                self.alarms, self._queues = None, f"no queues: {e}"
            self.looked.set()
            await asyncio.sleep(max(every, _AT_LEAST))


async def _take(listener: nuropb_rmq.EventListener, board: Board) -> None:
    async for event in listener:
        board.take_report(event.event, time.monotonic())


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# -- the picture ------------------------------------------------------------------------------


def _live(at: At) -> Any:
    # The terminal's other screen: Ctrl-C brings back what was there.
    return Live(console=at.out.console, screen=True, auto_refresh=False)


def _picture(rows: list[Row], looking: _Looking, width: int) -> Any:
    head = Text(f"{time.strftime('%H:%M:%S')}  {_summary(rows)}", style="bold")
    # Above the states: under an alarm services cannot report, and look silent.
    alarms = [Text(printable(each, 300), style="bold red") for each in looking.alarms or ()]
    parts: list[Any] = [head, *alarms, _table(rows, width)]
    if looking.problem:
        parts.append(Text(printable(looking.problem, 300), style="yellow"))
    return Group(*parts)


def _summary(rows: list[Row]) -> str:
    services = [row for row in rows if not row.instance]
    letters = sum(row.dead_letters or 0 for row in services)
    waiting = sum(row.waiting or 0 for row in services)
    return (
        f"{counted(len(services), 'service')}, {counted(waiting, 'message')} "
        f"{'waits' if waiting == 1 else 'wait'}, {counted(letters, 'dead letter')}"
    )


def _table(rows: list[Row], width: int) -> Table:
    names = next(names for least, names in _COLUMNS if width >= least)
    lines = [(row, _cells(row)) for row in rows]
    # Figures are shown whole, so names have what is left.
    taken = sum(2 + max(len(name), *(len(cells[name]) for _, cells in lines), 0) for name in names)
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1), header_style="bold"
    )
    table.add_column("service", width=max(8, width - taken - len(names)), no_wrap=True)
    for name in names:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for row, cells in lines:
        style = _STYLES.get(row.state, "red")
        name = f"  {row.instance}" if row.instance else row.service
        table.add_row(
            Text(printable(name, 80)),
            *(Text(cells[each], style=style if each == "state" else "") for each in names),
        )
    return table


def _cells(row: Row) -> dict[str, str]:
    return {
        "inst": str(row.instances),
        "state": row.state,
        "in/s": _rate(row.received),
        "fail/s": _rate(row.failed),
        "retry/s": _rate(row.retried),
        "redel/s": _rate(row.redelivered),
        "p50": _duration(row.p50),
        "p99": _duration(row.p99),
        "run": _count(row.running),
        "hand": _count(row.in_hand),
        "outbox": _count(row.outbox),
        "wait": _count(row.waiting),
        "dead": _count(row.dead_letters),
    }


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 9.95 or not value else f"{value:.1f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
    return f"{seconds:.1f} s"


def _dict(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}
