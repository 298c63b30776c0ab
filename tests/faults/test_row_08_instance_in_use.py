"""Row 8: a second instance with the same instance_id."""

from __future__ import annotations

import asyncio

import pytest

from nuropb_rmq import InstanceInUseError, State

from ..seams import connections_of
from ..support import Recorder, Transports, eventually, request, result_of
from .common import within


async def test_row_08_the_second_is_refused_and_the_first_never_notices(mesh: Transports) -> None:
    first = await mesh.service(Recorder(), instance_id="one")
    states: list[State] = []
    first.on_state_change(lambda state, _: states.append(state))
    second = mesh.transport("orders", Recorder(), instance_id="one", instance_retry=0.5)
    with within(0.5 + 5), pytest.raises(InstanceInUseError, match="same instance_id") as refused:
        await second.start()
    assert refused.value.close_connection
    assert str(refused.value).startswith(f"orders/one at {second.config.broker} (consuming): queue")
    assert second.config.broker.vhost in str(refused.value)
    assert second.state is State.STOPPED
    client = await mesh.client()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert states == []


async def test_row_08_a_predecessor_that_goes_away_in_time_is_waited_for(mesh: Transports) -> None:
    first = await mesh.service(Recorder(), instance_id="one")
    second = mesh.transport("orders", Recorder(), instance_id="one")
    starting = asyncio.create_task(second.start())
    # It was refused once.
    await eventually(lambda: any(each.tries for each in connections_of(second)))
    assert not starting.done()
    await first.stop()
    await starting
    assert second.state is State.READY
