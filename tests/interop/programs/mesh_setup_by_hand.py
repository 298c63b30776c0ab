# mypy: ignore-errors
"""Make a virtual host and what a mesh needs in it step by step, look at it, and delete it."""

import os

from nuropb.interface import NUROPB_PROTOCOL_VERSION
from nuropb.rmq_lib import (
    build_amqp_url,
    configure_nuropb_rmq,
    create_virtual_host,
    delete_virtual_host,
    get_virtual_host_queues,
    get_virtual_hosts,
    rmq_api_url_from_amqp_url,
)
from nuropb.rmq_transport import RMQTransport

VHOST = os.environ["MESH_NAME"] + "-by-hand"


def names(things):
    return sorted(each["name"] for each in things)


def main():
    amqp_url = build_amqp_url(
        os.environ["MESH_HOST"], os.environ["MESH_PORT"], "guest", "guest", VHOST
    )
    api_url = rmq_api_url_from_amqp_url(amqp_url)
    print("protocol", NUROPB_PROTOCOL_VERSION)
    create_virtual_host(api_url, amqp_url)
    print("made", VHOST in names(get_virtual_hosts(api_url, amqp_url)))
    done = configure_nuropb_rmq(
        rmq_url=amqp_url,
        events_exchange="my-events",
        rpc_exchange="my-rpc",
        dl_exchange="my-dead",
        dl_queue="my-dead-letters",
    )
    print("configured", done)

    transport = RMQTransport(
        service_name="nobody",
        instance_id="1",
        amqp_url=amqp_url,
        message_callback=lambda message, complete, metadata: None,
        rpc_exchange="my-rpc",
        events_exchange="my-events",
        dl_exchange="my-dead",
        dl_queue="my-dead-letters",
    )
    print("names", transport.rpc_exchange, transport._dl_exchange, transport._dl_queue)
    print("queues", names(get_virtual_host_queues(api_url, amqp_url)))
    delete_virtual_host(api_url, amqp_url)
    print("deleted", VHOST not in names(get_virtual_hosts(api_url, amqp_url)))


if __name__ == "__main__":
    main()
