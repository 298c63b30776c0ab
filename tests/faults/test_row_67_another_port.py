"""Row 67: something else than a broker listens at its port: the error says what answers there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nuropb_rmq import BrokerUnreachableError, Mesh, Transport, TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from ..certificates import make_ca_and_cert
from ..support import Transports

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
ANSWERS = {
    "http": (BAD_REQUEST, "an HTTP server answers"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server answers"),
    "redis": (b"-ERR unknown command\r\n", "got b'-ERR unknown command"),
    "mail": (b"220 mail.example ESMTP\r\n", "got b'220 mail"),
    "another AMQP": (b"AMQP\x00\x01\x00\x00", "does not speak AMQP 0-9-1, but 1-0-0"),
    "nothing": (b"", "a connection was accepted, and nothing was sent.*port of AMQP"),
    "the end": (None, "closed the connection without a word: is this the port of AMQP"),
}


@asynccontextmanager
async def answering(
    answer: bytes | None, context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server that says this to whoever connects, and nothing more; its URL."""
    open_now: set[asyncio.StreamWriter] = set()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            writer.close()
            return
        open_now.add(writer)
        writer.write(answer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for writer in open_now:
            writer.transport.abort()


async def refused(url: str, text: str) -> None:
    """Whatever connects there is told so."""
    config = TransportConfig(amqp_url=url, service_name="c", client_only=True, connect_timeout=1.0)
    for start in (Transport(config).start, Mesh(config).start, lambda: configure(config)):
        with pytest.raises(BrokerUnreachableError, match=text):
            async with asyncio.timeout(5):
                await start()


@pytest.mark.parametrize(("answer", "text"), ANSWERS.values(), ids=ANSWERS)
async def test_row_67_another_port(answer: bytes | None, text: str) -> None:
    async with answering(answer) as url:
        await refused(url, text)


async def test_row_67_the_port_of_tls(tmp_path: Path) -> None:
    """A TLS server takes the protocol header for a broken handshake, and says so."""
    files = make_ca_and_cert(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certfile, files.keyfile)
    async with answering(b"", context) as url:
        await refused(url, "a TLS server answers: use amqps://|without a word: is this the port")


async def test_row_67_the_port_of_the_management_api(
    mesh_url: str, rabbitmq_node: RabbitMQNode
) -> None:
    """It waits for the rest of a request."""
    assert mesh_url
    port = rabbitmq_node.management_port
    await refused(f"amqp://127.0.0.1:{port}/", "nothing was sent on it: is this the port of AMQP")


async def test_row_67_one_wrong_port_in_a_list_leaves_the_next_its_turn(mesh: Transports) -> None:
    async with answering(BAD_REQUEST) as wrong:
        urls = [f"{wrong}{mesh.url.rsplit('/', 1)[1]}", mesh.url]
        await mesh.client(amqp_url=urls)
