"""Use a mesh in a Starlette or FastAPI application: lifespan, access in requests, health routes.

::

    mesh = Mesh("amqp://guest:guest@localhost/")
    app = FastAPI(
        lifespan=lifespan(mesh),
        routes=health_routes(mesh),
        exception_handlers=exception_handlers(),
    )

    @app.get("/orders/{order_id}")
    async def order(order_id: str, mesh: Annotated[Mesh, Depends(get_mesh)]) -> Any:
        return await mesh.request("orders", "get", {"order_id": order_id}, timeout=5)

Needs Starlette, which the extra `asgi` installs; importing nuropb_rmq does not import this module.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from .broker.backoff import pause
from .broker.state import State
from .config.times import grace_period
from .exceptions import (
    NuropbAuthenticationError,
    NuropbAuthorizationError,
    NuropbConfigurationError,
    NuropbException,
    NuropbNotDeliveredError,
    NuropbNotSentError,
    NuropbOutcomeUnknownError,
    NuropbRemoteError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
)
from .mesh.health import health_of
from .mesh.mesh import Mesh
from .safe_logging import ServiceLog
from .transport.transport import DEFAULT_GRACE

try:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import BaseRoute, Route
    from starlette.status import (
        WS_1008_POLICY_VIOLATION,
        WS_1011_INTERNAL_ERROR,
        WS_1013_TRY_AGAIN_LATER,
    )
    from starlette.websockets import WebSocketState
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        f"nuropb_rmq.asgi needs Starlette: pip install 'nuropb-rmq-aio[asgi]' ({e})", name=e.name
    ) from e

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    _Connection = HTTPConnection[Any]  # with any state of the application's own
else:
    _Connection = HTTPConnection  # FastAPI does not know parametrized forms of the class

__all__ = [
    "MeshLifespan",
    "MeshState",
    "exception_handlers",
    "get_mesh",
    "health_routes",
    "lifespan",
    "metrics_route",
]

logger = logging.getLogger(__name__)

_SERVER_ERROR: Final = 500
FIRST_PAUSE: Final = 0.25
"""Seconds, about, until a failed start is tried again; doubles up to `reconnect_cap`."""


class MeshState(TypedDict):
    """The state that lifespan() adds to every request: `request.state.mesh`.

    In Starlette, `Request[MeshState]` types it: `request.state["mesh"]`.
    """

    mesh: Mesh


MeshLifespan = Callable[[Any], AbstractAsyncContextManager[MeshState]]
"""The type of the `lifespan` argument of Starlette and FastAPI."""


# -- lifespan -------------------------------------------------------------------------------


def lifespan(
    mesh: Mesh, *, grace: float = DEFAULT_GRACE, start_degraded: bool = False
) -> MeshLifespan:
    """Run the mesh for as long as the application runs: FastAPI(lifespan=lifespan(mesh)).

    grace: seconds that the mesh has at shutdown to finish its messages. The server first finishes
        its HTTP requests, so a supervisor must wait a little longer than for both.
    start_degraded: start without the broker too, and keep trying to connect in the background.
        Until then calls raise TransportClosedError, and /readyz says why.

    Combine it with other lifespans as usual::

        @asynccontextmanager
        async def both(app):
            async with database(app), lifespan(mesh)(app) as state:
                yield {**state, "more": 1}

    Start-up raises the errors of Mesh.start(), which the server prints before it gives up; with
    start_degraded, no NuropbTransportError.
    """

    grace = grace_period(grace)

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[MeshState]:
        if not mesh.state.over:
            raise NuropbTransportError(
                f"the mesh is {mesh.state.name} already: only lifespan() may start and stop it"
            )
        connecting: asyncio.Task[None] | None = None
        try:
            await mesh.start()
        except NuropbTransportError as e:
            if not start_degraded:
                logger.debug("the mesh has not started", exc_info=True)
                # The server prints the traceback, in which the causes would bury the text.
                raise e.with_traceback(None) from None
            _log(mesh).warning("starting without the broker: %s", e)
            connecting = asyncio.create_task(_connect(mesh, str(e)), name="nuropb-asgi-connect")
        try:
            yield {"mesh": mesh}
        finally:
            if connecting is not None:
                connecting.cancel()
                await asyncio.wait((connecting,))
            await mesh.stop(grace=grace)

    return run


async def _connect(mesh: Mesh, logged: str) -> None:
    """Try until the mesh has started; log an error when its text differs from the last one."""
    cap = mesh.transport.config.reconnect_cap
    for tries in count():
        await asyncio.sleep(pause(tries, cap, first=FIRST_PAUSE))
        try:
            await mesh.start()
        except NuropbException as e:
            if str(e) != logged:
                _log(mesh).warning("still without the broker: %s", e)
            logged = str(e)
        except Exception:  # noqa: BLE001 - it is the task's outermost loop
            _log(mesh).exception("start() failed (a bug in nuropb_rmq); trying again")
        else:
            _log(mesh).info("the mesh has started")
            return


def _log(mesh: Mesh) -> ServiceLog:
    return ServiceLog(logger, mesh.service_name, mesh.instance_id)


# -- access in requests ---------------------------------------------------------------------


def get_mesh(conn: _Connection) -> Mesh:
    """Return the mesh of the application that serves this request or WebSocket.

    In FastAPI `mesh: Annotated[Mesh, Depends(get_mesh)]`, in Starlette `get_mesh(request)`.
    Raises NuropbConfigurationError when the application has none, or its lifespan was not run.
    """
    mesh = conn.scope.get("state", {}).get("mesh")
    if mesh is None:
        raise NuropbConfigurationError(
            "lifespan",
            "there is no mesh in the application's state: make it with lifespan=lifespan(mesh), "
            'let a lifespan of your own yield {"mesh": mesh}, and make sure that the server or '
            "test client runs lifespans",
        )
    return cast(Mesh, mesh)


# -- errors of calls ------------------------------------------------------------------------

_Key = int | type[Exception]  # as FastAPI has it
_Handler = Callable[[Any, Any], Coroutine[Any, Any, Response]]

_Answers = tuple[tuple[type[NuropbException], int, str | None], ...]
_REFUSED: Final[_Answers] = (  # by the service, which says so to its caller
    (NuropbAuthenticationError, 401, "not authenticated"),
    (NuropbAuthorizationError, 403, "not allowed"),
    (NuropbValidationError, 422, None),
    (NuropbRemoteError, 502, "the service failed"),
)
_FAILED: Final[_Answers] = (
    (NuropbNotDeliveredError, 503, "the service is not there"),
    (NuropbNotSentError, 503, "it could not be sent in time: nothing was done"),
    (NuropbTimeoutError, 504, "the service did not answer in time"),
    (NuropbOutcomeUnknownError, 504, "the connection was lost: whether it was done is not known"),
    (NuropbTransportError, 503, "the broker cannot be reached"),
    (NuropbException, 500, "the call could not be made"),
)


def exception_handlers() -> dict[_Key, _Handler]:
    """Return handlers for errors of calls: FastAPI(exception_handlers=exception_handlers()).

    A request that such an error ends is answered with {"error": its class, "detail": a text}: a
    refusal of the service with 401, 403 or 422 (wrong parameters, which the text names), another
    error of the service with 502, no such service, no connection and what was not sent in time
    with 503, no answer in time and an unknown outcome with 504, anything else with 500. No text
    tells more than that. A WebSocket is closed: with 1008 for a refusal, 1013 for 503 and 504, and
    1011 otherwise. What is 500 or more is logged at WARNING.
    """
    return {NuropbException: _handle}


async def _handle(conn: Any, error: NuropbException) -> Any:
    status, detail = _status(error)
    name = error.error if isinstance(error, NuropbRemoteError) else type(error).__name__
    if status >= _SERVER_ERROR:
        logger.warning("%s: %d: %s: %s", conn.scope["path"], status, type(error).__name__, error)
    if conn.scope["type"] != "websocket":
        return _answer(status, {"error": name, "detail": detail})
    if WebSocketState.DISCONNECTED not in (conn.client_state, conn.application_state):
        await conn.close(_close_code(status), name)
    return None


def _status(error: NuropbException) -> tuple[int, str]:
    table = _REFUSED if isinstance(error, NuropbRemoteError) else _FAILED
    status, detail = next((code, text) for kind, code, text in table if isinstance(error, kind))
    return status, error.description if detail is None else detail


def _close_code(status: int) -> int:
    """Return the close code of a WebSocket (RFC 6455, 7.4.1, and IANA's registry)."""
    if status < _SERVER_ERROR:
        return WS_1008_POLICY_VIOLATION
    return WS_1013_TRY_AGAIN_LATER if status in (503, 504) else WS_1011_INTERNAL_ERROR


# -- health routes --------------------------------------------------------------------------


def health_routes(mesh: Mesh) -> list[BaseRoute]:
    """Return the routes /livez and /readyz, for probes: Starlette(routes=[*…, *…]).

    /livez is 200 whenever the process answers, and 503 when the mesh has FAILED, which needs a
    restart. /readyz is 200 while the mesh is connected and consuming, not blocked by the broker, in
    no outage (see Outage) and not draining, its outbox is below 90 % of its bounds, and no call has
    blocked the event loop for a second in the last 10 s. Otherwise it is 503 with the state and the
    reason, as JSON. "parts" has the reason of each part, or null; on memory:// there is "broker":
    "memory", too. Both use the state in this process: they never ask the broker, and never wait.
    The reasons may name the broker's host and user, so keep /readyz from strangers.
    """

    async def livez(_: Request) -> JSONResponse:
        if mesh.state is not State.FAILED:
            return _answer(200, {"alive": True})
        return _answer(503, {"alive": False, "reason": health_of(mesh.transport).reason})

    async def readyz(_: Request) -> JSONResponse:
        health = health_of(mesh.transport)
        return _answer(200 if health.ready else 503, health.as_dict())

    return [
        Route(path, endpoint, methods=["GET"], include_in_schema=False)
        for path, endpoint in (("/livez", livez), ("/readyz", readyz))
    ]


def metrics_route(mesh: Mesh, *, registry: CollectorRegistry | None = None) -> BaseRoute:
    """Collect the metrics of a mesh, and return the route /metrics for Prometheus.

    It tells all that is in the registry, prometheus_client's own one by default: what else the
    program counts, and further meshes that are given to nuropb_rmq.telemetry.prometheus.collect().
    The text is made in a thread, so the event loop goes on. It has the names of services and
    methods: keep it from strangers.

    Raises ModuleNotFoundError without the extra `prometheus`.
    """
    from .telemetry import prometheus  # noqa: PLC0415 - an extra

    chosen = () if registry is None else (registry,)
    prometheus.collect(mesh, *chosen)

    def metrics(request: Request) -> Response:
        text, content_type = prometheus.exposition(request.headers.get("accept", ""), *chosen)
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})

    return Route("/metrics", metrics, methods=["GET"], include_in_schema=False)


def _answer(status: int, content: dict[str, Any]) -> JSONResponse:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})
