"""AMQP over TLS: agreed and trusted, or refused with a reason; never done without."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nuropb_rmq import (
    BrokerTLSError,
    BrokerUnreachableError,
    NuropbConfigurationError,
    State,
    Transport,
    TransportConfig,
    configure,
)
from nuropb_rmq.testing import RabbitMQNode, TLSFiles

from .certificates import CertificatePaths, make_ca_and_cert
from .support import Mesh, Recorder, Watch, request, result_of

pytestmark = pytest.mark.broker

SECRET = "hush-hush"


class Nodes(NamedTuple):
    """Two brokers with the same certificate, which is for the name localhost alone."""

    open: RabbitMQNode
    strict: RabbitMQNode
    """Asks for a client's certificate."""
    good: CertificatePaths
    """What both show."""
    other: CertificatePaths
    """As good as the first, and of another authority."""
    expired: CertificatePaths


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("tls")
    good = make_ca_and_cert(folder / "good", addresses=(), client=True)
    other = make_ca_and_cert(folder / "other", addresses=(), client=True)
    expired = make_ca_and_cert(folder / "expired", addresses=(), days=-1)
    both = [
        RabbitMQNode(
            tls=TLSFiles(good.cafile, good.certfile, good.keyfile, verify_peer=asked), plugins=()
        )
        for asked in (False, True)
    ]

    def start(node: RabbitMQNode) -> None:
        node.start()
        node.rabbitmqctl("change_password", "guest", SECRET)

    try:
        with ThreadPoolExecutor() as together:
            list(together.map(start, both))
        yield Nodes(both[0], both[1], good, other, expired)
    finally:
        for each in both:
            each.stop()


@pytest.fixture
def nothing_left_behind(nodes: Nodes, nothing_left_behind: None) -> None:
    """The nodes stay for all tests: they start before the search takes its first look."""


def address(port: int, **settings: Any) -> dict[str, Any]:
    """Where something listens for TLS, and who we are there."""
    where = {"host": "localhost", "port": port, "username": "guest", "password": SECRET, **settings}
    texts = {name: str(each) for name, each in where.items() if isinstance(each, Path)}
    return {**where, **texts, "ssl": True}


@pytest.fixture
async def mesh(nodes: Nodes) -> AsyncIterator[Mesh]:
    """Services and clients; the address is given by each test."""
    where = address(nodes.open.tls_port, cafile=nodes.good.cafile)
    await configure(TransportConfig(amqp_url=where, service_name="orders"))
    made = Mesh("amqp://nowhere.invalid/")
    yield made
    await made.stop()


async def works(mesh: Mesh, where: dict[str, Any]) -> None:
    """A service and a client get through to each other."""
    service = await mesh.service(Recorder(), amqp_url=where)
    client = await mesh.client(amqp_url=where)
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    await client.stop()
    await service.stop()


async def refused(
    where: Any, *texts: str, error: type[BrokerUnreachableError] = BrokerTLSError
) -> BrokerUnreachableError:
    """start() raises this error in time, which says all this and no secret; nothing is open."""
    config = TransportConfig(amqp_url=where, service_name="c", client_only=True, connect_timeout=5)
    client = Transport(config)
    with pytest.raises(error) as caught:
        async with asyncio.timeout(10):
            await client.start()
    assert client.state is State.STOPPED
    for text in texts:
        assert text in str(caught.value)
    chain: list[BaseException | None] = [caught.value]
    while (each := chain[-1]) is not None and each not in chain[:-1]:  # aiormq's go in circles
        assert SECRET not in f"{each} {each!r}"
        chain.append(each.__cause__ or each.__context__)
    return caught.value


async def connections(node: RabbitMQNode) -> list[str]:
    """For each of the broker's connections, whether it is encrypted."""
    listing = await asyncio.to_thread(node.rabbitmqctl, "list_connections", "ssl", "--silent")
    return listing.split()


async def show(node: RabbitMQNode, certificates: CertificatePaths) -> None:
    """Let the node show another certificate to whoever connects from now on."""
    shutil.copyfile(certificates.certfile, node.data_dir / "tls/cert.pem")
    shutil.copyfile(certificates.keyfile, node.data_dir / "tls/key.pem")
    await asyncio.to_thread(node.rabbitmqctl, "eval", "ssl:clear_pem_cache().")


