"""Row 44: a handler's task is cancelled, and not by the transport.

A TaskGroup whose child fails, a program that cancels the task of another call, a library that makes
its timeouts of task.cancel(): each is a failure of that handler. Only the end of the event loop
gives messages back.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from nuropb_rmq import Message, State, Transport, mesh_event

from ..encrypting import DL_QUEUE, tapping
from ..mesh.support import Meshes
from ..support import Transports, command, eventually, request, result_of

QUEUE = "nuropb-orders-sq"
HELD = 5
tasks: dict[str, asyncio.Task[object]] = {}


async def child() -> None:
    raise LookupError("a child fails")


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def in_a_group_within_one() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_a_group())
        await asyncio.sleep(60)


async def timeout_of_a_library() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(60)


async def swallowed() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise ValueError("it was cancelled") from None


async def at_once() -> None:
    raise asyncio.CancelledError


async def exits() -> None:
    await asyncio.sleep(0)
    raise SystemExit(1)


ENDS = {
    "in a group": (in_a_group, "ExceptionGroup", "LookupError: a child fails"),
    "in two groups": (in_a_group_within_one, "ExceptionGroup", "LookupError: a child fails"),
    "a timeout": (timeout_of_a_library, "CancelledError", "without a text"),
    "another error": (swallowed, "ValueError", "it was cancelled"),
    "at once": (at_once, "CancelledError", "without a text"),
    "exit": (exits, "SystemExit", "1"),
}


async def handle(message: Message) -> object:
    method = message.payload["method"]
    if method in ENDS:
        await ENDS[method][0]()
    if method == "hold":
        task = asyncio.current_task()
        assert task is not None
        tasks[message.correlation_id] = task
        await asyncio.sleep(60)
    if method == "cancel":
        tasks.popitem()[1].cancel()
    return {}


async def test_row_44_a_handler_that_was_cancelled_by_others_has_failed(mesh: Transports) -> None:
    service = await mesh.service(handle, prefetch_count=2, dead_letter_requests=True)
    client = await mesh.client()
    for method, (_, error, text) in ENDS.items():
        for _ in range(3):  # more than may be in hand: none of them keeps its place
            response = await client.request(request(method), timeout=10)
            assert response["error"] is not None
            assert (response["error"]["error"], text in response["error"]["description"]) == (
                error,
                True,
            ), response
    held = asyncio.create_task(client.request(request("hold")))
    await eventually(lambda: tasks)
    assert result_of(await client.request(request("cancel"))) == {}
    response = await held
    assert response["error"] is not None
    assert response["error"]["error"] == "CancelledError"
    assert service.state is State.READY
    async with tapping(mesh) as tap:
        assert await asyncio.to_thread(tap.depth, QUEUE) == 0
        dead = await asyncio.to_thread(tap.take, DL_QUEUE, 3 * len(ENDS) + 1)
        assert len(dead) == 3 * len(ENDS) + 1


async def test_row_44_a_cancelled_event_handler_leaves_the_others_their_turn(
    meshes: Meshes,
) -> None:
    class Orders:
        def __init__(self) -> None:
            self.seen: list[object] = []

        @mesh_event("orders.made")
        async def a_first(self, event: object) -> None:
            raise asyncio.CancelledError

        @mesh_event("orders.made")
        async def b_second(self, event: object) -> None:
            await in_a_group()

        @mesh_event("orders.made")
        async def c_third(self, event: object) -> None:
            self.seen.append(event)

    orders = Orders()
    mesh = await meshes.serve(orders)
    await mesh.publish_event("orders.made", {"id": 1})
    await eventually(lambda: orders.seen == [{"id": 1}])
    assert [each["event"] for each in await meshes.taken(DL_QUEUE)] == [{"id": 1}]


async def test_row_44_the_end_of_the_loop_gives_messages_back(mesh: Transports) -> None:
    """asyncio.run() ends with messages in hand, and nobody calls stop()."""
    await _queue_commands(mesh)

    async def program() -> None:
        begun = asyncio.Semaphore(0)

        async def hold(_: Message) -> None:
            begun.release()
            await asyncio.sleep(60)

        service = Transport(mesh.config("orders"), hold)
        await service.start()
        for _ in range(HELD):
            await begun.acquire()

    await asyncio.to_thread(asyncio.run, program())
    await _all_are_back(mesh)


PROGRAM = """
import asyncio, signal, sys
from nuropb_rmq import Mesh

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & ignores it

class Orders:
    async def note(self, n: int) -> None:
        print("begun", flush=True)
        await asyncio.sleep(60)

async def main():
    mesh = Mesh(sys.argv[1], service_name="orders", service=Orders())
    await mesh.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_row_44_ctrl_c_gives_messages_back(mesh: Transports) -> None:
    await _queue_commands(mesh)
    process = subprocess.Popen(  # noqa: ASYNC220 - a fork, and no shell
        [sys.executable, "-c", PROGRAM, mesh.url],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(HELD):
        assert await asyncio.to_thread(process.stdout.readline) == "begun\n"
    process.send_signal(signal.SIGINT)
    await asyncio.to_thread(process.communicate, None, 15)
    await _all_are_back(mesh)


async def _queue_commands(mesh: Transports) -> None:
    """Leave commands in the queue of a service that does not run."""
    service = await mesh.service(handle)
    await service.stop()
    client = await mesh.client()
    for n in range(HELD):
        await client.send(command(n=n))


async def _all_are_back(mesh: Transports) -> None:
    async with tapping(mesh) as tap:
        await eventually(lambda: tap.depth(QUEUE) == HELD)
        assert tap.depth(DL_QUEUE) == 0
