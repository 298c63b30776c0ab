"""Tests of the log of a lost connection that comes back, from this library and from others."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator

import pytest

from nuropb_rmq import State

from ..faults.proxy import Proxy
from ..support import Recorder, Transports, Watch
from ..unit.broker.test_quiet import heard

FOREIGN = ("aiormq", "aio_pika")


@pytest.fixture
async def proxy(mesh: Transports) -> AsyncIterator[Proxy]:
    """In front of the node."""
    async with Proxy(mesh.url) as made:
        yield made


async def test_a_recovery_is_a_line_each_for_the_fall_and_the_return(
    mesh: Transports, proxy: Proxy, caplog: pytest.LogCaptureFixture
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
    mesh: Transports, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    service = await mesh.service(Recorder(), amqp_url=proxy.url)
    watch = Watch(service)
    with caplog.at_level(logging.WARNING, "aiormq"):
        proxy.reset()
        await watch.recovered()
    assert heard(caplog, "aiormq")
    assert service.state is State.READY
