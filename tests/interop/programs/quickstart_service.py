# mypy: ignore-errors
"""The smallest service: an object, and the mesh."""

import asyncio
import os

from nuropb.nuropb_api import configure_mesh, create_service
from nuropb.rmq_lib import build_amqp_url

AMQP_URL = build_amqp_url(
    os.environ["MESH_HOST"], os.environ["MESH_PORT"], "guest", "guest", os.environ["MESH_NAME"]
)


class Greeter:
    """Greets."""

    def hello(self, name="you"):
        return f"hello {name}"


async def main():
    api = create_service(
        name="greeter",
        instance_id="one",
        service_instance=Greeter(),
        connection_properties=AMQP_URL,
    )
    await api.connect()
    print("ready", flush=True)


if __name__ == "__main__":
    configure_mesh(connection_properties=AMQP_URL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(main())
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        print("bye", flush=True)
