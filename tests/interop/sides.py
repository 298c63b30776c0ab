"""The two ends of a call, the same for the tests whoever carries it: nuropb 0.1.8 or we."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nuropb_rmq import (
    AcknowledgeAction,
    Encryptor,
    Message,
    MessageCompleteFunction,
    MessageType,
    NuropbCallAgain,
    NuropbException,
    NuropbHandlingError,
    RMQTransport,
    Transport,
    TransportConfig,
    TransportServicePayload,
)
from nuropb_rmq.protocol.constants import new_id

from ..compat.programs import answer
from ..encrypting import private_key
from .orders import Orders
from .process import OldPeer, PeerError

T = TypeVar("T")

SERVICE = "orders"
TTL = 20_000
"""Milliseconds that a request lives, and that its caller waits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request; `error` is the class name of what went wrong."""

    result: Any = None
    error: str | None = None
    description: str = ""

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> Answer:
        """Return the outcome in a response."""
        error = response["error"]
        if error is None:
            return cls(response["result"])
        return cls(error=error["error"], description=error["description"])


class Caller(Protocol):
    """A client. Times are in milliseconds, as in nuropb."""

    async def describe(self, service: str = SERVICE) -> Any:
        """The service's description; its public key is known from now on."""

    async def request(
        self,
        method: str,
        *,
        service: str = SERVICE,
        ttl: int = TTL,
        encrypted: bool = False,
        context: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Answer:
        """A request, and what it ended with."""

    async def requests(self, method: str, params: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Many requests at once; their results, none of which may be an error."""

    async def command(self, method: str, *, encrypted: bool = False, **params: Any) -> None:
        """A command."""

    async def event(self, topic: str, event: Any, context: Mapping[str, Any]) -> None:
        """An event."""

    async def send(
        self, payload: dict[str, Any], *, expiry: int | None = None, priority: int | None = None
    ) -> None:
        """A payload as it is."""


class Server(Protocol):
    """A running instance of Orders."""

    async def calls(self) -> list[dict[str, Any]]:
        """Return the calls that it got."""

    async def release(self) -> None:
        """Let what is held go on."""

    async def stop(self) -> None:
        """Leave the mesh in order."""


async def until(
    look: Callable[[], Awaitable[T]], good: Callable[[T], bool], *, within: float = 20.0
) -> T:
    """Look again and again, until what is seen is good; that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not good(seen := await look()):
        assert loop.time() < deadline, f"not within {within:g} s; seen last: {seen}"
        await asyncio.sleep(0.01)
    return seen


async def called(server: Server, count: int) -> list[dict[str, Any]]:
    """Wait until the service was called so often; its calls."""
    return await until(server.calls, lambda calls: len(calls) >= count)


# -- nuropb's RMQAPI, in a process of its own -----------------------------------------------


class PeerCaller:
    """A client that is a process."""

    def __init__(self, peer: OldPeer) -> None:
        self.peer = peer

    async def describe(self, service: str = SERVICE) -> Any:
        """As Caller says; so with all methods."""
        return await self.peer.do("describe", service=service)

    async def request(
        self,
        method: str,
        *,
        service: str = SERVICE,
        ttl: int = TTL,
        encrypted: bool = False,
        context: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Answer:
        try:
            response = await self.peer.do(
                "request",
                service=service,
                method=method,
                params=params,
                context=context or {},
                ttl=ttl,
                encrypted=encrypted,
                rpc_response=False,
                within=ttl / 1000,
            )
        except PeerError as e:
            return Answer(error=e.error, description=e.text)
        return Answer.of(response)

    async def requests(self, method: str, params: Sequence[Mapping[str, Any]]) -> list[Any]:
        call: dict[str, Any] = {"service": SERVICE, "method": method, "context": {}}
        results = await self.peer.do("requests", params=params, **call)
        assert isinstance(results, list)
        return results

    async def command(self, method: str, *, encrypted: bool = False, **params: Any) -> None:
        call: dict[str, Any] = {
            "service": SERVICE,
            "method": method,
            "params": params,
            "context": {},
        }
        await self.peer.do("command", encrypted=encrypted, **call)

    async def event(self, topic: str, event: Any, context: Mapping[str, Any]) -> None:
        await self.peer.do("event", topic=topic, event=event, context=context)

    async def send(
        self, payload: dict[str, Any], *, expiry: int | None = None, priority: int | None = None
    ) -> None:
        await self.peer.do("send", payload=payload, expiry=expiry, priority=priority)


class PeerServer:
    """A service that is a process."""

    def __init__(self, peer: OldPeer) -> None:
        self.peer = peer

    async def calls(self) -> list[dict[str, Any]]:
        """As Server says; so with all methods."""
        calls = await self.peer.do("calls")
        assert isinstance(calls, list)
        return calls

    async def release(self) -> None:
        await self.peer.do("release")

    async def stop(self) -> None:
        await self.peer.do("disconnect")


# -- ours, in this process -------------------------------------------------------------------


class OurCaller(ABC):
    """A client of ours, on whichever transport."""

    def __init__(self) -> None:
        self.encryptor = Encryptor()

    @abstractmethod
    async def start(self) -> None:
        """Connect."""

    @abstractmethod
    async def stop(self) -> None:
        """Leave."""

    @abstractmethod
    async def ask(self, payload: dict[str, Any], *, ttl: int, encrypted: bool) -> Answer:
        """Send a request and wait for its answer."""

    @abstractmethod
    async def send(
        self,
        payload: dict[str, Any],
        *,
        expiry: int | None = None,
        priority: int | None = None,
        encrypted: bool = False,
    ) -> None:
        """As Caller says; so with all methods."""

    async def describe(self, service: str = SERVICE) -> Any:
        answer = await self.request("nuropb_describe", service=service)
        if answer.result["public_key"]:
            self.encryptor.add_public_key(service, answer.result["public_key"])
        return answer.result

    async def request(
        self,
        method: str,
        *,
        service: str = SERVICE,
        ttl: int = TTL,
        encrypted: bool = False,
        context: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Answer:
        call = {"tag": "request", "service": service, "method": method, "params": params}
        try:
            return await self.ask(
                {**call, "context": dict(context or {})}, ttl=ttl, encrypted=encrypted
            )
        except NuropbException as e:
            return Answer(error=type(e).__name__, description=str(e))

    async def requests(self, method: str, params: Sequence[Mapping[str, Any]]) -> list[Any]:
        answers = await asyncio.gather(*(self.request(method, **each) for each in params))
        assert not [each for each in answers if each.error]
        return [each.result for each in answers]

    async def command(self, method: str, *, encrypted: bool = False, **params: Any) -> None:
        call = {"tag": "command", "service": SERVICE, "method": method, "params": params}
        await self.send(call, encrypted=encrypted)

    async def event(self, topic: str, event: Any, context: Mapping[str, Any]) -> None:
        payload = {"tag": "event", "topic": topic, "event": event, "target": None}
        await self.send({**payload, "context": context})


class OurServer(ABC):
    """An instance of Orders in this process, on whichever transport."""

    def __init__(self) -> None:
        self.orders = Orders(NuropbCallAgain, private_key(SERVICE))
        self.encryptor = Encryptor(SERVICE, private_key(SERVICE))

    @abstractmethod
    async def start(self) -> None:
        """Connect and serve."""

    @abstractmethod
    async def stop(self) -> None:
        """As Server says; so with all methods."""

    async def calls(self) -> list[dict[str, Any]]:
        return self.orders._calls

    async def release(self) -> None:
        self.orders._release()


class TransportCaller(OurCaller):
    """A client on our Transport."""

    def __init__(self, url: str) -> None:
        super().__init__()
        config = TransportConfig(amqp_url=url, service_name="shop", client_only=True)
        self._transport = Transport(config, encryptor=self.encryptor)

    async def start(self) -> None:
        await self._transport.start()

    async def stop(self) -> None:
        await self._transport.stop()

    async def ask(self, payload: dict[str, Any], *, ttl: int, encrypted: bool) -> Answer:
        timeout = ttl / 1000
        return Answer.of(
            await self._transport.request(payload, timeout=timeout, encrypted=encrypted)
        )

    async def send(
        self,
        payload: dict[str, Any],
        *,
        expiry: int | None = None,
        priority: int | None = None,
        encrypted: bool = False,
    ) -> None:
        ttl = None if expiry is None else expiry / 1000
        await self._transport.send(payload, ttl=ttl, priority=priority, encrypted=encrypted)


class TransportServer(OurServer):
    """A service on our Transport."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__()
        settings["dead_letter_requests"] = True  # as nuropb does
        config = TransportConfig(amqp_url=url, service_name=SERVICE, **settings)
        self._transport = Transport(config, self._handle, encryptor=self.encryptor)

    async def _handle(self, message: Message) -> Any:
        return await execute(self.orders, message.kind, message.payload)

    async def start(self) -> None:
        await self._transport.start()

    async def stop(self) -> None:
        await self._transport.stop()


class RMQTransportCaller(OurCaller):
    """A client on our RMQTransport: answers come to its message_callback."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._transport = RMQTransport(
            "shop",
            new_id(),
            url,
            self._on_message,
            client_only=True,
            encryptor=self.encryptor,
        )

    async def start(self) -> None:
        await self._transport.start()

    async def stop(self) -> None:
        await self._transport.stop()

    def _on_message(
        self,
        message: TransportServicePayload,
        complete: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> None:
        waiting = self._waiting.get(message["correlation_id"])
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer.of(message["nuropb_payload"]))

    async def ask(self, payload: dict[str, Any], *, ttl: int, encrypted: bool) -> Answer:
        identity = new_id()
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = answered
        payload = {**payload, "correlation_id": identity}
        # Nobody awaits what it returns: the callback hears of every failure.
        try:
            self._transport.send_message(payload, expiry=ttl, encrypted=encrypted)
            async with asyncio.timeout(ttl / 1000 + 5):
                return await answered
        finally:
            del self._waiting[identity]

    async def send(
        self,
        payload: dict[str, Any],
        *,
        expiry: int | None = None,
        priority: int | None = None,
        encrypted: bool = False,
    ) -> None:
        await self._transport.send_message(payload, expiry, priority, encrypted=encrypted)


class RMQTransportServer(OurServer):
    """A service on our RMQTransport, completing its messages as a program of nuropb's does."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__()
        self._transport = RMQTransport(
            SERVICE, new_id(), url, self._on_message, encryptor=self.encryptor, **settings
        )

    async def _on_message(
        self,
        message: TransportServicePayload,
        complete: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> None:
        result, error, action = None, None, "ack"
        try:
            result = await execute(self.orders, message["nuropb_type"], message["nuropb_payload"])
        except Exception as e:  # noqa: BLE001 - that is what it does for a living
            error = {"error": type(e).__name__, "description": str(e)}
            action = "nack" if isinstance(e, NuropbCallAgain) else "reject"
        responses = []
        if message["nuropb_type"] == "request":
            responses.append(answer(message, result, error=error))
        complete(responses, cast(AcknowledgeAction, action))

    async def start(self) -> None:
        await self._transport.start()

    async def stop(self) -> None:
        await self._transport.stop()


async def execute(orders: Orders, kind: str, payload: Mapping[str, Any]) -> Any:
    """Do as a layer above the transport does with a message: call the method that it names."""
    if kind == MessageType.EVENT:
        about = (payload[name] for name in ("topic", "event", "target", "context"))
        orders._handle_event_(*about)
        return None
    name = payload["method"]
    if name == "nuropb_describe":
        return description()
    method = None if name.startswith("_") else getattr(orders, name, None)
    if method is None:
        raise NuropbHandlingError(f"Unknown method {name}")
    context = [payload["context"]] if getattr(method, "__nuropb_context__", False) else []
    result = method(*context, **payload["params"])
    return await result if inspect.isawaitable(result) else result


def description() -> dict[str, Any]:
    """Return the answer of nuropb_describe, as far as clients use it."""
    public_key = private_key(SERVICE).public_key()
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    methods = {"pay": {"requires_encryption": True}, "echo": {"requires_encryption": False}}
    return {"service_name": SERVICE, "public_key": pem, "methods": methods}