@asynccontextmanager
async def showing(nodes: Nodes, certificates: CertificatePaths) -> AsyncIterator[None]:
    """The open node has another certificate for a while."""
    await show(nodes.open, certificates)
    try:
        yield
    finally:
        await show(nodes.open, nodes.good)


# -- trusted --------------------------------------------------------------------------------


async def test_with_the_authoritys_certificate_it_works(mesh: Mesh, nodes: Nodes) -> None:
    await works(mesh, address(nodes.open.tls_port, cafile=nodes.good.cafile))
    url = f"amqps://guest:{SECRET}@localhost:{nodes.open.tls_port}/?cafile={nodes.good.cafile}"
    await (await mesh.client(amqp_url=url)).stop()


async def test_mutual_tls_works(mesh: Mesh, nodes: Nodes) -> None:
    good = nodes.good
    where = address(
        nodes.strict.tls_port, cafile=good.cafile, certfile=good.clientcert, keyfile=good.clientkey
    )
    await configure(TransportConfig(amqp_url=where, service_name="orders"))
    await works(mesh, where)


async def test_without_verification_anything_works_when_that_is_asked_for(
    mesh: Mesh, nodes: Nodes
) -> None:
    where = address(nodes.open.tls_port, host="127.0.0.1", verify=False)
    async with showing(nodes, nodes.expired):
        await works(mesh, where)


# -- refused --------------------------------------------------------------------------------


async def test_an_unknown_authority(nodes: Nodes) -> None:
    where = address(nodes.open.tls_port)
    await refused(where, "certificate", "TLS", str(nodes.open.tls_port))  # the system's authorities
    await refused({**where, "cafile": str(nodes.other.cafile)}, "certificate", "TLS")


async def test_a_certificate_of_another_host(nodes: Nodes) -> None:
    where = address(nodes.open.tls_port, host="127.0.0.1", cafile=nodes.good.cafile)
    await refused(where, "not valid for '127.0.0.1'")


async def test_an_expired_certificate(nodes: Nodes) -> None:
    async with showing(nodes, nodes.expired):
        where = address(nodes.open.tls_port, cafile=nodes.expired.cafile)
        await refused(where, "certificate has expired")


async def test_every_host_of_a_list_is_verified(nodes: Nodes) -> None:
    ports = nodes.open.tls_port, nodes.strict.tls_port
    await refused([address(port, cafile=nodes.other.cafile) for port in ports], *map(str, ports))


# -- never without --------------------------------------------------------------------------


