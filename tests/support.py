"""Helpers of many tests: services, clients, payloads, and functions that wait for conditions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from nuropb_rmq import Handler, Message, ResponsePayloadDict, State, Transport, TransportConfig
from nuropb_rmq.protocol.foreign_encryptor import PayloadEncryptor
from nuropb_rmq.safe_logging import ServiceLog

LOG = ServiceLog(logging.getLogger("nuropb_rmq.tests"), "orders", "1")
"""The logger of what a test makes by hand."""


async def eventually(
    condition: Callable[[], object],
    *,
    within: float = 30.0,
    describe: Callable[[], object] | None = None,
) -> None:
    """Wait until the condition holds; fail with its description after `within` s."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        began = loop.time()
        if condition():
            return
        now = loop.time()
        if now > deadline:
            raise AssertionError(describe() if describe else f"not within {within} s: {condition}")
        # A look over HTTP is dear: most of the machine is left to what it waits for.
        await asyncio.sleep(min(max(0.01, 3 * (now - began)), 1, max(0.0, deadline - now)))


def request(method: str = "echo", *, service: str = "orders", **params: Any) -> dict[str, Any]:
    """A request payload."""
    return {"tag": "request", "service": service, "method": method, "params": params}


def command(method: str = "note", *, service: str = "orders", **params: Any) -> dict[str, Any]:
    """A command payload."""
    return {"tag": "command", "service": service, "method": method, "params": params}


def event(topic: str, body: Any) -> dict[str, Any]:
    """An event payload."""
    return {"tag": "event", "topic": topic, "event": body, "target": None}


class Recorder:
    """A handler that answers with the parameters of a request, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[Message] = []

    async def __call__(self, message: Message) -> Any:
        self.seen.append(message)
        return message.payload.get("params")


class Watch:
    """Every state that a transport goes through from now on, however short."""

    def __init__(self, transport: Transport) -> None:
        self.states: list[State] = []
        transport.on_state_change(lambda state, _: self.states.append(state))

    async def left(self, within: float = 5) -> None:
        """Wait until it was not ready for a moment."""
        await eventually(lambda: State.RECOVERING in self.states, within=within)

    async def recovered(self, within: float = 10) -> None:
        """Wait until it was recovering and is ready again; begin anew."""
        await eventually(
            lambda: State.RECOVERING in self.states and self.states[-1] is State.READY,
            within=within,
            describe=lambda: f"not ready again within {within} s: {self.states}",
        )
        self.states.clear()


class Transports:
    """Starts services and clients on one virtual host, and stops them all at the end.

    They are given `hosts`, URLs of a cluster's nodes, where there are any.
    """

    def __init__(self, url: str, *, hosts: Sequence[str] = ()) -> None:
        self.url = url
        self._hosts = list(hosts)
        self._started: list[Transport] = []

    def config(self, service_name: str, **settings: Any) -> TransportConfig:
        """A configuration for this virtual host, with short patience."""
        settings.setdefault("amqp_url", self._hosts or self.url)
        return TransportConfig(service_name=service_name, **settings)

    def transport(
        self,
        service_name: str,
        handler: Handler | None = None,
        *,
        encryptor: PayloadEncryptor | None = None,
        **settings: Any,
    ) -> Transport:
        """A transport that is not started; stopped with the others."""
        settings.setdefault("client_only", handler is None)
        made = Transport(self.config(service_name, **settings), handler, encryptor=encryptor)
        self._started.append(made)
        return made

    async def service(
        self, handler: Handler, service_name: str = "orders", **settings: Any
    ) -> Transport:
        """A started service."""
        made = self.transport(service_name, handler, **settings)
        await made.start()
        return made

    async def client(self, service_name: str = "client", **settings: Any) -> Transport:
        """A started client."""
        made = self.transport(service_name, **settings)
        await made.start()
        return made

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(each.stop(grace=1) for each in self._started))
        assert all(each.state in (State.STOPPED, State.FAILED) for each in self._started)
        self._started.clear()  # pytest keeps this object: what they hold must not look like a leak


def result_of(response: ResponsePayloadDict) -> Any:
    """The result of a response that carries no error."""
    assert response["error"] is None, response
    return response["result"]
