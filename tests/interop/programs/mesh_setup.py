# mypy: ignore-errors
"""Set up a mesh: its virtual host, its exchanges and its queue of dead letters."""

import logging
import os

from nuropb.nuropb_api import configure_mesh

logging.basicConfig(level=logging.WARNING)


def main():
    connection_properties = {
        "host": os.environ["MESH_HOST"],
        "port": int(os.environ["MESH_PORT"]),
        "username": "guest",
        "password": "guest",
        "vhost": os.environ["MESH_NAME"],
        "ssl": False,
        "verify": False,
    }
    transport_settings = {
        "rpc_exchange": "shop-rpc",
        "events_exchange": "shop-events",
        "dl_exchange": "shop-dead",
        "dl_queue": "shop-dead-letters",
    }
    for _ in range(2):  # a second time changes nothing
        configure_mesh(
            mesh_name=connection_properties["vhost"],
            connection_properties=connection_properties,
            transport_settings=transport_settings,
        )
    print("the mesh is there")


if __name__ == "__main__":
    main()
