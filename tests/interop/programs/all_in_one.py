# mypy: ignore-errors
"""A service and a client in one process, and many requests at a time."""

import asyncio
import os
from uuid import uuid4

from nuropb.interface import NuropbCallAgain, NuropbException, NuropbSuccess
from nuropb.rmq_api import RMQAPI

PROPERTIES = {
    "host": os.environ["MESH_HOST"],
    "port": int(os.environ["MESH_PORT"]),
    "username": "guest",
    "password": "guest",
    "vhost": os.environ["MESH_NAME"],
    "verify": False,
}


class Calculator:
    _service_name = "calculator"
    _instance_id = uuid4().hex
    _version = "1.2"

    def __init__(self):
        self.tries = 0
        self.heard = []

    def add(self, a, b):
        return a + b

    async def add_slowly(self, a, b, **kwargs):
        await asyncio.sleep(0.01)
        return {"sum": a + b, "more": sorted(kwargs)}

    def in_the_end(self):
        self.tries += 1
        if self.tries == 1:
            raise NuropbCallAgain("not yet")
        raise NuropbSuccess(result="done", events=[])

    def heard_so_far(self):
        return self.heard

    def _handle_event_(self, topic, event, target=None, context=None, trace_id=None):
        self.heard.append([topic, event, target, sorted(context)])


async def main():
    service = Calculator()
    service_api = RMQAPI(
        amqp_url=PROPERTIES,
        service_name=service._service_name,
        instance_id=service._instance_id,
        service_instance=service,
        transport_settings={
            "prefetch_count": 4,
            "default_ttl": 60 * 60 * 1000,
            "rpc_bindings": ["calculator"],
            "event_bindings": ["sums.#"],
        },
    )
    await service_api.connect()
    client_api = RMQAPI(amqp_url=PROPERTIES)
    await client_api.connect()

    context = {"user_id": "somebody"}
    sums = await asyncio.gather(
        *(
            client_api.request(
                service="calculator",
                method="add",
                params={"a": number, "b": 1},
                context=context,
                trace_id=uuid4().hex,
            )
            for number in range(100)
        )
    )
    print("sums", sum(sums))
    params = {"a": 1, "b": 2, "c": 3}
    print(await client_api.request("calculator", "add_slowly", params, context))
    print(await client_api.request("calculator", "in_the_end", {}, context))

    response = await client_api.request(
        "calculator", "add", {"a": 1, "b": 2}, context, rpc_response=False
    )
    print(sorted(response), response["tag"], response["result"], response["error"])
    try:
        await client_api.request("calculator", "substract", {}, context)
    except NuropbException as error:
        print("refused", "Unknown method" in error.description)

    client_api.publish_event("sums.made", {"count": 100}, context)
    client_api.command("calculator", "add", {"a": 1, "b": 1}, context)
    for _ in range(200):
        heard = await client_api.request("calculator", "heard_so_far", {}, context)
        if heard:
            break
        await asyncio.sleep(0.05)
    print("heard", heard)
    await client_api.disconnect()
    await service_api.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
