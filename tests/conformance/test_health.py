"""`python -m nuropb_rmq health`: what it says of services that run here, and of others."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from nuropb_rmq import NuropbConfigurationError, NuropbRemoteError, Outage, State, blocking
from nuropb_rmq.health_probe import socket_name

from ..cli.command import environment, running
from ..mesh.support import Meshes
from ..support import Watch
from .brokers import Place

PARTS = {
    "publishing_connection", "consuming_connection", "outage", "outbox", "consuming", "event_loop",
}  # fmt: skip


class Orders:
    _service_name = "orders"

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def get(self) -> int:
        if self.error is not None:
            raise self.error
        return 1


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder of the sockets, which is made by the first; its path is short enough for them."""
    with TemporaryDirectory(prefix="nuropb-", dir="/tmp") as parent:
        made = f"{parent}/s"
        monkeypatch.setenv("NUROPB_RMQ_HEALTH_DIR", made)
        yield made
        assert not os.path.exists(made) or os.listdir(made) == [], "a socket is left"


async def probe(*arguments: str) -> tuple[int, str]:
    """Run the command; its status, and all that it printed."""
    async with running(Path(), "health", "--timeout", "30", *arguments) as command:
        status = await command.ended()
        return status, "\n".join(command.lines)


async def told(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command for one instance; its status, and the answer."""
    status, text = await probe(*arguments)
    answer: dict[str, Any] = json.loads(text)
    return status, answer


async def test_one_that_is_ready(meshes: Meshes, folder: str) -> None:
    mesh = await meshes.serve(Orders(), health=True)
    status, answer = await told()
    assert status == 0
    assert set(answer.pop("parts").items()) == {(part, None) for part in PARTS}
    answer.pop("broker", None)
    assert answer == {
        "ready": True,
        "alive": True,
        "service": "orders",
        "instance_id": mesh.instance_id,
        "pid": os.getpid(),
        "state": "READY",
    }
    (name,) = os.listdir(folder)
    assert stat.S_IMODE(os.stat(f"{folder}/{name}").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


async def test_a_client_has_one_connection(meshes: Meshes) -> None:
    await meshes.client(health=True)
    status, answer = await told("--service", "client")
    assert (status, answer["parts"]["connection"]) == (0, None)


async def test_without_a_file_descriptor_it_answers_later(
    meshes: Meshes, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await meshes.serve(Orders(), health=True)
    accept, accepted = socket.socket.accept, 0

    def none_left_at_first(self: socket.socket) -> Any:
        nonlocal accepted
        accepted += 1
        if accepted == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", none_left_at_first)
    assert (await told())[0] == 0
    assert accepted == 2


async def test_one_that_takes_no_more_work(meshes: Meshes) -> None:
    mesh = await meshes.serve(Orders(), health=True)
    await mesh.transport.stop_consuming()
    status, answer = await told()
    assert (status, answer["ready"], answer["state"]) == (1, False, "READY")
    assert answer["reason"] == answer["parts"]["consuming"] == "stopped consuming"
    assert (await told("--live"))[0] == 0


async def test_one_in_an_outage(meshes: Meshes) -> None:
    orders = Orders()
    orders.error = ConnectionError("postgres://secret")
    await meshes.serve(orders, health=True, outage=Outage(after=1, probe_every=0.05))
    client = await meshes.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "get")
    status, answer = await told("--service", "orders")
    assert (status, answer["state"]) == (1, "OUTAGE")
    assert answer["reason"] == answer["parts"]["outage"]
    assert answer["reason"].startswith("handlers fail one after the other: 1 handlers in a row")
    assert "secret" not in str(answer)
    orders.error = None
    assert await client.request("orders", "get") == 1
    assert (await told("--service", "orders"))[0] == 0


async def test_one_whose_connection_is_lost(meshes: Meshes, place: Place) -> None:
    mesh = await meshes.serve(Orders(), health=True)
    watch, seen = Watch(mesh.transport), list[dict[str, str | None]]()
    mesh.on_state_change(lambda *_: seen.append(mesh.transport.reasons()))
    await place.delete_queue("nuropb-orders-sq")
    await watch.recovered()
    lost = [each["consuming_connection"] or "" for each in seen]
    assert lost[0].startswith("the connection was lost, and is being restored: ")
    assert lost[-1] == ""
    assert {each["publishing_connection"] for each in seen} == {None}
    assert (await told())[0] == 0


async def test_an_outbox_that_is_nearly_full(meshes: Meshes) -> None:
    """Posted in one turn of the loop, so that nothing can leave meanwhile."""
    config = meshes.config("orders", outbox_messages=10, outbox_bytes=1 << 20)
    mesh = await meshes.serve(Orders(), amqp_url=config)
    transport = mesh.transport
    payload = {"tag": "event", "topic": "t", "event": "x" * 100_000, "target": None}
    posted = []
    try:
        while transport.reasons()["outbox"] is None:
            posted.append(transport.post(payload))
    finally:
        reason = transport.reasons()["outbox"]
        await asyncio.gather(*posted)
    assert reason is not None
    assert "wait to be sent, of " in reason
    assert transport.reasons()["outbox"] is None


# -- which are asked ------------------------------------------------------------------------


async def test_several_instances(meshes: Meshes) -> None:
    """Of all that are asked each has to be ready."""
    one = await meshes.serve(Orders(), health=True, instance_id="one")
    await meshes.serve(Orders(), health=True, instance_id="two/2")
    await meshes.client(health=True)
    status, text = await probe()
    assert (status, text.count('"ready": true')) == (0, 3)
    await one.transport.stop_consuming()
    assert (await probe())[0] == 1
    assert (await probe("--live"))[0] == 0
    assert (await probe("--service=orders"))[0] == 1
    assert (await probe("--service", "client"))[0] == 0
    assert (await probe("--instance", "one"))[0] == 1
    status, answer = await told("--instance", "two/2", "--service", "orders")
    assert (status, answer["instance_id"]) == (0, "two/2")


async def test_nobody(folder: str, meshes: Meshes) -> None:
    for arguments, which in (
        ((), "no service is there"),
        (("--service", "x"), "no instance of service 'x' is there"),
        (("--instance", "1"), "instance '1' is not there"),
        (("--service=x", "--instance=1"), "instance '1' of service 'x' is not there"),
    ):
        status, text = await probe(*arguments)
        assert status == 2
        assert text.startswith(f"nuropb-rmq health: {which}, in {folder}: ")
    mesh = await meshes.serve(Orders(), health=True)
    await mesh.stop()
    assert (await probe())[0] == 2


async def test_a_process_that_was_killed(folder: str, meshes: Meshes) -> None:
    """Its socket is left, and removed by the next one that starts."""
    os.mkdir(folder, 0o700)
    for name in (socket_name("orders", "one"), socket_name("orders", "old")):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(f"{folder}/{name}")
    status, text = await probe()
    assert status == 2
    assert text.endswith("the process has ended (2 sockets are left)")
    await meshes.serve(Orders(), health=True, instance_id="one")
    assert (await told())[0] == 0
    assert os.listdir(folder) == [socket_name("orders", "one")]


async def test_a_socket_of_a_living_process_is_left_alone(folder: str, meshes: Meshes) -> None:
    os.mkdir(folder, 0o700)
    path = f"{folder}/{socket_name('orders', 'one')}"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(path)
        living.listen()
        mesh = meshes.mesh(Orders(), health=True, instance_id="one")
        with pytest.raises(NuropbConfigurationError, match="belongs to a process that runs"):
            await mesh.start()
        assert mesh.state is State.STOPPED
    os.unlink(path)  # it is still there


async def test_a_folder_that_is_open_to_others(folder: str, meshes: Meshes) -> None:
    os.mkdir(folder, 0o755)
    problem = f"{folder} is open to others (mode 0755): chmod 700 {folder}"
    with pytest.raises(NuropbConfigurationError) as refused:
        await meshes.mesh(Orders(), health=True).start()
    assert refused.value.description.endswith(problem)
    assert await probe() == (2, f"nuropb-rmq health: {problem}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_somebody_else(folder: str, meshes: Meshes) -> None:
    os.mkdir(folder, 0o700)
    os.chown(folder, 12345, -1)
    problem = f"{folder} belongs to user 12345, not to 0: set NUROPB_RMQ_HEALTH_DIR to a folder of"
    with pytest.raises(NuropbConfigurationError, match=problem):
        await meshes.mesh(Orders(), health=True).start()
    status, text = await probe()
    assert (status, text.startswith(f"nuropb-rmq health: {problem}")) == (2, True)


async def test_what_is_no_folder(folder: str, meshes: Meshes) -> None:
    os.mkdir(f"{folder}-target", 0o700)
    os.symlink(f"{folder}-target", folder)
    with pytest.raises(NuropbConfigurationError, match="is no folder"):
        await meshes.mesh(Orders(), health=True).start()
    status, text = await probe()
    assert (status, "is no folder" in text) == (2, True)
    os.unlink(folder)


async def test_a_path_that_is_too_long(
    folder: str, monkeypatch: pytest.MonkeyPatch, meshes: Meshes
) -> None:
    monkeypatch.setenv("NUROPB_RMQ_HEALTH_DIR", f"{folder}/{'x' * 100}")
    mesh = meshes.mesh(Orders(), health=True)
    with pytest.raises(NuropbConfigurationError, match="NUROPB_RMQ_HEALTH_DIR to a shorter one"):
        await mesh.start()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--all",), "unknown argument '--all'; see --help"),
        (("orders",), "unknown argument 'orders'; see --help"),
        (("--service",), "--service: expected a value behind it"),
        (("--ready=1",), "unknown argument '--ready'; see --help"),
        (("--timeout", "0"), "--timeout: expected seconds, from 0 to 3600, got '0'"),
        (("--timeout", "x"), "--timeout: expected seconds, from 0 to 3600, got 'x'"),
        (("--timeout", "nan"), "--timeout: expected seconds, from 0 to 3600, got 'nan'"),
    ],
)
async def test_wrong_arguments(arguments: tuple[str, ...], problem: str) -> None:
    assert await probe(*arguments) == (2, f"nuropb-rmq health: {problem}")


async def test_help_fits_a_terminal() -> None:
    status, text = await probe("--help")
    assert status == 0
    assert max(map(len, text.splitlines())) <= 80


# -- while it is stuck, starts and ends -------------------------------------------------------


def probe_and_block(*arguments: str) -> tuple[int, str]:
    """As probe(), without letting the event loop run meanwhile."""
    done = subprocess.run(
        [sys.executable, "-m", "nuropb_rmq", "health", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.rstrip()


async def test_a_loop_that_is_blocked(meshes: Meshes) -> None:
    """The kernel takes the connection, and nobody answers."""
    mesh = await meshes.serve(Orders(), health=True)
    who = socket_name("orders", mesh.instance_id).removesuffix(".sock")
    problem = f"{who}: no answer within 0.2 s: its event loop is blocked"
    assert probe_and_block("--timeout", "0.2") == (1, f"nuropb-rmq health: {problem}")
    assert probe_and_block("--timeout=0.2", "--live")[0] == 1
    assert (await told())[0] == 0


async def test_so_many_probes_wait_that_no_more_can(meshes: Meshes, folder: str) -> None:
    await meshes.serve(Orders(), health=True)
    (name,) = os.listdir(folder)
    waiting = []
    try:
        with suppress(BlockingIOError):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(f"{folder}/{name}")
        assert probe_and_block("--timeout", "0.2")[0] == 1
    finally:
        for each in waiting:
            each.close()
    assert (await told())[0] == 0


async def test_from_the_beginning_of_start_to_the_end_of_stop(folder: str, meshes: Meshes) -> None:
    mesh, seen = meshes.mesh(Orders(), health=True), list[tuple[State, int]]()
    mesh.on_state_change(lambda state, _: seen.append((state, len(os.listdir(folder)))))
    await mesh.start()
    await mesh.stop()
    assert seen == [
        (State.CONNECTING, 1),
        (State.READY, 1),
        (State.DRAINING, 1),
        (State.STOPPED, 0),
    ]


async def test_start_and_stop_again(meshes: Meshes) -> None:
    mesh = meshes.mesh(Orders(), health=True)
    for _ in range(2):
        await mesh.start()
        assert (await told())[1]["instance_id"] == mesh.instance_id
        await mesh.stop()
        assert (await probe())[0] == 2


def test_in_a_program_without_an_event_loop(place: Place) -> None:
    with blocking.Mesh(place.url, service=Orders(), health=True) as mesh:
        status, answer = asyncio.run(told())
        assert (status, answer["instance_id"]) == (0, mesh.instance_id)
    assert asyncio.run(probe())[0] == 2


def test_it_is_off_by_default(place: Place, folder: str) -> None:
    with blocking.Mesh(place.url, service=Orders()):
        assert not os.path.exists(folder)
