"""A server for the tests: it runs an application's lifespan, and calls it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHUTDOWN = 20.0  # seconds


class StartupFailed(Exception):  # noqa: N818 - says what is the case
    """The application has refused to start; the text is what a server would log."""


class Served:
    """An application between start-up and shutdown, as an async context manager.

    `http` calls it. `state` is what its lifespan has yielded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self.state: dict[str, Any] = {}
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self._with_state), base_url="http://app"
        )

    async def _with_state(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "state": dict(self.state)}, receive, send)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="lifespan")
        await self._to_app.put({"type": "lifespan.startup"})
        said = await self._from_app.get()
        if said["type"] != "lifespan.startup.complete":
            await asyncio.wait((self._task,))
            self._task.exception()  # servers log the message, which has it
            raise StartupFailed(said["message"])
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.http.aclose()
        await self._to_app.put({"type": "lifespan.shutdown"})
        async with asyncio.timeout(SHUTDOWN):
            await self._task
        said = await self._from_app.get()
        assert said["type"] == "lifespan.shutdown.complete", said["message"]

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of what is there."""
        answer = await self.http.get(path)
        return answer.status_code, answer.json()

    async def websocket(self, path: str) -> str:
        """Connect a WebSocket, and return the one text that it is sent before it is closed."""
        sent: asyncio.Queue[Message] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "subprotocols": [],
        }

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        await self._with_state(scope, receive, sent.put)
        messages = [sent.get_nowait() for _ in range(sent.qsize())]
        kinds = [each["type"] for each in messages]
        assert kinds == ["websocket.accept", "websocket.send", "websocket.close"]
        return str(messages[1]["text"])
