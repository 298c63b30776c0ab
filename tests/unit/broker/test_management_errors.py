"""nuropb_rmq.broker.management against servers that misbehave, and what it takes for settings."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nuropb_rmq.broker.management import ManagementAPI
from nuropb_rmq.exceptions import (
    BrokerAuthenticationError,
    BrokerTLSError,
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbException,
    NuropbTransportError,
    ServiceNotConfigured,
    TransportClosedError,
)

from ...certificates import CertificatePaths, make_ca_and_cert

SECRET = "correct-horse"
SECRET_HEADER = base64.b64encode(f"guest:{SECRET}".encode()).decode()


@dataclass(slots=True)
class Server:
    """A server on loopback; `heads` are the requests that it got, without their bodies."""

    url: str = ""
    heads: list[str] = field(default_factory=list)

    def api(self, *, timeout: float = 5.0, proxy: str | None = None) -> ManagementAPI:
        return ManagementAPI(
            self.url, username="guest", password=SECRET, timeout=timeout, proxy=proxy
        )


Answer = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that hands the head of each connection's only request to `answer`."""
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            server.heads.append(head)
            await answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    server.url = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server


def reply(status: str, body: bytes | str = b"", *headers: str) -> Answer:
    """Answers every request with this."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers]

    async def answer(
        _head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()

    return answer


async def silence(_head: str, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Keeps the connection and says nothing, until the client goes."""
    await reader.read()


