"""A service to be killed while its messages come back: python -m tests.faults.retrier.

Settings of a TransportConfig come as JSON in the first argument. Each command fails until its third
attempt, which publishes an event. It prints a line once it serves.
"""

from __future__ import annotations

import asyncio
import json
import sys

from nuropb_rmq import Message, NuropbSuccess, RetryLater, Transport, TransportConfig

ATTEMPTS = 3


async def handle(message: Message) -> None:
    """Fail twice, and say so once it is done."""
    if message.attempts < ATTEMPTS:
        raise RetryLater("not yet", after=0.05 * message.attempts)
    number = message.payload["params"]["n"]
    raise NuropbSuccess(None, events=[{"topic": "done.command", "payload": number}])


async def main() -> None:
    """Serve until it is killed."""
    config = TransportConfig.from_mapping(json.loads(sys.argv[1]))
    async with Transport(config, handle):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
