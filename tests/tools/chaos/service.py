"""The process of one instance of a service: it does what it is asked, and logs the effect."""

from __future__ import annotations

import asyncio
from typing import Any

from nuropb_rmq import Encryptor, Message, MessageType, RetryLater, Transport, TransportConfig

from .programs import TOPIC, Program, digest, run

RETRY_DELAYS = (0.3, 1.0)
"""Seconds. Classic queues have none: those drop what comes due while the broker comes back."""


class ChaosFailureError(Exception):
    """A command that is to be a dead letter."""


class Service:
    """The handler."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def __call__(self, message: Message) -> Any:
        """Work for a while; the effect is there when its line is written."""
        part = "event" if message.kind is MessageType.EVENT else "params"
        given = message.payload[part]
        if message.attempts <= given.get("retries", 0) and self._program.queue_type == "quorum":
            raise RetryLater("chaos", after=RETRY_DELAYS[message.attempts - 1])
        await asyncio.sleep(given["seconds"])
        if given.get("fails"):
            raise ChaosFailureError(message.correlation_id)
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
        retry_delays=RETRY_DELAYS if program.queue_type == "quorum" else (),
    )
    transport = Transport(config, Service(program), encryptor=encryptor)
    async with program.running(transport):
        await program.stopping.wait()
    program.end(pending=transport.pending, keys=encryptor.calls_remembered)


if __name__ == "__main__":
    run(main)
