"""What is logged of a connection that is lost and comes back, and by whom."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextvars import Context

import pytest

from nuropb_rmq import State
from nuropb_rmq.broker.quiet import _ours, quietly
from nuropb_rmq.broker.state import Lifecycle

from ..faults.proxy import Proxy
from ..support import Mesh, Recorder, Watch

FOREIGN = ("aiormq", "aio_pika")


@pytest.fixture
async def proxy(mesh: Mesh) -> AsyncIterator[Proxy]:
    """In front of the node."""
    async with Proxy(mesh.url) as made:
        yield made


def heard(caplog: pytest.LogCaptureFixture, *names: str) -> list[str]:
    """What these libraries have said."""
    return [each.getMessage() for each in caplog.records if each.name.partition(".")[0] in names]


async def test_callbacks_of_a_program_are_not_quiet() -> None:
    """A connection of its own that one of them makes logs as ever."""
    life, seen = Lifecycle(), list[bool]()
    life.on_change(lambda *_: seen.append(_ours.get()))
    life.set(State.CONNECTING, None)

    @quietly
    async def connect() -> None:
        life.set(State.READY, None)

    await connect()
    assert seen == [False, False]


async def test_a_recovery_is_a_line_each_for_the_fall_and_the_return(
    mesh: Mesh, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        service = await mesh.service(Recorder(), amqp_url=proxy.url, instance_id="one")
        watch = Watch(service)
        proxy.reset()
        await watch.recovered()
        await service.stop()
    said = heard(caplog, "nuropb_rmq")
    for role in ("publishing", "consuming"):
        name = rf"orders/one at amqp://guest:\*\*\*@127\.0\.0\.1:\d+/[\w-]+ \({role}\): "
        fall, back = (each for each in said if re.match(name, each))
        assert "recovering: connection lost" in fall
        assert re.search(r"back after \d+\.\d s$", back)
    assert len(said) == 4, said
    assert not heard(caplog, *FOREIGN)


async def test_what_others_log_can_be_turned_on(
    mesh: Mesh, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    service = await mesh.service(Recorder(), amqp_url=proxy.url)
    watch = Watch(service)
    with caplog.at_level(logging.WARNING, "aiormq"):
        proxy.reset()
        await watch.recovered()
    assert heard(caplog, "aiormq")
    assert service.state is State.READY


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
