"""A subscriber: a service that does nothing but take events.

    python -m examples.demo.subscriber URL NAME TOPIC

NAME owns the queue: instances with one name share the events, every name gets its own copy.
In TOPIC * stands for one word and # for any number of them.
"""

from __future__ import annotations

import argparse
import time

from nuropb_rmq import Message, Transport, TransportConfig, configure

from .runtime import report, run, until_stopped


async def take(message: Message) -> None:
    """The handler: it is called with each event."""
    event = message.payload
    report("event", topic=event["topic"], event=event["event"], at=time.monotonic())


async def subscribe(url: str, name: str, topic: str) -> None:
    """Take the events of `topic` until SIGTERM."""
    config = TransportConfig(amqp_url=url, service_name=name, event_bindings=[topic])
    await configure(config)
    async with Transport(config, take) as transport:
        report("ready")
        await until_stopped(transport)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a subscriber of the demo")
    parser.add_argument("url", help="the broker: amqp://user:password@host:port/vhost")
    parser.add_argument("name", help="the subscriber's service name")
    parser.add_argument("topic", help="the topics to take, for example orders.#")
    given = parser.parse_args()
    run(subscribe(given.url, given.name, given.topic))
