"""A fuzz run, from top to bottom: good and bad messages to one service and to one client."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from nuropb_rmq import Message as Received
from nuropb_rmq import NuropbCallAgain, Transport
from nuropb_rmq.amqp import frames
from nuropb_rmq.testing import RabbitMQNode

from ...encrypting import DL_QUEUE, calling, serving
from ...faults.console import connections
from ...faults.test_row_05_channel_closed import ports_of
from ...support import Transports, Watch, command, eventually, request, result_of
from .bodies import MAX_BODY
from .ledger import Ledger
from .mail import Collector, Mailer
from .messages import ANSWERS, VICTIM, Draft, Message, drawn
from .reading import Read, way_of

GOOD_IN_BATCH = 2
"""Good calls among each batch of drawn messages."""
UNDER_WAY = 500
"""Messages that may be in the service's queue."""
ENDS_WITHIN = 20.0
TELL_EVERY = 5.0

Tell = Callable[[str], None]


class FuzzRun:
    """A service, a client, whoever publishes bad messages, and whoever collects them."""

    def __init__(
        self, mesh: Transports, node: RabbitMQNode, seed: int, count: int, tell: Tell
    ) -> None:
        self._mesh = mesh
        self._node = node
        self._seed = seed
        self._count = count
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._began = self._told = self._loop.time()
        self._good: set[asyncio.Task[None]] = set()
        self._begun = self._noted = self._number = 0
        self._theirs, self._ours = serving(), calling()
        self._service: Transport
        self._client: Transport
        self._mailer: Mailer
        self._memory_at_first = 0
        self.ledger = Ledger()
        self.failures: list[str] = []
        """The failures that were found."""
        self.grown = 0
        """KiB that the process has grown by since a fifth of the messages was sent."""

    async def run(self) -> None:
        """All of it, from the start of the service to the last look at the broker."""
        mesh, url, ledger = self._mesh, self._mesh.url, self.ledger
        self._service = await mesh.service(
            self._handle,
            encryptor=self._theirs,
            max_body_bytes=MAX_BODY,
            event_bindings=["#"],
            dead_letter_requests=True,
        )
        self._client = await mesh.client(encryptor=self._ours, max_body_bytes=MAX_BODY)
        watches = Watch(self._service), Watch(self._client)
        ports = ports_of(self._service) + ports_of(self._client)
        before = await asyncio.to_thread(connections, self._node)
        async with AsyncExitStack() as stack:
            for queue, take in (
                (DL_QUEUE, ledger.is_dead),
                (ANSWERS, ledger.is_answered),
                (VICTIM, self._went_astray),
            ):
                await stack.enter_async_context(Collector(url, queue, take))
            mailer = Mailer(url, self._route, ledger.has_fate)
            self._mailer = await stack.enter_async_context(mailer)
            await self._send_all()
            await self._all_has_ended()
        self.grown = memory() - self._memory_at_first
        self._check("changes of state", [each.states for each in watches], [[], []])
        self._check("channels", ports_of(self._service) + ports_of(self._client), ports)
        gone = before - await asyncio.to_thread(connections, self._node)
        self._check("connections that are gone", gone, set())
        self._check("keys", self._theirs.calls_remembered + self._ours.calls_remembered, 0)
        self._tell(f"{self._seconds():5.0f} s  {self}")

    def __str__(self) -> str:
        refusals = ", ".join(f"{n:,} with {code}" for code, n in self._mailer.refusals.items())
        return (
            f"seed {self._seed}: {self.ledger.summary()}; the broker closed {refusals}; "
            f"{self._begun:,} good calls; {self.grown:+,} KiB"
        )

    # -- what is sent -----------------------------------------------------------------------

    async def _send_all(self) -> None:
        for batch in drawn(self._seed, self._count):
            self._begin_good_calls()
            for draft in batch:
                await self._send(draft)
            await self._look(lambda: self.ledger.under_way < UNDER_WAY)
            if not self._memory_at_first and self._number >= self._count / 5:
                self._memory_at_first = memory()
            if self._loop.time() - self._told >= TELL_EVERY:
                self._told = self._loop.time()
                self._tell(f"{self._seconds():5.0f} s  {self._number:,} of {self._count:,} sent")
        await self._mailer.settled()

    async def _send(self, draft: Draft) -> None:
        self._number += 1
        message = draft.numbered(self._number)
        self.ledger.sends(message)
        await self._mailer.post(message, careful=draft.careful)

    def _route(self, message: Message) -> bytes:
        exchange, key = way_of(message)
        if message.to_responses:
            exchange, key = "", self._client.config.response_queue_name(self._client.instance_id)
        return frames.publish_method(exchange, key, mandatory=False)

    def _begin_good_calls(self) -> None:
        for _ in range(GOOD_IN_BATCH):
            task = asyncio.create_task(self._call(self._begun), name=f"good call {self._begun}")
            self._begun += 1
            self._good.add(task)
            task.add_done_callback(self._good.discard)

    async def _call(self, number: int) -> None:
        """One that must go as it does on a quiet day."""
        encrypted = number % 3 == 0
        try:
            if number % 4 == 0:
                await self._client.send(command("note", n=number), encrypted=encrypted)
                return
            payload = request("echo", n=number, text="x" * (number % 1000))
            answer = await self._client.request(payload, encrypted=encrypted)
            self._check("answer", result_of(answer), payload["params"])
        except Exception as e:  # noqa: BLE001 - whatever it is, it is told at the end
            self.failures.append(f"good call {number} failed: {e!r}")

    async def _handle(self, message: Received) -> Any:
        payload = message.payload
        match payload.get("method"):
            case "echo":
                return payload["params"]
            case "note":
                self._noted += 1
                return None
        read = Read(message.kind.value, message.correlation_id, payload)
        if self.ledger.runs(read, message.call_again_count):
            raise NuropbCallAgain("not yet")
        return payload.get("params")

    def _went_astray(self, _: frames.Properties, body: bytes) -> None:
        self.failures.append(f"an answer went to a hostile reply_to: {body[:200]!r}")

    # -- the end ----------------------------------------------------------------------------

    async def _all_has_ended(self) -> None:
        """Everything has come to its end; and when one more message has, still no end is double."""
        if self._good:
            await asyncio.wait(tuple(self._good))
        self._check("commands that ran", self._noted, len(range(0, self._begun, 4)))
        await self._look(self._is_complete)
        last = Draft("last", True, False, {}, 0, b"the last", ())
        await self._send(last)
        await self._look(self._is_complete)
        self.failures += self.ledger.failures()
        for what, right in self._counts_are_right().items():
            self._check(what, right, True)

    async def _look(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, but not for ever: a failure is reported later."""
        with suppress(AssertionError):
            await eventually(condition, within=ENDS_WITHIN)

    def _is_complete(self) -> bool:
        return all(self._counts_are_right().values()) and not any(self.ledger.failures())

    def _counts_are_right(self) -> dict[str, bool]:
        answers, dropped = self.ledger.answers, sum(self._client.dropped.values())
        return {
            f"{answers} answers": self.ledger.may_be_answers(answers),
            f"{dropped} dropped": self.ledger.may_be_dropped(dropped),
        }

    def _check(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.failures.append(f"{what}: {str(found)[:500]}, must be {str(wanted)[:500]}")

    def _seconds(self) -> float:
        return self._loop.time() - self._began


def memory() -> int:
    """KiB of this process that are in memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("VmRSS:")]
    return int(line.split()[1])
