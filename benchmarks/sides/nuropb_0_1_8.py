"""nuropb 0.1.8 with its own RMQAPI, as a NuroPb program uses it. Its exchanges are there.

Its describe() reads annotations as they are: postponed ones, as text, break it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from nuropb.contexts.describe import publish_to_mesh
from nuropb.rmq_api import RMQAPI

from .loop import LIVE, PREFETCH, STORE, Params, Side, main


class Service:
    """The service. nuropb reads no signatures when it calls, so it takes what comes."""

    _service_name = "bench"
    _private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def echo(self, **given: Any) -> Any:
        """Answer with the parameters."""
        return given

    @publish_to_mesh(requires_encryption=True)  # type: ignore[untyped-decorator, unused-ignore]
    def secret(self, **given: Any) -> Any:
        """The public key is told when there is a method that requires encryption."""
        return given


class Nuropb(Side):
    """RMQAPI; events are neither persistent nor confirmed, there is no way to ask for it."""

    distribution = "nuropb"
    exchange = "nuropb-events-exchange"
    client: RMQAPI
    subscribers: list[RMQAPI]

    async def start_client(self) -> None:
        """A client, which knows the service's public key."""
        await self.start_publisher()
        await self.client.describe_service("bench")

    def call(self, given: Params) -> Awaitable[Any]:
        """A request."""
        answer: Awaitable[Any] = self.client.request(self.service, "echo", given, context={})
        return answer

    def call_encrypted(self, given: Params) -> Awaitable[Any]:
        """The same, encrypted."""
        answer: Awaitable[Any] = self.client.request(
            "bench", "secret", given, context={}, encrypted=True
        )
        return answer

    async def start_publisher(self) -> None:
        """A client."""
        self.client = RMQAPI(amqp_url=self.url, instance_id="2")
        self.subscribers = []
        await self.client.connect()

    async def publish_many(self, topic: str, event: Params, count: int, outstanding: int) -> None:
        """There is nothing to await: the loop has a turn after each `outstanding`."""
        for number in range(1, count + 1):
            self.client.publish_event(topic, event, {})
            if number % outstanding == 0:
                await asyncio.sleep(0)

    async def flush(self) -> None:
        """A round trip on the channel that it publishes on."""
        done = asyncio.get_running_loop().create_future()
        self.client.transport._channel.queue_declare(
            STORE, passive=True, callback=lambda _: done.set_result(None)
        )
        await done

    async def subscribe(self, number: int) -> None:
        """A service that listens."""
        side = self

        class Listener:
            _service_name = f"listener{number}"

            def _handle_event_(self, topic: str, event: Any, target: Any, context: Any) -> None:
                side.handled()

        listener = await self._service(f"listener{number}", Listener(), event_bindings=[LIVE])
        self.subscribers.append(listener)

    async def unsubscribe(self) -> None:
        """Stop them."""
        for listener in self.subscribers:
            await listener.disconnect()
        self.subscribers.clear()

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        kind = type("Service", (Service,), {"echo": self.handler(Service.echo)})
        service = await self._service("bench", kind())
        stop: Callable[[], Awaitable[object]] = service.disconnect
        return stop

    async def relay(self, name: str, to: str) -> None:
        """Its method calls through the API that serves it."""

        class Relay:
            _service_name = name

            async def echo(self, **given: Any) -> Any:
                return await api.request(to, "echo", given, context={})

        api = await self._service(name, Relay())

    async def _service(self, name: str, instance: object, **settings: Any) -> RMQAPI:
        service = RMQAPI(
            amqp_url=self.url,
            service_name=name,
            instance_id="1",
            service_instance=instance,
            transport_settings={"prefetch_count": PREFETCH, **settings},
        )
        await service.connect()
        return service


if __name__ == "__main__":
    main(Nuropb)
