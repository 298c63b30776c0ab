"""nuropb 0.1.8 as a program uses it, in a process of its own; runs in .venv-peer.

    python -m tests.interop.old_peer nuropb|nuropb_rmq

The argument says whose transport carries nuropb's RMQAPI: its own, or ours put in its place. What
to do comes as lines of JSON on stdin, {"id": 1, "do": "request", ...}; each is answered on stdout
as soon as it is done, with {"id": 1, "value": ...} or {"id": 1, "error": class, "text": ...}.
The end of stdin ends the program.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any, ClassVar

import nuropb.nuropb_api  # type: ignore[import-not-found,unused-ignore]
import nuropb.rmq_api  # type: ignore[import-not-found,unused-ignore]
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from nuropb.interface import NuropbCallAgain  # type: ignore[import-not-found,unused-ignore]

from .orders import Orders
from .times import VALUES, Times

LONGEST_LINE = 2**26


def use_our_transport() -> None:
    """nuropb's RMQAPI makes its transport by this name."""
    from nuropb_rmq import RMQTransport

    class Impatient(RMQTransport):
        """Gives up soon on an answer that was lost with its connection; the default is 30 s."""

        core_settings: ClassVar[dict[str, Any]] = {"unknown_outcome_after": 1.0}

    nuropb.rmq_api.RMQTransport = Impatient


class WithCoroutine(Orders):
    """Its events are handled by a coroutine function."""

    async def _handle_event_(  # type: ignore[override]
        self, topic: str, event: Any, target: list[Any] | None, context: dict[str, Any]
    ) -> None:
        self._note("event", topic=topic)


class WithTextAnnotations(Orders):
    """Its annotations are text, as in every module that imports annotations from __future__."""

    def price(self, item: str) -> int:
        """Return the price of an item."""
        return len(item)


SERVICES = {each.__name__: each for each in (Orders, Times, WithCoroutine, WithTextAnnotations)}


class Peer:
    """A client or a service. Each public method is something that it can be told to do."""

    def __init__(self) -> None:
        self._api: Any = None
        self._orders: Orders | None = None

    def configure(self, url: str, api_url: str, dl_queue: str | None = None) -> None:
        """Make the exchanges, and a dead-letter queue, as an operator does with nuropb."""
        # It derives the management API's port from AMQP's; a private node chooses both freely.
        nuropb.nuropb_api.rmq_api_url_from_amqp_url = lambda _: api_url
        settings = {} if dl_queue is None else {"dl_queue": dl_queue}
        nuropb.nuropb_api.configure_mesh(connection_properties=url, transport_settings=settings)

    async def connect(
        self,
        url: str,
        service: str | None = None,
        instance: str | None = None,
        private_key: str | None = None,
        settings: dict[str, Any] | None = None,
        what: str = "Orders",
    ) -> None:
        """Be an instance of a service, of the class `what`; without a name, a client."""
        if service is not None:
            self._orders = SERVICES[what](NuropbCallAgain, _load(private_key))
        self._api = nuropb.rmq_api.RMQAPI(
            amqp_url=url,
            service_name=service,
            instance_id=instance,
            service_instance=self._orders,
            transport_settings=settings,
        )
        await self._api.connect()
        if not self._api.connected:
            raise ConnectionError("connect() has returned, and it is not connected: see its log")

    async def disconnect(self) -> None:
        """Leave."""
        api, self._api = self._api, None
        if api is not None and api.connected:
            await api.disconnect()

    def connected(self) -> bool:
        """Return whether it says that it is connected."""
        return bool(self._api.connected)

    def transport(self) -> list[str]:
        """Whose transport it is: the modules of its classes."""
        return [each.__module__ for each in type(self._api.transport).mro()]

    # -- as a client ------------------------------------------------------------------------

    async def describe(self, service: str) -> Any:
        """Ask a service what it can do; its public key is remembered."""
        return await self._api.describe_service(service)

    async def requires_encryption(self, service: str, method: str) -> bool:
        """Ask whether this method may be called in plain text."""
        return bool(await self._api.requires_encryption(service, method))

    async def request(self, within: float = 20.0, **call: Any) -> Any:
        """A request; nuropb has no timeout of its own, so that is `within` seconds."""
        return await asyncio.wait_for(self._api.request(**call), within)

    async def request_with_times(self, within: float = 20.0, **call: Any) -> Any:
        """A request whose parameters are dates and times, which no line of JSON can carry here."""
        return await self.request(within, params=VALUES, context={}, **call)

    def event_with_times(self, topic: str) -> None:
        """An event that holds them."""
        self._api.publish_event(topic, VALUES, {})

    async def requests(self, params: list[Any], within: float = 60.0, **call: Any) -> Any:
        """The same request with many parameters at once."""
        calls = (self._api.request(params=each, **call) for each in params)
        return await asyncio.wait_for(asyncio.gather(*calls), within)

    def command(self, **call: Any) -> None:
        """A command; with nuropb's transport nobody knows what came of it."""
        self._api.command(**call)

    def event(self, **event: Any) -> None:
        """An event."""
        self._api.publish_event(**event)

    async def send(self, payload: dict[str, Any], **options: Any) -> None:
        """Send with options that RMQAPI does not have: priority, and an event's expiry."""
        self._api.transport.send_message(payload, **options)

    def unanswered(self) -> int:
        """Requests whose caller still waits."""
        return len(self._api._response_futures)

    def keys(self) -> int:
        """Calls whose key its Encryptor remembers."""
        return len(self._api._encryptor._correlation_id_symmetric_keys)

    # -- as a service -----------------------------------------------------------------------

    def calls(self) -> list[dict[str, Any]]:
        """Return the calls that the service got."""
        return self._service()._calls

    def release(self) -> None:
        """Let what is held go on."""
        self._service()._release()

    def _service(self) -> Orders:
        assert self._orders is not None, "this peer is a client"
        return self._orders


def _load(pem: str | None) -> rsa.RSAPrivateKey | None:
    if pem is None:
        return None
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


async def obey(peer: Peer, line: bytes) -> None:
    """Do what one line says, and answer it."""
    order = json.loads(line)
    answer = {"id": order.pop("id")}
    try:
        value = getattr(peer, order.pop("do"))(**order)
        answer["value"] = await value if asyncio.iscoroutine(value) else value
    except Exception as e:  # noqa: BLE001 - whatever it is, it is told
        answer |= {"error": type(e).__name__, "text": str(e)}
    print(json.dumps(answer), flush=True)


async def main() -> None:
    """Obey until stdin ends."""
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    stdin, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    peer = Peer()
    orders = set()
    while line := await reader.readline():
        order = asyncio.create_task(obey(peer, line))
        orders.add(order)
        order.add_done_callback(orders.discard)
    await peer.disconnect()
    stdin.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)7d %(name)s: %(message)s")
    if sys.argv[1] == "nuropb_rmq":
        use_our_transport()
    asyncio.run(main())