async def drip(_head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never silent for long, and never done."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)  # the pace of the server, not a wait of the test


async def rubbish(_head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"AMQP\x00\x00\x09\x01")
    await writer.drain()


async def hang_up(_head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def echo(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tells the client all that it said, and more."""
    body = json.dumps({"error": "debug", "reason": f"{head} {SECRET}"})
    await reply("500 Internal Server Error", body)(head, reader, writer)


def assert_no_secret(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the password nor the header made of it: not in errors, causes, or any record."""
    texts = [record.getMessage() for record in caplog.records]
    cause: BaseException | None = error
    while cause is not None:
        texts += [str(cause), repr(cause)]
        cause = cause.__cause__
    for text in texts:
        assert SECRET not in text
        assert SECRET_HEADER not in text


@pytest.mark.parametrize("answer", [silence, drip])
async def test_no_answer_in_time(answer: Answer) -> None:
    """The timeout is that of the whole call."""
    async with serving(answer) as server, server.api(timeout=0.2) as api:
        before = time.monotonic()
        with pytest.raises(BrokerUnreachableError, match=r"within 0\.2 s"):
            await api.overview()
        assert time.monotonic() - before < 5


async def test_nobody_listens() -> None:
    async with serving(silence) as server:
        pass
    async with server.api() as api:
        with pytest.raises(BrokerUnreachableError, match="127") as caught:
            await api.overview()
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (reply("401 Unauthorized"), BrokerAuthenticationError, "401 Unauthorized"),
        (
            reply("403 Forbidden", '{"error":"not_authorised","reason":"no tag"}'),
            BrokerAuthenticationError,
            "403 not_authorised: no tag",
        ),
        (reply("404 Not Found", "<html>"), ServiceNotConfigured, "404 Not Found"),
        (
            reply("500 Internal Server Error", '{"error":"oops","reason":"disk"}'),
            NuropbTransportError,
            "500 oops: disk",
        ),
        (reply("500 Internal Server Error", "<html>"), NuropbTransportError, "500 Internal"),
        (reply("502 Bad Gateway", "[1]"), NuropbTransportError, "502 Bad Gateway"),
        (reply("302 Found", b"", "Location: /"), NuropbTransportError, "302 Found"),
        (reply("200 OK", "<html>"), NuropbTransportError, "not JSON"),
        (reply("200 OK", b"\xff\xfe\xfa"), NuropbTransportError, "not JSON"),
        (reply("200 OK", "[" * 200_000), NuropbTransportError, "not JSON"),
        (reply("200 OK", "[]"), NuropbTransportError, "not a JSON object"),
        (reply("200 OK"), NuropbTransportError, "not a JSON object"),
        (rubbish, NuropbTransportError, "RemoteProtocolError"),
        (hang_up, NuropbTransportError, "127"),
    ],
)
async def test_bad_answers(answer: Answer, kind: type[NuropbException], text: str) -> None:
    async with serving(answer) as server, server.api() as api:
        with pytest.raises(kind) as caught:
            await api.overview()
    assert text in str(caught.value)
    assert isinstance(caught.value, NuropbTransportError)


async def _without_end(
    _head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuropb_rmq.broker.management.ANSWER_MAX", 2**20)
    async with serving(_without_end) as server, server.api() as api:
        with pytest.raises(NuropbTransportError, match="larger than 1048576 bytes"):
            await api.overview()


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_a_compressed_answer_is_not_unpacked(status: str) -> None:
    bomb = gzip.compress(bytes(16 * 2**20))
    async with (
        serving(reply(status, bomb, "Content-Encoding: gzip")) as server,
        server.api() as api,
    ):
        with pytest.raises(NuropbTransportError, match="compressed"):
            await api.overview()
    assert "accept-encoding: identity" in server.heads[0].lower()


async def test_queues_wants_a_list() -> None:
    async with serving(reply("200 OK", "{}")) as server, server.api() as api:
        with pytest.raises(NuropbTransportError, match="list"):
            await api.queues("/")
    async with serving(reply("200 OK", "[1]")) as server, server.api() as api:
        with pytest.raises(NuropbTransportError, match="object"):
            await api.queues("/")


async def test_no_secret_in_errors_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Not even when the server sends back what it was sent, and everything is logged."""
    caplog.set_level(logging.DEBUG)
    async with serving(echo) as server:
        url = server.url.replace("http://", f"http://guest:{SECRET}@")
        async with ManagementAPI(url) as api:
            with pytest.raises(NuropbTransportError) as caught:
                await api.overview()
            assert repr(api) == f"ManagementAPI({server.url!r}, username='guest')"
    assert f"Basic {SECRET_HEADER}" in server.heads[0]
    assert caplog.records
    assert_no_secret(caught.value, caplog)


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("", "/api/overview"),
        ("/", "/api/overview"),
        ("/api", "/api/overview"),
        ("/api/", "/api/overview"),
        ("/rabbit/api", "/rabbit/api/overview"),
        ("/rabbit", "/rabbit/api/overview"),
    ],
)
async def test_base_url(suffix: str, path: str) -> None:
    async with serving(reply("200 OK", "{}")) as server:
        server.url += suffix
        async with server.api() as api:
            assert await api.overview() == {}
    assert server.heads[0].startswith(f"GET {path} HTTP/1.1")


async def test_names_are_one_segment() -> None:
    async with serving(reply("404 Not Found")) as server, server.api() as api:
        await api.delete_queue("/", "../vhosts?a=b#c")
        assert "DELETE /api/queues/%2F/..%2Fvhosts%3Fa%3Db%23c HTTP" in server.heads[0]
        for name in ("", ".", ".."):
            with pytest.raises(NuropbConfigurationError, match="name"):
                await api.delete_vhost(name)
    assert len(server.heads) == 1


async def test_proxies_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(reply("200 OK", "{}")) as server, serving(silence) as trap:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, trap.url)
        async with server.api() as api:
            await api.overview()
        assert len(server.heads) == 1

        async with Server("http://broker.invalid:15672").api(proxy=server.url) as api:
            await api.overview()
        assert server.heads[1].startswith("GET http://broker.invalid:15672/api/overview ")
    assert trap.heads == []


async def test_closed() -> None:
    async with serving(reply("200 OK", "{}")) as server:
        async with server.api() as api:
            pass
        await api.aclose()
        with pytest.raises(TransportClosedError):
            await api.overview()
    assert server.heads == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:15672",
        "amqp://localhost",
        "http://",
        "http://localhost:port",
        "http://localhost:0",
        "http://localhost:99999",
        "http://[::1",
        "http://localhost/?vhost=x",
        "http://localhost/#x",
        f"http://guest:{SECRET}/x@localhost",
        f"http://guest:1/{SECRET}@localhost",
        "http://loc\x01alhost",
    ],
)
def test_bad_url(url: str) -> None:
    with pytest.raises(NuropbConfigurationError) as caught:
        ManagementAPI(url, username="guest", password=SECRET)
    assert caught.value.field == "base_url"
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_incomplete_credentials() -> None:
    url = "http://localhost:15672"
    for username, password in ((None, None), ("guest", None), (None, SECRET)):
        with pytest.raises(NuropbConfigurationError, match="username, password"):
            ManagementAPI(url, username=username, password=password)
    with pytest.raises(NuropbConfigurationError, match="missing"):
        ManagementAPI("http://guest@localhost:15672")


@pytest.mark.parametrize("field", ["username", "password"])
def test_credentials_that_utf8_cannot_carry(field: str) -> None:
    given = {"username": "guest", "password": "hush", field: "hush\udcff"}
    with pytest.raises(NuropbConfigurationError, match=f"^{field}: .*UTF-8") as caught:
        ManagementAPI("http://localhost:1", username=given["username"], password=given["password"])
    assert "hush" not in str(caught.value)


async def test_names_that_utf8_cannot_carry() -> None:
    async with ManagementAPI("http://guest:guest@localhost:1") as api:
        with pytest.raises(NuropbConfigurationError, match=r"^name: .*UTF-8"):
            await api.vhost_exists("a\udcff")


def test_bad_proxy() -> None:
    with pytest.raises(NuropbConfigurationError) as caught:
        ManagementAPI("http://guest:guest@localhost", proxy=f"ftp://guest:{SECRET}@localhost")
    assert caught.value.field == "proxy"
    assert SECRET not in str(caught.value)


async def test_tls_is_verified(tmp_path: Path) -> None:
    """By default against the system's authorities, and for the host's name."""
    good = make_ca_and_cert(tmp_path / "good")
    for faulty in (
        make_ca_and_cert(tmp_path / "other name", hostname="elsewhere", addresses=()),
        make_ca_and_cert(tmp_path / "expired", days=-1),
    ):
        with pytest.raises(BrokerTLSError, match="CERTIFICATE_VERIFY_FAILED"):
            await overview_over_tls(faulty, ssl.create_default_context(cafile=faulty.cafile))
    with pytest.raises(BrokerTLSError, match="CERTIFICATE_VERIFY_FAILED"):
        await overview_over_tls(good, True)
    assert await overview_over_tls(good, ssl.create_default_context(cafile=good.cafile)) == 1
    assert await overview_over_tls(good, False) == 1


async def overview_over_tls(theirs: CertificatePaths, verify: ssl.SSLContext | bool) -> int:
    """Asks a server with this certificate; how many requests it got."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(theirs.certfile, theirs.keyfile)
    async with serving(reply("200 OK", "{}"), context) as server:
        try:
            async with ManagementAPI(
                server.url, username="guest", password=SECRET, verify=verify
            ) as api:
                await api.overview()
        except BrokerTLSError:
            assert server.heads == []
            raise
    return len(server.heads)
