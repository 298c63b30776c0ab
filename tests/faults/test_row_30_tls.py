"""Row 30: TLS is agreed and trusted, or refused with a typed error that says what to mend.

Nothing is ever said without it, nor to somebody who is not trusted; the management API is no
exception.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
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
from nuropb_rmq.broker.management import ManagementAPI
from nuropb_rmq.config.address import TLSConfig
from nuropb_rmq.testing import RabbitMQNode, TLSFiles

from ..certificates import CertificatePaths, make_ca_and_cert
from ..support import Recorder, Transports, Watch, eventually, request, result_of

pytestmark = pytest.mark.broker

SECRET = "hush-hush"


class Nodes(NamedTuple):
    """Two brokers with the same certificate, which is for the name localhost alone."""

    open: RabbitMQNode
    strict: RabbitMQNode
    """Asks for a client's certificate."""
    good: CertificatePaths
    """The certificate that both nodes show."""
    other: CertificatePaths
    """As good as the first, and of another authority."""
    expired: CertificatePaths
    nameless: CertificatePaths
    """Has its host's name as common name alone."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("tls")
    good = make_ca_and_cert(folder / "good", addresses=(), client=True)
    other = make_ca_and_cert(folder / "other", addresses=(), client=True)
    expired = make_ca_and_cert(folder / "expired", addresses=(), days=-1)
    nameless = make_ca_and_cert(folder / "nameless", alternative_names=False)
    both = [
        RabbitMQNode(
            tls=TLSFiles(good.cafile, good.certfile, good.keyfile, verify_peer=asked),
            plugins=() if asked else ("rabbitmq_management",),
        )
        for asked in (False, True)
    ]

    def start(node: RabbitMQNode) -> None:
        node.start()
        node.rabbitmqctl("change_password", "guest", SECRET)

    try:
        with ThreadPoolExecutor() as together:
            list(together.map(start, both))
        yield Nodes(both[0], both[1], good, other, expired, nameless)
    finally:
        for each in both:
            each.stop()


@pytest.fixture
def nothing_left_behind(nodes: Nodes, nothing_left_behind: None) -> None:
    """The nodes stay for all tests: they start before the search takes its first look."""


def address(port: int, **settings: Any) -> dict[str, Any]:
    """Return the address of something that listens for TLS, with our credentials there."""
    where = {"host": "localhost", "port": port, "username": "guest", "password": SECRET, **settings}
    texts = {name: str(each) for name, each in where.items() if isinstance(each, Path)}
    return {**where, **texts, "ssl": True}


@pytest.fixture
async def mesh(nodes: Nodes) -> AsyncIterator[Transports]:
    """Services and clients; the address is given by each test."""
    where = address(nodes.open.tls_port, cafile=nodes.good.cafile)
    await configure(TransportConfig(amqp_url=where, service_name="orders"))
    made = Transports("amqp://nowhere.invalid/")
    yield made
    await made.stop()


async def works(mesh: Transports, where: dict[str, Any]) -> None:
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


async def test_row_30_with_the_authoritys_certificate_it_works(
    mesh: Transports, nodes: Nodes
) -> None:
    await works(mesh, address(nodes.open.tls_port, cafile=nodes.good.cafile))
    url = f"amqps://guest:{SECRET}@localhost:{nodes.open.tls_port}/?cafile={nodes.good.cafile}"
    await (await mesh.client(amqp_url=url)).stop()


async def test_row_30_mutual_tls_works(mesh: Transports, nodes: Nodes) -> None:
    good = nodes.good
    where = address(
        nodes.strict.tls_port, cafile=good.cafile, certfile=good.clientcert, keyfile=good.clientkey
    )
    await configure(TransportConfig(amqp_url=where, service_name="orders"))
    await works(mesh, where)


async def test_row_30_without_verification_anything_works_when_that_is_asked_for(
    mesh: Transports, nodes: Nodes
) -> None:
    where = address(nodes.open.tls_port, host="127.0.0.1", verify=False)
    async with showing(nodes, nodes.expired):
        await works(mesh, where)


# -- refused --------------------------------------------------------------------------------


async def test_row_30_an_unknown_authority(nodes: Nodes) -> None:
    where = address(nodes.open.tls_port)
    texts = "certificate", "TLS", "cafile"
    await refused(where, *texts, str(nodes.open.tls_port))  # the system's authorities
    await refused({**where, "cafile": str(nodes.other.cafile)}, *texts)


async def test_row_30_a_certificate_of_another_host(nodes: Nodes) -> None:
    where = address(nodes.open.tls_port, host="127.0.0.1", cafile=nodes.good.cafile)
    await refused(where, "not valid for '127.0.0.1'")


async def test_row_30_a_common_name_is_no_host_name(nodes: Nodes) -> None:
    """RFC 9525, section 2; by itself OpenSSL takes it for one."""
    async with showing(nodes, nodes.nameless):
        where = address(nodes.open.tls_port, cafile=nodes.nameless.cafile)
        await refused(where, "not valid for 'localhost'", "subjectAltName")


async def test_row_30_an_expired_certificate(nodes: Nodes) -> None:
    async with showing(nodes, nodes.expired):
        where = address(nodes.open.tls_port, cafile=nodes.expired.cafile)
        await refused(where, "certificate has expired")


async def test_row_30_a_clients_certificate_that_is_missing_or_unknown(nodes: Nodes) -> None:
    missing = address(nodes.strict.tls_port, cafile=nodes.good.cafile)
    unknown = {"certfile": str(nodes.other.clientcert), "keyfile": str(nodes.other.clientkey)}
    for _ in range(5):  # the broker's alert may be lost with the socket, or not
        await refused(missing, "certfile")
        await refused({**missing, **unknown}, "certfile")


async def test_row_30_every_host_of_a_list_is_verified(nodes: Nodes) -> None:
    ports = nodes.open.tls_port, nodes.strict.tls_port
    await refused([address(port, cafile=nodes.other.cafile) for port in ports], *map(str, ports))


async def test_row_30_tls_before_1_2_is_refused(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the system's OpenSSL would agree to it (security level 0)."""
    lenient = "DEFAULT:@SECLEVEL=0"
    made = TLSConfig.context

    def context(self: TLSConfig) -> ssl.SSLContext:
        ours = made(self)
        ours.set_ciphers(lenient)
        return ours

    monkeypatch.setattr(TLSConfig, "context", context)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.set_ciphers(lenient)
    theirs.load_cert_chain(nodes.good.certfile, nodes.good.keyfile)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it is what is to be refused
            theirs.minimum_version = ssl.TLSVersion.TLSv1
            theirs.maximum_version = version
        with socket.create_server(("127.0.0.1", 0)) as listener:
            where = address(listener.getsockname()[1], cafile=nodes.good.cafile)
            heard = asyncio.create_task(asyncio.to_thread(first_words, listener, theirs))
            if version is ssl.TLSVersion.TLSv1_2:  # so it is the version that is refused below
                await refused(where)
                assert await heard == b"AMQP\x00\x00\x09\x01"
            else:
                await refused(where, "PROTOCOL_VERSION", "TLS 1.2 or later")
                assert await heard == b""


