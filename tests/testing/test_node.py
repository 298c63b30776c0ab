"""The private RabbitMQ node: it comes up, it can be hurt, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nuropb_rmq.testing import (
    BrokerError,
    BrokerStartError,
    RabbitMQCtlError,
    RabbitMQNode,
    TLSFiles,
)
from nuropb_rmq.testing._install import Installation, amqp_greeting
from nuropb_rmq.testing._process import session_members

from ..certificates import CertificatePaths, make_ca_and_cert
from ..seams import epmd_pid, own_ports
from ..support import eventually
from ..unit.testing.test_causes import SHORT
from ..unit.testing.test_process import until

needs_broker = pytest.mark.broker


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificatePaths:
    return make_ca_and_cert(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def node(certificates: CertificatePaths) -> Iterator[RabbitMQNode]:
    tls = TLSFiles(certificates.cafile, certificates.certfile, certificates.keyfile)
    with RabbitMQNode(tls=tls, extra_config={"channel_max": "128"}) as node:
        yield node


@needs_broker
def test_it_is_up_on_loopback_only(node: RabbitMQNode) -> None:
    assert node.running
    assert node.version == node.api("GET", "/api/overview")["rabbitmq_version"]
    assert node.amqp_url == f"amqp://guest:guest@127.0.0.1:{node.port}/"
    listening = _listening()
    for port in own_ports(node):
        assert listening[port] <= {"127.0.0.1", "::1"}


@needs_broker
async def test_its_log_can_be_read_while_it_runs(node: RabbitMQNode) -> None:
    # The node writes its log when it gets to it, after it has begun to listen.
    await eventually(lambda: f"127.0.0.1:{node.port}" in node.log_text(), describe=node.log_text)


@needs_broker
def test_it_has_a_tls_listener(node: RabbitMQNode, certificates: CertificatePaths) -> None:
    context = ssl.create_default_context(cafile=str(certificates.cafile))
    raw = socket.create_connection(("127.0.0.1", node.tls_port), 5)
    with raw, context.wrap_socket(raw, server_hostname="localhost") as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        assert connection.recv(1) == b"\x01"
    key = node.data_dir / "tls/key.pem"
    assert key.stat().st_mode & 0o777 == 0o600


@needs_broker
def test_rabbitmqctl_asks_this_node(node: RabbitMQNode) -> None:
    assert "channel_max,128" in node.rabbitmqctl("environment").replace(" ", "")
    with pytest.raises(RabbitMQCtlError) as caught:
        node.rabbitmqctl("delete_queue", "no-such-queue")
    assert caught.value.returncode != 0
    assert "found" in caught.value.stderr  # "Queue not found", "No such queue was found"


@needs_broker
def test_the_api_says_what_is_wrong(node: RabbitMQNode) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        node.api("GET", "/api/queues/%2F/missing")


@needs_broker
def test_suspended_it_accepts_and_does_not_answer(node: RabbitMQNode) -> None:
    node.suspend()
    try:
        assert node.running
        # The signal is sent: a busy machine may let the node answer once more.
        assert any(amqp_greeting(node.port, timeout=0.3) is None for _ in range(10))
    finally:
        node.resume()
    assert amqp_greeting(node.port, timeout=10) == node.version


@needs_broker
def test_durable_things_survive_kill_and_start(node: RabbitMQNode) -> None:
    node.api("PUT", "/api/queues/%2F/kept", {"durable": True})
    # Until 4.x the metadata store is Mnesia, which writes its log in its own time.
    node.rabbitmqctl("eval", "catch mnesia:sync_log().")
    pid, port = node.pid, node.port
    node.kill()
    assert not node.running
    assert not Path(f"/proc/{pid}").exists()
    assert session_members(pid) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    with pytest.raises(BrokerError):
        _ = node.pid
    node.restart()
    assert (node.port, node.running) == (port, True)
    assert node.pid != pid
    assert [queue["name"] for queue in node.api("GET", "/api/queues/%2F")] == ["kept"]


@needs_broker
async def test_nothing_is_left_after_stop() -> None:
    async with RabbitMQNode(plugins=()) as node:
        folder, leaders = node.data_dir, [node.pid, epmd_pid(node)]
        assert folder.is_dir()
        assert all(session_members(leader) for leader in leaders)
        with pytest.raises(BrokerError, match="already"):
            await node.astart()
        with pytest.raises(BrokerError, match="TLS"):
            _ = node.tls_port
    assert not folder.exists()
    assert [session_members(leader) for leader in leaders] == [[], []]
    assert "RabbitMQ" in node.log_text()
    await node.astop()


@needs_broker
async def test_a_cancelled_start_leaves_nothing() -> None:
    node = RabbitMQNode(plugins=())
    starting = asyncio.create_task(node.astart())
    await asyncio.to_thread(until, lambda: node.running or starting.done())
    folder, leaders = node.data_dir, [node.pid, epmd_pid(node)]
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not node.running
    assert not folder.exists()
    assert [session_members(leader) for leader in leaders] == [[], []]
    await asyncio.to_thread(node.start)
    await node.astop()


@needs_broker
def test_a_start_that_fails_says_why_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = RabbitMQNode(extra_config="no_such_setting = 1")
    folders: list[Path] = []
    make = Installation.make_data_dir

    def make_and_note(self: Installation) -> Path:
        folders.append(make(self))
        return folders[-1]

    monkeypatch.setattr(Installation, "make_data_dir", make_and_note)
    with pytest.raises(BrokerStartError) as caught:
        node.start()
    assert "no_such_setting" in caught.value.log
    assert "no_such_setting" in str(caught.value).splitlines()[0]
    assert len(str(caught.value)) < SHORT
    assert not node.running
    assert [folder.exists() for folder in folders] == [False]


@needs_broker
def test_a_port_that_is_taken_is_named_before_anything_is_started() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        node = RabbitMQNode(port=port)
        with pytest.raises(BrokerStartError) as caught:
            node.start()
        assert str(caught.value).startswith(
            f"AMQP: cannot listen on port {port} of 127.0.0.1: Address already in use"
        )
        assert caught.value.port_was_taken
        assert not node.running
        with pytest.raises(BrokerError, match="has not been started"):
            assert node.data_dir


def _listening() -> dict[int, set[str]]:
    """Every listening TCP port of this machine, and its addresses (proc_net_tcp, state 0A)."""
    found: dict[int, set[str]] = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                number, port = local.split(":")
                words = [number[at : at + 8] for at in range(0, len(number), 8)]
                raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
                found.setdefault(int(port, 16), set()).add(socket.inet_ntop(family, raw))
    return found
