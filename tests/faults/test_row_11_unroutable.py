"""Row 11: a request or command that no queue takes."""

from __future__ import annotations

import pytest

from nuropb_rmq import NuropbNotDeliveredError

from ..support import Transports, command, event, request
from .common import within

TOLD_WITHIN = 1.0


async def test_row_11_unroutable_request_and_command(mesh: Transports) -> None:
    client = await mesh.client()
    with within(TOLD_WITHIN), pytest.raises(NuropbNotDeliveredError, match="was it ever started"):
        await client.request(request(service="nobody"))
    with within(TOLD_WITHIN), pytest.raises(NuropbNotDeliveredError, match="nobody"):
        await client.send(command(service="nobody"))
    assert client.pending == 0
    await client.send(event("nobody.listens", 1))  # that is nothing wrong: events have no address
