"""Steps that are taken with handlers that wait: none keeps another from its own."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, cast

import pytest

from nuropb_rmq.transport import handler_deadlines
from nuropb_rmq.transport.delivery import Delivery, Pace
from nuropb_rmq.transport.handler_deadlines import HandlerDeadlines

from ...support import LOG, eventually


class Work:
    """A delivery, as far as it is watched."""

    def __init__(self) -> None:
        self.arrived = monotonic()
        self.pace = Pace.IN_TIME
        self.task: Any = asyncio.ensure_future(asyncio.Event().wait())
        self.log = LOG

    @property
    def head(self) -> Any:
        raise LookupError("a filter of a program's own, for example")


async def test_what_cannot_be_logged_is_cancelled_all_the_same() -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    deadlines = HandlerDeadlines(0.05, 0.02)
    works = [Work(), Work()]
    for work in works:
        deadlines.add(cast(Delivery, work))
    await eventually(lambda: all(work.task.cancelled() for work in works))
    assert [work.pace for work in works] == [Pace.OVERDUE] * 2
    assert raised


@pytest.mark.parametrize("watchdog", [0.01, 60.0])
async def test_a_stack_is_shown_before_the_handler_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, watchdog: float
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(HandlerDeadlines, "_warn", lambda *_: steps.append("warn"))
    monkeypatch.setattr(HandlerDeadlines, "_show", lambda *_: steps.append("show"))
    deadlines = handler_deadlines.HandlerDeadlines(0.05, watchdog)
    work = Work()
    deadlines.add(cast(Delivery, work))
    await eventually(work.task.cancelled)
    assert sorted(steps) == ["show", "warn"]
