"""Row 23: a request expires in the queue."""

from __future__ import annotations

import pytest

from nuropb_rmq import NuropbTimeoutError

from ..support import Recorder, Transports, request, result_of


async def test_row_23_a_request_that_expires_in_the_queue_is_never_handled(
    mesh: Transports,
) -> None:
    recorder = Recorder()
    service = await mesh.service(recorder)
    await service.stop()
    client = await mesh.client()
    with pytest.raises(NuropbTimeoutError):
        await client.request(request(number=1), timeout=0.2)
    await service.start()
    assert result_of(await client.request(request(number=2))) == {"number": 2}
    assert [each.payload["params"] for each in recorder.seen] == [{"number": 2}]