@asynccontextmanager
async def listening(answer: bytes, heard: bytearray) -> AsyncIterator[int]:
    """A server without TLS that notes what it hears, and says the same to everyone."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        while data := await reader.read(65536):
            heard.extend(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_plain_broker_on_the_port_of_tls(nodes: Nodes) -> None:
    for settings in ({"cafile": nodes.good.cafile}, {"verify": False}):
        await refused(address(nodes.open.port, **settings), str(nodes.open.port))


async def test_nothing_is_said_in_plain(nodes: Nodes) -> None:
    heard = bytearray()
    async with listening(b"AMQP\x00\x00\x09\x01", heard) as port:
        await refused(address(port, verify=False))
    assert heard[:2] == b"\x16\x03", "a TLS handshake"
    for text in (b"AMQP", b"guest", SECRET.encode()):
        assert text not in heard


async def test_a_plain_address_on_the_port_of_tls(nodes: Nodes) -> None:
    url = f"amqp://guest:{SECRET}@localhost:{nodes.open.tls_port}/"
    await refused(url, str(nodes.open.tls_port), error=BrokerUnreachableError)


# -- files ----------------------------------------------------------------------------------


def test_missing_files_are_told_at_construction(tmp_path: Path) -> None:
    certificates = make_ca_and_cert(tmp_path, client=True)
    files = {"certfile": certificates.clientcert, "keyfile": certificates.clientkey}
    (tmp_path / "text").write_text("hello")
    for changed, field, says in (
        ({"cafile": tmp_path / "gone"}, "cafile", "No such file"),
        ({"cafile": tmp_path / "text"}, "cafile", "not a PEM file"),
        ({**files, "certfile": tmp_path / "gone"}, "certfile", "No such file"),
        ({**files, "keyfile": tmp_path / "gone"}, "keyfile", "No such file"),
        ({**files, "keyfile": certificates.keyfile}, "keyfile", "does not belong"),
    ):
        where = address(5671, **changed)
        config = TransportConfig(amqp_url=where, service_name="c", client_only=True)
        with pytest.raises(NuropbConfigurationError, match=says) as caught:
            Transport(config)
        assert caught.value.field == field
        assert SECRET not in str(caught.value)


# -- recovery -------------------------------------------------------------------------------


async def test_a_lost_connection_comes_back_over_tls(mesh: Mesh, nodes: Nodes) -> None:
    where = address(nodes.open.tls_port, cafile=nodes.good.cafile)
    service = await mesh.service(Recorder(), amqp_url=where)
    client = await mesh.client(amqp_url=where)
    watches = Watch(service), Watch(client)
    await asyncio.to_thread(nodes.open.rabbitmqctl, "close_all_connections", "test")
    for watch in watches:
        await watch.recovered()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert await connections(nodes.open) == ["true"] * 3


async def test_a_bad_certificate_is_not_accepted_on_the_way_back_either(
    mesh: Mesh, nodes: Nodes, tmp_path: Path
) -> None:
    cafile = tmp_path / "ca.pem"
    shutil.copyfile(nodes.good.cafile, cafile)
    where = address(nodes.open.tls_port, cafile=cafile)
    client = await mesh.client(amqp_url=where, reconnect_cap=0.2)
    await mesh.service(Recorder(), amqp_url=where, reconnect_cap=0.2)
    watch = Watch(client)
    async with showing(nodes, nodes.other):
        await asyncio.to_thread(nodes.open.rabbitmqctl, "close_all_connections", "test")
        await watch.left()
        assert await connections(nodes.open) == []
        assert client.state is State.RECOVERING
        # The authority is changed here too, without a restart of anything.
        shutil.copyfile(nodes.other.cafile, cafile)
        await watch.recovered()
        assert result_of(await client.request(request(n=1))) == {"n": 1}


# -- what an operator reads -----------------------------------------------------------------


async def test_an_unknown_authority_is_explained(nodes: Nodes) -> None:
    await refused(address(nodes.open.tls_port), "cafile")
    await refused(address(nodes.open.tls_port, cafile=nodes.other.cafile), "cafile")


async def test_a_plain_broker_on_the_port_of_tls_is_explained(nodes: Nodes) -> None:
    await refused(address(nodes.open.port, verify=False), "does not speak TLS")


async def test_a_clients_certificate_that_is_missing_or_unknown_is_explained(nodes: Nodes) -> None:
    missing = address(nodes.strict.tls_port, cafile=nodes.good.cafile)
    unknown = {"certfile": str(nodes.other.clientcert), "keyfile": str(nodes.other.clientkey)}
    for _ in range(5):  # the broker's alert may be lost with the socket, or not
        await refused(missing, "certfile")
        await refused({**missing, **unknown}, "certfile")


async def test_a_connection_that_is_closed_right_after_the_handshake_is_explained(
    nodes: Nodes,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(nodes.good.certfile, nodes.good.keyfile)

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    async with await asyncio.start_server(reset, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        await refused(address(port, cafile=nodes.good.cafile), "certfile")


async def test_a_file_that_is_gone_by_the_time_of_start(nodes: Nodes, tmp_path: Path) -> None:
    cafile = tmp_path / "ca.pem"
    shutil.copyfile(nodes.good.cafile, cafile)
    where = address(nodes.open.tls_port, cafile=cafile)
    config = TransportConfig(amqp_url=where, service_name="c", client_only=True, connect_timeout=2)
    client = Transport(config)
    cafile.unlink()
    with pytest.raises(BrokerTLSError, match=r"cafile: .*No such file"):
        await client.start()