def first_words(listener: socket.socket, context: ssl.SSLContext) -> bytes:
    """Accept one connection; what is said on it once TLS is agreed."""
    accepted, _ = listener.accept()
    with accepted, suppress(ssl.SSLError), context.wrap_socket(accepted, server_side=True) as tls:
        return tls.recv(8)
    return b""


# -- never without --------------------------------------------------------------------------


@asynccontextmanager
async def listening(
    answer: bytes, heard: bytearray, certificates: CertificatePaths | None = None
) -> AsyncIterator[int]:
    """A server, without TLS or with these, that notes what it hears, and says the same to all."""
    context = None
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certfile, certificates.keyfile)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                heard.extend(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_row_30_a_plain_broker_on_the_port_of_tls(nodes: Nodes) -> None:
    for settings in ({"cafile": nodes.good.cafile}, {"verify": False}):
        where = address(nodes.open.port, **settings)
        await refused(where, str(nodes.open.port), "does not speak TLS")


async def test_row_30_a_plain_address_on_the_port_of_tls(nodes: Nodes) -> None:
    url = f"amqp://guest:{SECRET}@localhost:{nodes.open.tls_port}/"
    await refused(url, str(nodes.open.tls_port), error=BrokerUnreachableError)


async def test_row_30_nothing_is_said_in_plain(nodes: Nodes) -> None:
    """A server that answers in plain hears the beginning of a TLS handshake, and nothing more."""
    for answer, ask in ((b"AMQP\x00\x00\x09\x01", log_in), (b"HTTP/1.1 200 OK\r\n\r\n", overview)):
        heard = bytearray()
        async with listening(answer, heard) as port:
            await ask(port, {"verify": False})
            await eventually(heard.__len__)
        assert heard[:2] == b"\x16\x03", "a TLS handshake"
        for text in (b"AMQP", b"HTTP", b"Authorization", b"guest", SECRET.encode()):
            assert text not in heard


async def test_row_30_nothing_is_said_to_a_stranger(nodes: Nodes) -> None:
    """Not inside of TLS either, to a server whose certificate is not to be trusted."""
    for ask in (log_in, overview):
        for theirs, cafile in (
            (nodes.other, nodes.good.cafile),
            (nodes.expired, nodes.expired.cafile),
        ):
            heard = bytearray()
            async with listening(b"", heard, theirs) as port:
                await ask(port, {"cafile": str(cafile)})
            assert heard == b""


async def log_in(port: int, settings: dict[str, Any]) -> None:
    await refused(address(port, **settings))


async def overview(port: int, settings: dict[str, Any]) -> None:
    where = f"https://localhost:{port}"
    verify = TLSConfig(**settings).context()
    async with ManagementAPI(where, username="guest", password=SECRET, verify=verify) as api:
        with pytest.raises(BrokerTLSError):
            await api.overview()


# -- the management API ---------------------------------------------------------------------


async def test_row_30_the_management_api_is_verified_too(nodes: Nodes) -> None:
    """configure() needs it to make a virtual host; it is trusted by what AMQP is trusted by."""
    where = address(nodes.open.tls_port, cafile=nodes.good.cafile, vhost="made")
    config = TransportConfig(amqp_url=where, service_name="orders")
    port = nodes.open.management_tls_port
    with pytest.raises(BrokerTLSError, match=r"cannot be made: management API .*'127\.0\.0\.1'"):
        await configure(config, api_url=f"https://127.0.0.1:{port}")
    with pytest.raises(BrokerTLSError, match="WRONG_VERSION_NUMBER"):
        await configure(config, api_url=f"https://localhost:{nodes.open.management_port}")
    url = f"https://localhost:{port}"
    for verify in (True, TLSConfig(cafile=str(nodes.other.cafile)).context()):
        api = ManagementAPI(url, username="guest", password=SECRET, verify=verify)
        with pytest.raises(BrokerTLSError, match="CERTIFICATE_VERIFY_FAILED"):
            await api.overview()
        await api.aclose()
    await configure(config, api_url=url)
    await asyncio.to_thread(nodes.open.rabbitmqctl, "delete_vhost", "made")


# -- files ----------------------------------------------------------------------------------


def test_row_30_missing_files_are_told_at_construction(tmp_path: Path) -> None:
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


async def test_row_30_a_lost_connection_comes_back_over_tls(mesh: Transports, nodes: Nodes) -> None:
    where = address(nodes.open.tls_port, cafile=nodes.good.cafile)
    service = await mesh.service(Recorder(), amqp_url=where)
    client = await mesh.client(amqp_url=where)
    watches = Watch(service), Watch(client)
    await asyncio.to_thread(nodes.open.rabbitmqctl, "close_all_connections", "test")
    for watch in watches:
        await watch.recovered()
    assert result_of(await client.request(request(n=1))) == {"n": 1}
    assert await connections(nodes.open) == ["true"] * 3


async def test_row_30_a_bad_certificate_is_not_accepted_on_the_way_back_either(
    mesh: Transports, nodes: Nodes, tmp_path: Path
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


async def test_row_30_a_connection_that_is_closed_right_after_the_handshake_is_explained(
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


async def test_row_30_a_file_that_is_gone_by_the_time_of_start(
    nodes: Nodes, tmp_path: Path
) -> None:
    cafile = tmp_path / "ca.pem"
    shutil.copyfile(nodes.good.cafile, cafile)
    where = address(nodes.open.tls_port, cafile=cafile)
    config = TransportConfig(amqp_url=where, service_name="c", client_only=True, connect_timeout=2)
    client = Transport(config)
    cafile.unlink()
    with pytest.raises(BrokerTLSError, match=r"cafile: .*No such file"):
        await client.start()
