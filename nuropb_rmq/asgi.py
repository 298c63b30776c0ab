"""A mesh in a Starlette or FastAPI application: its life, its place in a request, its health.

::

    mesh = Mesh("amqp://guest:guest@localhost/")
    app = FastAPI(lifespan=lifespan(mesh), routes=health_routes(mesh))

    @app.get("/orders/{order_id}")
    async def order(order_id: str, mesh: Annotated[Mesh, Depends(get_mesh)]) -> Any:
        return await mesh.request("orders", "get", {"order_id": order_id}, timeout=5)

Needs Starlette, which the extra `asgi` installs; importing nuropb_rmq does not import this module.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from .broker.backoff import pause
from .broker.state import State
from .exceptions import NuropbConfigurationError, NuropbException, NuropbTransportError
from .mesh.mesh import Mesh
from .transport.sender import grace_period
from .transport.transport import DEFAULT_GRACE

try:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse
    from starlette.routing import BaseRoute, Route
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(
        f"nuropb_rmq.asgi needs Starlette: pip install 'nuropb-rmq-aio[asgi]' ({e})", name=e.name
    ) from e

if TYPE_CHECKING:
    _Connection = HTTPConnection[Any]  # whatever the application's own state is
else:
    _Connection = HTTPConnection  # FastAPI knows the class, and no parametrized form of it

__all__ = ["MeshLifespan", "MeshState", "get_mesh", "health_routes", "lifespan"]

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.25
"""Seconds, about, between a start that failed and the next; it doubles up to `reconnect_cap`."""


class MeshState(TypedDict):
    """The state that lifespan() adds to every request: `request.state.mesh`.

    In Starlette, `Request[MeshState]` types it: `request.state["mesh"]`.
    """

    mesh: Mesh


MeshLifespan = Callable[[Any], AbstractAsyncContextManager[MeshState]]
"""The type of the `lifespan` argument of Starlette and FastAPI."""


# -- its life -------------------------------------------------------------------------------


def lifespan(
    mesh: Mesh, *, grace: float = DEFAULT_GRACE, start_degraded: bool = False
) -> MeshLifespan:
    """Run the mesh for as long as the application runs: FastAPI(lifespan=lifespan(mesh)).

    grace: seconds that the mesh has at shutdown to finish its messages. The server first finishes
        its HTTP requests, so whatever stops the process must wait a little longer than for both.
    start_degraded: start without the broker too, and connect in the background, however often
        that fails. Until then calls raise TransportClosedError, and /readyz says why.

    It composes with others, as any lifespan does::

        @asynccontextmanager
        async def both(app):
            async with database(app), lifespan(mesh)(app) as state:
                yield {**state, "more": 1}

    At start-up it raises what Mesh.start() raises, a NuropbTransportError when the broker cannot
    be had (without start_degraded), and the server gives up with its text.
    """

    grace = grace_period(grace)

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[MeshState]:
        if not mesh.state.over:
            raise NuropbTransportError(
                f"the mesh is {mesh.state.name} already: lifespan() starts and stops it, and "
                "nothing else may"
            )
        connecting: asyncio.Task[None] | None = None
        try:
            await mesh.start()
        except NuropbTransportError as e:
            if not start_degraded:
                logger.debug("the mesh has not started", exc_info=True)
                # The server prints the traceback, and the causes would bury what it says.
                raise e.with_traceback(None) from None
            logger.warning("starting without the broker: %s", e)
            connecting = asyncio.create_task(_connect(mesh, str(e)), name="nuropb-asgi-connect")
        try:
            yield {"mesh": mesh}
        finally:
            if connecting is not None:
                connecting.cancel()
                await asyncio.wait((connecting,))
            await mesh.stop(grace=grace)

    return run


async def _connect(mesh: Mesh, told: str) -> None:
    """Try until the mesh has started; say so when the reason changes."""
    cap = mesh.transport.config.reconnect_cap
    for tries in count():
        await asyncio.sleep(pause(tries, cap, first=FIRST_PAUSE))
        try:
            await mesh.start()
        except NuropbException as e:
            if str(e) != told:
                logger.warning("still without the broker: %s", e)
            told = str(e)
        except Exception:
            logger.exception("start() failed as it never should; it is tried again")
        else:
            logger.info("the mesh has started after all")
            return


# -- its place in a request -----------------------------------------------------------------


def get_mesh(conn: _Connection) -> Mesh:
    """The mesh of the application that serves this request or WebSocket.

    In FastAPI `mesh: Annotated[Mesh, Depends(get_mesh)]`, in Starlette `get_mesh(request)`.
    Raises NuropbConfigurationError when the application has none, or its lifespan was not run.
    """
    mesh = conn.scope.get("state", {}).get("mesh")
    if mesh is None:
        raise NuropbConfigurationError(
            "lifespan",
            "there is no mesh in the application's state: make it with lifespan=lifespan(mesh), "
            'let a lifespan of your own yield {"mesh": mesh}, and see to it that the server or '
            "test client runs lifespans",
        )
    return cast(Mesh, mesh)


# -- its health -----------------------------------------------------------------------------

_REASONS: Final = {
    State.BLOCKED: "the broker has an alarm and takes no messages",
    State.RECOVERING: "the connection was lost, and is being made again",
    State.CONNECTING: "not connected yet",
    State.DRAINING: "shutting down",
    State.STOPPED: "not started, or stopped",
    State.FAILED: "given up: it takes an operator, and then a restart",
}


def health_routes(mesh: Mesh) -> list[BaseRoute]:
    """/livez and /readyz, for whoever watches the process: Starlette(routes=[*…, *…]).

    /livez is 200 whenever the process answers, and 503 when the mesh has FAILED: it takes a
    restart to go on. /readyz is 200 while the mesh is connected and
    consuming, neither blocked by the broker nor draining, and otherwise 503 with the state and
    the reason, as JSON. Both look at what is known here: they never ask the broker, and never
    wait. The reason may name the broker's host and user, so keep /readyz from strangers.
    """

    async def livez(_: Request) -> JSONResponse:
        if mesh.state is not State.FAILED:
            return _answer(200, {"alive": True})
        return _answer(503, {"alive": False, "reason": _unready(mesh)})

    async def readyz(_: Request) -> JSONResponse:
        reason = _unready(mesh)
        told: dict[str, Any] = {"ready": reason is None, "state": mesh.state.name}
        if reason is None:
            return _answer(200, told)
        return _answer(503, {**told, "reason": reason})

    return [
        Route(path, endpoint, methods=["GET"], include_in_schema=False)
        for path, endpoint in (("/livez", livez), ("/readyz", readyz))
    ]


def _unready(mesh: Mesh) -> str | None:
    """Why nothing should be sent to this process; None when all is well."""
    reason = _REASONS.get(mesh.state)
    if reason is None:
        return None if mesh.transport.consuming else "told to stop consuming"
    return reason if mesh.error is None else f"{reason}: {mesh.error}"


def _answer(status: int, content: dict[str, Any]) -> JSONResponse:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})
