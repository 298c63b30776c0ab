"""Records of messages harm none of them."""

from __future__ import annotations

from typing import Any

from nuropb_rmq import Message, NuropbOutcomeUnknownError, Observer, SentMessage, Transport
from nuropb_rmq.telemetry.reports import report
from nuropb_rmq.transport.hooks import Hooks

from ..mesh.support import Meshes
from ..support import eventually, request


async def test_a_handler_may_change_its_payload(configured: None, meshes: Meshes) -> None:
    async def handle(message: Message) -> Any:
        return message.payload.pop("method")

    async with (
        Transport(meshes.config(), handle) as service,
        Transport(meshes.config("caller", client_only=True)) as client,
    ):
        report(service, every=60)
        answer = await client.request(request(n=1), timeout=10)
    assert answer["error"] is None


async def test_a_posted_request_that_is_posted_again_has_ended(
    configured: None, meshes: Meshes
) -> None:
    ends: list[str | None] = []

    class Ends(Observer):
        def request_ended(self, message: SentMessage, error: str | None, seconds: float) -> None:
            ends.append(error)

    async def handle(message: Message) -> Any:
        return message.payload["params"]

    hooks = Hooks(on_failure=lambda *_: None, on_response=lambda *_: None)
    async with (
        Transport(meshes.config(), handle),
        Transport(meshes.config("caller", client_only=True), hooks=hooks) as client,
    ):
        client.observe(Ends())
        payload = {**request(n=1), "correlation_id": "one"}
        client.post(payload)
        client.post(payload)
        await eventually(lambda: len(ends) == 2)
    assert ends == [NuropbOutcomeUnknownError.__name__, None]
