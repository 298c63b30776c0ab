"""A parent that forks while it is connected, and its child, which tries all that it may not."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from nuropb_rmq import State, Transport, TransportClosedError, TransportConfig

REQUEST = {"tag": "request", "service": "orders", "method": "echo", "params": {"n": 1}}
COMMAND = {**REQUEST, "tag": "command"}


async def handle(message: Any) -> Any:
    """Answer with the parameters."""
    return message.payload["params"]


async def tries(transport: Transport) -> None:
    """In the child, in a loop of its own."""
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: transport.post(COMMAND),
        lambda: transport.send(COMMAND),
        lambda: transport.request(REQUEST),
        lambda: transport.wait_for(State.READY),
    ]
    for call in calls:
        with pytest.raises(TransportClosedError, match="forked"):
            async with asyncio.timeout(5):
                await call()
    async with asyncio.timeout(5):
        await transport.stop_consuming()
        await transport.stop()
        await transport.start()
        answer = await transport.request(REQUEST, timeout=5)
        assert answer["result"] == {"n": 1}, answer
        await transport.stop()


def child(transport: Transport, end: str) -> None:
    """Do the child's part; in the loop of its parent it may not even wait."""
    try:
        assert transport.state is State.STOPPED, transport.state
        with pytest.raises(TransportClosedError, match="forked"):
            transport.post(COMMAND)
        failed: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(tries(transport))
            except BaseException as e:  # noqa: BLE001 - it is told below
                failed.append(e)

        # In a thread: to this one it may seem that the parent's loop runs yet.
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        gc.collect()
        os.write(1, b"child: done\n")
    except BaseException as e:  # noqa: BLE001 - nothing of the child may reach the parent's code
        os.write(2, f"child: {e!r}\n".encode())
        os._exit(1)
    if end == "_exit":
        os._exit(0)
    if end == "exit":
        sys.exit(0)


async def main(url: str, end: str) -> None:
    """Fork, wait for the child, and go on."""
    transport = Transport(TransportConfig(amqp_url=url, service_name="orders"), handle)
    await transport.start()
    states: list[State] = []
    transport.on_state_change(lambda state, _: states.append(state))
    pid = os.fork()
    if pid == 0:
        child(transport, end)
        return  # through the loop, whose tasks are cancelled
    ended = 0, 0
    async with asyncio.timeout(30):
        while not ended[0]:
            # In a thread its end might wake nobody: the child shares what wakes this loop.
            ended = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
            await asyncio.sleep(0.01)
    assert ended[1] == 0, ended
    for _ in range(20):
        await transport.send(COMMAND, timeout=5)
    answer = await transport.request(REQUEST, timeout=5)
    assert answer["result"] == {"n": 1}, answer
    assert not states, states
    await transport.stop()
    os.write(1, b"parent: done\n")


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[3] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(sys.argv[1], sys.argv[2]))
