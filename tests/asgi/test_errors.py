"""exception_handlers(): errors of calls as answers that tell nothing internal."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from nuropb_rmq import (
    EncryptionError,
    Mesh,
    NuropbAuthenticationError,
    NuropbException,
    NuropbNotSentError,
    NuropbOutcomeUnknownError,
    NuropbValidationError,
    OutboxFullError,
    TransportClosedError,
    publish_to_mesh,
)
from nuropb_rmq.asgi import exception_handlers, get_mesh, lifespan
from nuropb_rmq.testing import MemoryBroker, MemoryMesh

from .support import Served

SECRET = "s3cret"


def nobody(_: Any) -> None:
    return None


class Orders:
    _service_name = "orders"

    async def get(self, number: int) -> int:
        return number

    async def fail(self) -> None:
        raise LookupError(f"no row in table {SECRET}")

    async def stranger(self) -> None:
        raise NuropbAuthenticationError("no token")

    @publish_to_mesh(authorize_func=nobody)
    async def refuse(self) -> None:
        """Never run."""

    async def slow(self) -> None:
        await asyncio.sleep(60)


TheMesh = Annotated[Mesh, Depends(get_mesh)]

LOCAL = {
    "closed": TransportClosedError(f"amqp://{SECRET}"),
    "full": OutboxFullError(SECRET),
    "late": NuropbNotSentError(SECRET),
    "unknown": NuropbOutcomeUnknownError(SECRET),
    "wrong": NuropbValidationError(f"timeout: {SECRET}"),
    "encrypted": EncryptionError(SECRET),
}


def app_on(url: str) -> FastAPI:
    app = FastAPI(lifespan=lifespan(Mesh(url)), exception_handlers=exception_handlers())

    @app.get("/call/{service}/{method}")
    async def call(service: str, method: str, mesh: TheMesh, number: str = "") -> Any:
        params = {"number": number} if number else {}
        return await mesh.request(service, method, params, timeout=0.3)

    @app.get("/local/{name}")
    async def local(name: str) -> None:
        raise LOCAL[name]

    @app.websocket("/socket/{service}/{method}")
    async def socket(socket: WebSocket, service: str, method: str, mesh: TheMesh) -> None:
        await socket.accept()
        await mesh.request(service, method, {}, timeout=0.3)

    return app


@pytest.mark.parametrize(
    ("path", "status", "error", "detail"),
    [
        ("/call/nobody/get", 503, "NuropbNotDeliveredError", "the service is not there"),
        ("/call/orders/slow", 504, "NuropbTimeoutError", "the service did not answer in time"),
        ("/call/orders/fail", 502, "LookupError", "the service failed"),
        ("/call/orders/unknown", 502, "NuropbHandlingError", "the service failed"),
        ("/call/orders/refuse", 403, "NuropbAuthorizationError", "not allowed"),
        ("/call/orders/stranger", 401, "NuropbAuthenticationError", "not authenticated"),
        (
            "/call/orders/get?number=7",
            422,
            "NuropbValidationError",
            "params.number: expected an integer, got a string",
        ),
        ("/local/closed", 503, "TransportClosedError", "the broker cannot be reached"),
        ("/local/full", 503, "OutboxFullError", "the broker cannot be reached"),
        (
            "/local/late",
            503,
            "NuropbNotSentError",
            "it could not be sent in time: nothing was done",
        ),
        (
            "/local/unknown",
            504,
            "NuropbOutcomeUnknownError",
            "the connection was lost: whether it was done is not known",
        ),
        ("/local/wrong", 500, "NuropbValidationError", "the call could not be made"),
        ("/local/encrypted", 500, "EncryptionError", "the call could not be made"),
    ],
)
async def test_answers(
    memory_mesh: MemoryMesh,
    mesh_broker: MemoryBroker,
    caplog: pytest.LogCaptureFixture,
    path: str,
    status: int,
    error: str,
    detail: str,
) -> None:
    await memory_mesh(Orders())
    app = app_on(mesh_broker.url)
    async with Served(app) as served:
        answer = await served.http.get(path)
    assert (answer.status_code, answer.json()) == (status, {"error": error, "detail": detail})
    logged = [record for record in caplog.records if record.name == "nuropb_rmq.asgi"]
    assert len(logged) == (status >= 500)
    assert SECRET not in answer.text


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
@pytest.mark.filterwarnings("ignore:The anyio.abc.BlockingPortal alias")
@pytest.mark.parametrize(
    ("path", "code"),
    [("nobody/get", 1013), ("orders/refuse", 1008), ("orders/fail", 1011), ("orders/slow", 1013)],
)
def test_websockets_are_closed_with_a_code(mesh_broker: MemoryBroker, path: str, code: int) -> None:
    from starlette.testclient import TestClient

    with TestClient(app_on(mesh_broker.url)) as http:
        assert http.portal is not None
        service = Mesh(mesh_broker.url, service=Orders())
        with (
            http.portal.wrap_async_context_manager(service),
            http.websocket_connect(f"/socket/{path}") as socket,
            pytest.raises(WebSocketDisconnect) as closed,
        ):
            socket.receive_text()
    assert closed.value.code == code


async def test_a_websocket_that_went_away_during_the_call(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent to it, and nothing fails."""
    await memory_mesh(Orders())
    sent = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    came = iter(({"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}))

    async def receive() -> Any:
        return next(came)

    app = FastAPI(exception_handlers=exception_handlers())

    @app.websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        with pytest.raises(WebSocketDisconnect):
            await socket.receive_text()
        raise LOCAL["closed"]

    scope = {
        "type": "websocket",
        "path": "/socket",
        "headers": [],
        "query_string": b"",
        "subprotocols": [],
    }
    await app(scope, receive, send)
    assert sent == ["websocket.accept"]
    assert "/socket: 503: TransportClosedError" in caplog.text


def test_they_are_for_all_errors_of_the_library() -> None:
    assert list(exception_handlers()) == [NuropbException]
