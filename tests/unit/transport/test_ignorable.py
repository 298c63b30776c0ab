"""Errors of what nobody waits for: logged, and equal ones of one turn of the loop as one line."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import NuropbTransportError
from nuropb_rmq.transport.ignorable import Ignorable

from ...support import eventually


class Sent(Ignorable[None]):
    failure = "it was not sent"


def fail(text: str, loop: asyncio.AbstractEventLoop) -> None:
    """A future with this error, which is forgotten."""
    Sent(loop=loop).set_exception(NuropbTransportError(text))


async def test_equal_errors_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    for text in ("lost", "lost", "refused", "lost"):
        fail(text, loop)
    assert caplog.messages == []
    await eventually(lambda: caplog.messages)
    assert caplog.messages == ["it was not sent: lost (3 times)", "it was not sent: refused"]
    fail("lost", loop)
    await eventually(lambda: len(caplog.messages) == 3)
    assert caplog.messages[-1] == "it was not sent: lost"


async def test_an_error_that_was_asked_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    future = Sent(loop=asyncio.get_running_loop())
    future.set_exception(NuropbTransportError("lost"))
    with pytest.raises(NuropbTransportError):
        await future
    del future
    await asyncio.sleep(0)
    assert caplog.messages == []


def test_what_a_loop_leaves_is_told_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """In its last turn, when it is closed, and afterwards."""
    loop = asyncio.new_event_loop()

    async def last_turn() -> None:
        for _ in range(3):
            fail("lost", loop)

    loop.run_until_complete(last_turn())
    loop.close()
    assert caplog.messages == ["it was not sent: lost (3 times)"]
    fail("late", loop)
    assert caplog.messages[1:] == ["it was not sent: late"]
