"""The process of one instance of a service: it does what it is asked, and logs the effect."""

from __future__ import annotations

import asyncio
from typing import Any

from nuropb_rmq import Encryptor, Message, MessageType, Transport, TransportConfig

from .programs import TOPIC, Program, digest, run


class Service:
    """The handler."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def __call__(self, message: Message) -> Any:
        """Work for a while; the effect is there when its line is written."""
        part = "event" if message.kind is MessageType.EVENT else "params"
        given = message.payload[part]
        await asyncio.sleep(given["seconds"])
        number = digest(given["text"])
        program = self._program
        program.journal.write(
            "effect", id=message.correlation_id, to=program.service, digest=number
        )
        return [message.correlation_id, number]


async def main(program: Program) -> None:
    """Serve until told to stop."""
    encryptor = Encryptor(program.service, program.key)
    config = TransportConfig(
        amqp_url=program.urls,
        service_name=program.service,
        queue_type=program.queue_type,
        instance_id=program.name,
        event_bindings=[TOPIC],
    )
    transport = Transport(config, Service(program), encryptor=encryptor)
    async with program.running(transport):
        await program.stopping.wait()
    program.end(pending=transport.pending, keys=encryptor.calls_remembered)


if __name__ == "__main__":
    run(main)
