"""The log of other libraries is kept quiet in the context of our connections only."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context

import pytest

from nuropb_rmq import State
from nuropb_rmq.broker.quiet import quietly
from nuropb_rmq.broker.state import Lifecycle


def heard(caplog: pytest.LogCaptureFixture, *names: str) -> list[str]:
    """Return the records of these libraries."""
    return [each.getMessage() for each in caplog.records if each.name.partition(".")[0] in names]


async def test_callbacks_of_a_program_are_not_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A connection of its own that one of them makes logs as ever."""
    life, foreign = Lifecycle(), logging.getLogger("aiormq.connection")
    life.on_change(lambda state, _: foreign.warning(state.name))
    life.set(State.CONNECTING, None)

    @quietly
    async def connect() -> None:
        life.set(State.READY, None)

    await connect()
    assert heard(caplog, "aiormq") == ["CONNECTING", "READY"]


async def test_what_is_not_ours_is_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    """By the context in which it is logged: that of a connection of ours, or another one."""
    foreign = logging.getLogger("aiormq.connection")

    @quietly
    async def ours() -> None:
        foreign.warning("of ours")
        await asyncio.create_task(log("of a task of ours"))

    async def log(text: str) -> None:
        foreign.warning(text)

    async def theirs() -> None:
        foreign.warning("before")
        await ours()
        foreign.warning("behind")

    with caplog.at_level(logging.WARNING):
        await asyncio.create_task(theirs(), context=Context())
    assert heard(caplog, "aiormq") == ["before", "behind"]
