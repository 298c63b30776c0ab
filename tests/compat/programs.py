"""Programs as they were written for nuropb's RMQTransport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nuropb_rmq import (
    AcknowledgeAction,
    MessageCompleteFunction,
    RMQTransport,
    TransportRespondPayload,
    TransportServicePayload,
)

Act = Callable[[TransportServicePayload, MessageCompleteFunction, dict[str, Any]], object]


def answer(
    message: TransportServicePayload, result: Any = None, **changes: Any
) -> TransportRespondPayload:
    """A response as nuropb's own handlers make it."""
    payload: Any = {
        "tag": "response",
        "result": result,
        "error": None,
        "correlation_id": message["correlation_id"],
        "trace_id": message["trace_id"],
        "context": message["nuropb_payload"]["context"],
        "warning": None,
        "reply_to": "",
        **changes,
    }
    return respond(message, payload)


def raised(
    message: TransportServicePayload, topic: str, body: Any, **changes: Any
) -> TransportRespondPayload:
    """An event as nuropb's own handlers make it of NuropbSuccess."""
    payload: Any = {
        "tag": "event",
        "topic": topic,
        "event": body,
        "target": None,
        "correlation_id": message["correlation_id"],
        "trace_id": message["trace_id"],
        "context": message["nuropb_payload"]["context"],
        **changes,
    }
    return respond(message, payload)


def respond(message: TransportServicePayload, payload: Any) -> TransportRespondPayload:
    """The wrapping of a payload."""
    return {
        "nuropb_protocol": "0.1.1",
        "nuropb_type": payload.get("tag"),
        "nuropb_payload": payload,
        "correlation_id": message["correlation_id"],
        "trace_id": message["trace_id"],
        "ttl": None,
    }


def echo(
    message: TransportServicePayload, complete: MessageCompleteFunction, _: dict[str, Any]
) -> None:
    """Answers a request with its parameters."""
    if message["nuropb_type"] == "request":
        complete([answer(message, message["nuropb_payload"]["params"])], "ack")
    else:
        complete([], "ack")


class Callback:
    """A message_callback that remembers what it was given, and then acts."""

    def __init__(self, act: Act | None = None) -> None:
        self._act = act
        self.messages: list[TransportServicePayload] = []
        self.completes: list[MessageCompleteFunction] = []
        self.metadata: list[dict[str, Any]] = []

    def __call__(
        self,
        message: TransportServicePayload,
        complete: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> object:
        self.messages.append(message)
        self.completes.append(complete)
        self.metadata.append(metadata)
        return None if self._act is None else self._act(message, complete, metadata)

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """The payloads that came in."""
        return [each["nuropb_payload"] for each in self.messages]

    def complete(self, responses: Any, action: AcknowledgeAction = "ack", *, of: int = -1) -> None:
        """Complete a message that came in."""
        self.completes[of](responses, action)


class Programs:
    """Starts programs on one virtual host, and stops them all at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: list[RMQTransport] = []

    def make(
        self,
        callback: Any,
        service_name: str = "orders",
        instance_id: str | None = "one",
        *,
        cls: type[RMQTransport] = RMQTransport,
        core: dict[str, Any] | None = None,
        **settings: Any,
    ) -> RMQTransport:
        """A transport that is not started; `core` are settings that nuropb has not."""
        settings.setdefault("amqp_url", self.url)
        if core is not None:
            cls = type(cls.__name__, (cls,), {"core_settings": core})
        made = cls(service_name, instance_id, message_callback=callback, **settings)
        self._made.append(made)
        return made

    async def service(self, callback: Any, **settings: Any) -> RMQTransport:
        """A started service."""
        made = self.make(callback, **settings)
        await made.start()
        return made

    async def client(self, callback: Any = None, **settings: Any) -> RMQTransport:
        """A started client."""
        callback = Callback() if callback is None else callback
        settings.setdefault("service_name", "client")
        made = self.make(callback, client_only=True, **settings)
        await made.start()
        return made

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(each.core.stop(grace=1) for each in self._made))
        await asyncio.gather(*(each.stop() for each in self._made))
        assert not any(each.connected for each in self._made)
        self._made.clear()
