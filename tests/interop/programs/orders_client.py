# mypy: ignore-errors
"""A client of the service of orders: tokens, encryption, errors, commands and events."""

import asyncio
import os
import time

from nuropb.interface import NuropbException, NuropbMessageError
from nuropb.rmq_api import RMQAPI

AMQP_URL = "amqp://guest:guest@{MESH_HOST}:{MESH_PORT}/{MESH_NAME}".format(**os.environ)


class Watching(RMQAPI):
    """Counts what passes, as it comes in."""

    seen = 0

    def receive_transport_message(self, service_message, message_complete_callback, metadata):
        if service_message["nuropb_type"] == "response":
            self.seen += 1
        super().receive_transport_message(service_message, message_complete_callback, metadata)


async def main():
    api = Watching(amqp_url=AMQP_URL, instance_id="watching")
    await api.connect()
    print(await api.request("orders", "get_total", {"order_id": "A-1"}, {}))
    print("seen", api.seen)

    token = {"Authorization": "secret token", "tenant": "t1"}
    print(await api.request("orders", "buy", {"item": "lamp"}, token))
    for context, params in (({"Authorization": "guess"}, {"item": "lamp"}),):
        try:
            await api.request("orders", "buy", params, context)
        except NuropbMessageError as error:
            print("refused:", error.description)
    try:
        await api.request("orders", "get_total", {"order_id": ""}, {})
    except NuropbException as error:
        print("refused:", error.description)
    response = await api.request("orders", "get_total", {"order_id": ""}, {}, rpc_response=False)
    print(response["error"]["error"], response["result"] is None or "text")

    described = await api.describe_service("orders")
    print(sorted(described["methods"]), described["service_version"])
    print(await api.requires_encryption("orders", "pay"), await api.has_public_key("orders"))
    card = {"card": "4000 1234"}
    print(await api.request("orders", "pay", card, {}, encrypted=True))

    api.publish_event("orders.cancelled", {"order_id": "A-1"}, {})
    until = time.monotonic() + 10
    while not await api.request("orders", "cancelled", {}, {}) and time.monotonic() < until:
        await asyncio.sleep(0.05)
    print("cancelled", await api.request("orders", "cancelled", {}, {}))
    await api.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
