"""The process of one client: requests, commands and events without end, and what becomes of them.

Calls are begun at their times, whatever has become of earlier ones.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from nuropb_rmq import Encryptor, NuropbException, Transport, TransportConfig

from .ledger import ANSWERED
from .programs import METHOD, TOPIC, Program, digest, run

logger = logging.getLogger(__name__)

KINDS = ("request",) * 10 + ("command",) * 10 + ("event",)
ASKED = ("alpha", "alpha", "beta", "mayfly")
"""Services, as often as requests go to them."""
COMMANDED = ("alpha", "beta")
"""Services whose queue nobody deletes: what it holds is lost with it."""
TIMEOUTS = (1.0, 2.0, 3.0, 5.0, 5.0, 8.0, 12.0, 20.0, 40.0)
"""Seconds."""
LARGE = 150_000
"""Characters: more than one frame."""


class Caller:
    """Makes calls, each in a task of its own."""

    def __init__(self, program: Program, transport: Transport) -> None:
        self._program = program
        self._transport = transport
        self._dice = random.Random(f"{program.seed} {program.name}")
        self._count = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def call_until(self, stopping: asyncio.Event) -> None:
        """Begin calls until then, and wait for their ends."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stopping.is_set():
            due += self._dice.expovariate(self._program.rate)
            try:
                async with asyncio.timeout_at(due):
                    await stopping.wait()
            except TimeoutError:
                call = asyncio.create_task(self._call())
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
        while self._calls:
            await asyncio.wait(tuple(self._calls))

    async def _call(self) -> None:
        self._count += 1
        dice, identity = self._dice, f"{self._program.name}-{self._count}"
        kind, timeout = dice.choice(KINDS), dice.choice(TIMEOUTS)
        text = f"{identity} ".ljust(LARGE if dice.random() < 0.005 else dice.randrange(400), "x")
        seconds = dice.uniform(0.5, 3.0) if dice.random() < 0.02 else dice.uniform(0.0, 0.02)
        params: dict[str, Any] = {"text": text, "seconds": seconds}
        if kind != "request" and dice.random() < 0.05:
            params["retries"] = dice.choice((1, 2))
        fails = kind == "command" and dice.random() < 0.02
        if fails:
            params["fails"] = True
        encrypted = kind != "event" and dice.random() < 0.2
        to = "" if kind == "event" else dice.choice(ASKED if kind == "request" else COMMANDED)
        payload: dict[str, Any] = {"tag": kind, "correlation_id": identity}
        if kind == "event":
            payload |= {"topic": TOPIC, "event": params, "target": None}
        else:
            payload |= {"service": to, "method": METHOD, "params": params}
        ask = self._request if kind == "request" else self._send
        self._program.journal.write(
            "sent",
            id=identity,
            kind=kind,
            to=to,
            timeout=timeout,
            digest=digest(text),
            fails=fails,
        )
        await self._log(identity, lambda: ask(payload, timeout, encrypted))

    async def _log(
        self, identity: str, ask: Callable[[], Awaitable[dict[str, Any] | None]]
    ) -> None:
        write = self._program.journal.write
        try:
            reply = await ask()
        except NuropbException as e:
            write("reply", id=identity, outcome=type(e).__name__)
        except Exception as e:
            logger.exception("%s", identity)
            write("reply", id=identity, outcome=type(e).__name__)
        else:
            if reply is None:
                write("confirmed", id=identity)
            else:
                write("reply", id=identity, **reply)

    async def _request(
        self, payload: dict[str, Any], timeout: float, encrypted: bool
    ) -> dict[str, Any]:
        response = await self._transport.request(payload, timeout=timeout, encrypted=encrypted)
        error = response["error"]
        if error is not None:
            return {"outcome": f"error: {error['error']}"}
        return {"outcome": ANSWERED, "answer": response["result"]}

    async def _send(self, payload: dict[str, Any], timeout: float, encrypted: bool) -> None:
        await self._transport.send(payload, timeout=timeout, encrypted=encrypted)


async def main(program: Program) -> None:
    """Call until told to stop; then wait for what is under way."""
    encryptor = Encryptor()
    for service in {*ASKED, *COMMANDED}:
        encryptor.add_public_key(service, program.key.public_key())
    config = TransportConfig(
        amqp_url=program.urls, service_name="caller", instance_id=program.name, client_only=True
    )
    transport = Transport(config, encryptor=encryptor)
    async with program.running(transport):
        await Caller(program, transport).call_until(program.stopping)
    program.end(pending=transport.pending, keys=encryptor.calls_remembered)


if __name__ == "__main__":
    run(main)
