"""The orders service: what it can do, and the few lines that put it on the mesh.

    python -m examples.demo.orders URL PUBLIC_KEY_FILE

It makes a private key at start and writes the public one to PUBLIC_KEY_FILE, as PEM.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nuropb_rmq import (
    Encryptor,
    Message,
    NuropbAuthorizationError,
    NuropbHandlingError,
    NuropbSuccess,
    Transport,
    TransportConfig,
    configure,
)

from .runtime import report, run, until_stopped

PRICES = {"lamp": Decimal("29.90"), "chair": Decimal("89.00")}
WAREHOUSE_TAKES = 0.05  # seconds


class Orders:
    """The handler: it is called with each request and command, several at a time.

    What a method returns is the answer; what it raises is the caller's remote error.
    """

    def __init__(self) -> None:
        self._orders = {"A-1001": ("lamp", 2)}
        self._stock = {"lamp": 7, "chair": 3}
        self._deliveries: set[str] = set()
        self._repeated = 0
        # Only what stands here can be called.
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {
            "total": self.total,
            "pack": self.pack,
            "place": self.place,
            "quote": self.quote,
            "restock": self.restock,
            "stock": self.stock,
        }

    async def __call__(self, message: Message) -> Any:
        name, params = message.payload["method"], message.payload["params"]
        if name == "pay":
            return await self.pay(message, **params)
        method = self._methods.get(name)
        if method is None:
            raise NuropbHandlingError(f"orders has no method {name!r}")
        return await method(**params)

    async def total(self, order: str) -> dict[str, Any]:
        """Return the price of an order."""
        if order not in self._orders:
            raise LookupError(f"there is no order {order}")
        item, count = self._orders[order]
        return {"order": order, "items": count, "total": count * PRICES[item]}

    async def place(self, item: str, count: int) -> None:
        """A new order. Its event goes out with the answer."""
        order = f"A-{1001 + len(self._orders)}"
        self._orders[order] = (item, count)
        placed = {"order": order, "item": item, "count": count}
        raise NuropbSuccess(placed, events=[{"topic": "orders.placed", "payload": placed}])

    async def restock(self, delivery: str, item: str, count: int) -> None:
        """A command: nobody waits for it.

        It has an identity, so that doing it again is harmless: commands are delivered at least
        once. A broker that was killed may have forgotten that they were acknowledged.
        """
        if delivery in self._deliveries:
            self._repeated += 1
            return
        self._deliveries.add(delivery)
        self._stock[item] += count
        report("restocked", item=item, stock=self._stock[item])

    async def stock(self, item: str) -> dict[str, Any]:
        """Return the number in stock, and that of commands that came more than once."""
        return {"item": item, "stock": self._stock[item], "repeated": self._repeated}

    async def pack(self, order: str, seconds: float) -> str:
        """Work that takes its time."""
        report("packing", order=order, seconds=seconds)
        await asyncio.sleep(seconds)
        return f"{order} is packed"

    async def quote(self, number: int) -> int:
        """As if it asked a warehouse; many of these wait at the same time."""
        await asyncio.sleep(WAREHOUSE_TAKES)
        return number

    async def pay(self, message: Message, order: str, card: str) -> dict[str, Any]:
        """Takes a card number, and so no plain text."""
        if not message.encrypted:
            raise NuropbAuthorizationError("pay: encrypted requests only")
        return {"order": order, "paid_with": f"card ending in {card[-4:]}"}


def new_private_key(public_key_file: Path) -> rsa.RSAPrivateKey:
    """A key for this run; a service that is started again would read its own from a safe place."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public_key_file.write_bytes(public)
    return key


async def serve(url: str, private_key: rsa.RSAPrivateKey) -> None:
    """Be the orders service until SIGTERM; what is in hand then is finished first."""
    config = TransportConfig(amqp_url=url, service_name="orders")
    await configure(config)  # exchanges and dead-letter queue, where they are missing
    async with Transport(config, Orders(), encryptor=Encryptor("orders", private_key)) as transport:
        report("ready")
        await until_stopped(transport)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the orders service of the demo")
    parser.add_argument("url", help="the broker: amqp://user:password@host:port/vhost")
    parser.add_argument("public_key_file", type=Path, help="where to write the public key")
    given = parser.parse_args()
    run(serve(given.url, new_private_key(given.public_key_file)))
