# mypy: ignore-errors
"""A service with tokens, with encryption, and with a listener of its own."""

import asyncio
import logging
import os
import signal
from typing import Any, Dict, Optional

from cryptography.hazmat.primitives.asymmetric import rsa

from nuropb.contexts.context_manager import NuropbContextManager
from nuropb.contexts.context_manager_decorator import nuropb_context
from nuropb.contexts.describe import describe_service, publish_to_mesh
from nuropb.interface import NuropbAuthorizationError, NuropbValidationError
from nuropb.nuropb_api import create_service, default_connection_properties

logging.getLogger("nuropb").setLevel(logging.ERROR)


def claims_from_token(token: str) -> Optional[Dict[str, Any]]:
    if token != "secret token":
        raise NuropbAuthorizationError(description="this token is not known")
    return {"user_id": "alice", "roles": ["buyer"]}


class Orders:
    """Takes orders."""

    _service_name = "orders"
    _instance_id = "orders-1"
    _version = "0.2"

    def __init__(self):
        self._private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._cancelled = []

    def get_total(self, order_id: str, currency: str = "EUR") -> dict:
        """The total of an order."""
        if not order_id:
            raise NuropbValidationError(description="order_id is empty")
        return {"order_id": order_id, "total": "12.50", "currency": currency}

    @nuropb_context
    @publish_to_mesh(authorize_func=claims_from_token)
    def buy(self, ctx: NuropbContextManager, item: str) -> dict:
        return {"item": item, "buyer": ctx.user_claims["user_id"], "seen": sorted(ctx.context)}

    @nuropb_context
    @publish_to_mesh(requires_encryption=True)
    async def pay(self, ctx, card: str) -> str:
        await asyncio.sleep(0)
        return f"paid with {card[-4:]}"

    @publish_to_mesh(hide_method=True)
    def inner(self):
        return "nobody sees this"

    def cancelled(self):
        return self._cancelled


async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    orders = Orders()

    def on_event(topic, event, target, context):
        orders._cancelled.append(event["order_id"])

    orders._handle_event_ = on_event
    properties = default_connection_properties(
        {
            "host": os.environ["MESH_HOST"],
            "port": int(os.environ["MESH_PORT"]),
            "vhost": os.environ["MESH_NAME"],
        }
    )
    api = create_service(
        name=orders._service_name,
        instance_id=orders._instance_id,
        service_instance=orders,
        connection_properties=properties,
        event_bindings=["orders.cancelled"],
    )
    await api.connect()
    described = describe_service(orders)
    print(described["service_name"], described["description"], sorted(described["methods"]))
    print("ready", api.connected, api.is_leader, flush=True)
    await stopped.wait()
    await api.disconnect()
    print("stopped", api.connected, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
