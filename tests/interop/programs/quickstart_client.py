# mypy: ignore-errors
"""The smallest client."""

import asyncio
import os

from nuropb.nuropb_api import create_client


async def main():
    api = create_client(
        connection_properties={
            "host": os.environ["MESH_HOST"],
            "port": int(os.environ["MESH_PORT"]),
            "username": "guest",
            "password": "guest",
            "vhost": os.environ["MESH_NAME"],
        },
    )
    await api.connect()
    print("connected", api.connected, api.client_only)
    print(await api.request("greeter", "hello", {}, {}))
    print(await api.request("greeter", "hello", {"name": "mesh"}, {}, ttl=30 * 60 * 1000))
    await api.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
