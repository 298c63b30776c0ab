"""docs/guides/: programs of the new ones run, on a broker in memory where that will do."""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from nuropb_rmq import Mesh, exceptions, publish_to_mesh
from nuropb_rmq.asgi import exception_handlers
from nuropb_rmq.protocol.remote_errors import remote_error
from nuropb_rmq.testing import MemoryBroker, MemoryMesh

from ..asgi.support import Served
from ..certificates import make_ca_and_cert
from ..encrypting import private_key
from ..testing.support import ASYNCIO, Pytest, passed
from .support import files, page, write

FASTAPI = page("guides/fastapi.md")
SETTINGS = "asyncio_mode = auto"


class Shop:
    """The service behind the application."""

    _service_name = "shop"

    async def item(self, order_id: str) -> str:
        """Return the item of an order."""
        if order_id == "none":
            raise LookupError(order_id)
        return "lamp"


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mesh_broker: MemoryBroker
) -> Iterator[Path]:
    """The files of the page can be imported here, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NUROPB_RMQ_URL", mesh_broker.url)
    write(tmp_path, FASTAPI)
    yield tmp_path
    for name in files(FASTAPI):
        sys.modules.pop(name.removesuffix(".py"), None)


def test_fastapi_its_tests(tmp_path: Path) -> None:
    suite = Pytest(tmp_path)
    write(tmp_path, FASTAPI)
    assert len(passed(suite.run(ASYNCIO, settings=SETTINGS))) == 2


@pytest.mark.usefixtures("folder")
async def test_fastapi_its_application(memory_mesh: MemoryMesh, mesh_broker: MemoryBroker) -> None:
    await memory_mesh(Shop())
    app: Any = importlib.import_module("app")
    importlib.import_module("found")
    metrics: Any = importlib.import_module("metrics")
    assert metrics.app is app.app
    async with Served(app.app) as served:
        assert await served.get("/orders/A-1") == (200, "lamp")
        assert await served.get("/orders/none") == (404, {"detail": "no such order"})
        assert (await served.get("/readyz"))[0] == 200
        assert "nuropb_info" in (await served.http.get("/metrics")).text
        assert (await served.http.delete("/orders/A-1")).status_code == 202
        assert (await mesh_broker.command("shop", "cancel")).params == {"order_id": "A-1"}


@pytest.mark.usefixtures("folder")
async def test_fastapi_a_lifespan_of_ones_own() -> None:
    both: Any = importlib.import_module("both")
    async with Served(both.app) as served:
        assert set(served.state) == {"mesh", "database"}


def errors() -> Iterator[tuple[Exception, int, str]]:
    """An error for each row of the table, and the answer that it says."""
    table = FASTAPI.partition("| error | status | detail |")[2].partition("\n\n")[0]
    others = {
        "any other error of the service": _remote("LookupError"),
        (
            "any other `NuropbTransportError`: no connection, a full outbox, a refused message"
        ): exceptions.OutboxFullError("full"),
        "any other error of this library": exceptions.NuropbSerializationError("no JSON"),
    }
    for line in table.splitlines()[2:]:
        text, status, detail = (cell.strip() for cell in line.strip("|").split("|"))
        named = re.match(r"`(\w+)`( of the service)?", text)
        if named is None:
            error = others.pop(text)
        else:
            error = _remote(named[1]) if named[2] else getattr(exceptions, named[1])("secret")
        yield error, int(status), "secret" if "its text" in detail else detail
    assert not others


def _remote(name: str) -> Exception:
    response: Any = {"error": {"error": name, "description": "secret"}, "result": None}
    return remote_error(response)


@pytest.mark.parametrize(("error", "status", "detail"), list(errors()))
async def test_fastapi_its_table_of_errors(error: Exception, status: int, detail: str) -> None:
    async def fail(_: Request) -> None:
        raise error

    app = Starlette(routes=[Route("/", fail)], exception_handlers=exception_handlers())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        answer = await http.get("/")
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


# -- tokens -----------------------------------------------------------------------------------

TOKENS = page("guides/tokens.md")
PRINTED = re.search(r"^```text\n(.*?)^```$", TOKENS, re.MULTILINE | re.DOTALL)


def ran(text: str, name: str) -> dict[str, Any]:
    """Run a program of a page; return its names."""
    names: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(compile(files(text)[name], name, "exec", dont_inherit=True), names)
    return names


async def test_tokens_a_call(memory_mesh: MemoryMesh, capsys: pytest.CaptureFixture[str]) -> None:
    invoices = ran(TOKENS, "invoices.py")["Invoices"]
    mesh = await memory_mesh(invoices())
    await ran(TOKENS, "call.py")["main"](mesh)
    assert PRINTED is not None
    assert capsys.readouterr().out == PRINTED[1]
    await mesh.request("invoices", "delete", {"number": "I-1"}, context={"Authorization": "t-anna"})
    for context in ({}, {"Authorization": "t-nobody"}):
        with pytest.raises(exceptions.NuropbAuthorizationError):
            await mesh.request("invoices", "mine", context=context)


async def test_tokens_are_passed_on(memory_mesh: MemoryMesh) -> None:
    mesh = await memory_mesh(ran(TOKENS, "invoices.py")["Invoices"]())
    orders = ran(TOKENS, "orders.py")["Orders"]()
    orders.mesh = await memory_mesh(orders)
    context = {"Authorization": "Bearer t-bob"}
    assert await mesh.request("orders", "invoices", context=context) == ["I-1"]


def test_tokens_that_are_signed() -> None:
    names = ran(TOKENS, "signed.py")
    sign, authorize = names["sign"], names["authorize"]
    claims = {"user": "bob", "exp": time.time() + 60}
    token = sign(claims)
    assert authorize(f"Bearer {token}") == claims
    assert authorize(token[:-1] + ("0" if token[-1] != "0" else "1")) is None
    assert authorize(sign({**claims, "exp": 1})) is None
    assert authorize("") is None


def _find(token: str) -> str:
    known: dict[str, str] = {}
    return known[f"secret of {token}"]


async def test_tokens_errors_of_the_function(
    memory_mesh: MemoryMesh, caplog: pytest.LogCaptureFixture
) -> None:
    class Service:
        _service_name = "invoices"

        @publish_to_mesh(authorize_func=_find)
        async def mine(self) -> None:
            """Do nothing."""

    mesh = await memory_mesh(Service())
    with pytest.raises(exceptions.NuropbRemoteError, match="secret of t") as caught:
        await mesh.request("invoices", "mine", context={"Authorization": "t"})
    assert caught.value.error == "KeyError"
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


async def test_tokens_for_the_broker() -> None:
    names = ran(TOKENS, "login.py")
    assert (await names["token"]()).expires_in == 300
    assert names["mesh"].service_name == "orders"


# -- security ---------------------------------------------------------------------------------

SECURITY = page("guides/security.md")


def test_security_the_addresses(tmp_path: Path) -> None:
    made = make_ca_and_cert(tmp_path, client=True)
    text = SECURITY
    paths = {"ca.pem": made.cafile, "orders.pem": made.clientcert, "orders.key": made.clientkey}
    for name, path in paths.items():
        text = text.replace(f"/etc/orders/{name}", str(path))
    names = ran(text, "connect.py")
    for name in ("simple", "own_authority", "with_certificate"):
        broker = names[name].transport.config.broker
        assert str(broker).startswith("amqps://")
        assert broker.tls.verify


async def test_security_a_key_that_was_brought(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker
) -> None:
    class Payments:
        _service_name = "payments"
        _private_key = private_key("payments")

        @publish_to_mesh(requires_encryption=True)
        async def charge(self, order_id: str) -> str:
            """Charge for an order."""
            return f"charged {order_id}"

    await memory_mesh(Payments())
    own = private_key("payments").public_key()
    other = private_key("orders").public_key()
    names = ran(SECURITY, "pinned.py")
    for key, expected in ((own, "charged A-1"), (other, None)):
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        async with names["transport"](mesh_broker.url, pem) as transport:
            if expected is not None:
                assert await names["charge"](transport, "A-1") == expected
            else:
                with pytest.raises(exceptions.EncryptionError):
                    await names["charge"](transport, "A-1")


# -- clusters ---------------------------------------------------------------------------------


async def test_clusters_the_service(mesh_url: str) -> None:
    names = ran(page("guides/clusters.md"), "service.py")
    assert len(names["mesh"].transport.config.broker.hosts) == 3
    config = names["settings"]([mesh_url])
    async with Mesh(config, service=names["Orders"]()), Mesh(mesh_url) as client:
        assert await client.request("orders", "total", {"order_id": "A-1"}) == 59.80
