"""Trace ids, a retry that waits, a dead letter: shown on whatever broker the cast plays on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from nuropb_rmq import DeadLetter, DeadLetters, NuropbException

from .parcels import DELAY, WITHIN, Cast
from .transcript import Transcript, duration

__all__ = ["asked", "dead_letter", "retry", "trace"]

ORDER = "A-1001"
LOOK_EVERY = 0.05  # seconds
TRACE = "command and event have the request's trace id"


async def asked(
    transcript: Transcript, cast: Cast, service: str, method: str, **params: Any
) -> str:
    """Show a request and its outcome; return the outcome as it is shown."""
    given = ", ".join(f"{name}={value!r}" for name, value in params.items())
    transcript.line("asked", f"{service}.{method}({given})")
    began = time.monotonic()
    try:
        told = str(await cast.client.request(service, method, params, timeout=5))
    except NuropbException as e:
        told = f"{type(e).__name__}: {e}"
    transcript.line("came back", told, time.monotonic() - began)
    return told


async def trace(transcript: Transcript, cast: Cast) -> None:
    """One request, the command that its handler sends, and the event that it adds."""
    transcript.step("One trace id: request, command, event")
    cast.forget()
    await asked(transcript, cast, "parcels", "send", order=ORDER)
    messages = sorted(
        await cast.received(3), key=lambda each: ("request", "command", "event").index(each.kind)
    )
    for each in messages:
        told = f"{each.name} in {each.service}, trace id {(each.trace_id or 'none')[:8]}..."
        transcript.line(each.kind, told)
    first = messages[0].trace_id
    expected = [("request", first), ("command", first), ("event", first)]
    transcript.same(TRACE, expected, [(each.kind, each.trace_id) for each in messages])


async def retry(transcript: Transcript, cast: Cast) -> None:
    """The first try fails; the broker keeps the message until the next is due."""
    transcript.step("A command that fails, and is tried again")
    tries = cast.warehouse.tries
    await cast.client.command("warehouse", "book", {"order": ORDER})
    transcript.line("sent", f"warehouse.book(order={ORDER!r}); its delay is {DELAY:g} s")
    async with asyncio.timeout(WITHIN):
        first = await tries.get()
        transcript.line("1st try", "ConnectionError: the carrier does not answer")
        queue = f"nuropb-warehouse-retry-{DELAY * 1000:.0f}"
        transcript.line("waits", f"on the broker, in {queue}")
        second = await tries.get()
    transcript.line("2nd try", "booked", second - first)
    transcript.check(
        "it was tried again after its delay",
        second - first > 0.9 * DELAY,
        expected=f"{DELAY:g} s",
        got=duration(second - first),
    )


async def dead_letter(transcript: Transcript, cast: Cast) -> None:
    """It says why it is one; once that is mended it is sent back."""
    transcript.step("A dead letter: why, and back again")
    await cast.client.command("warehouse", "label", {"order": ORDER})
    transcript.line("sent", f"warehouse.label(order={ORDER!r}), without a Retry")
    async with DeadLetters(cast.url, "warehouse") as letters:
        letter = await first_of(letters)
        error = f"{letter.error}: {letter.error_text}"
        failed_at = letter.failed_at.strftime("%H:%M:%S UTC") if letter.failed_at else "no time"
        transcript.line("dead letter", f"{letter.method} in {letters.queue}")
        transcript.line("why", error)
        transcript.line("when", f"{failed_at}, after {letter.attempts} try")
        expected = "RuntimeError: the printer has no labels"
        transcript.same("the letter has the reason", expected, error)
        cast.warehouse.has_labels = True
        transcript.line("mended", "the printer has labels again")
        began = time.monotonic()
        replayed = await letters.replay()
        transcript.line("replayed", f"{replayed.done} went back", time.monotonic() - began)
        async with asyncio.timeout(WITHIN):
            printed = await cast.warehouse.printed.get()
        transcript.line("warehouse", f"has printed the label of {printed}")
        left = [each async for each in letters.list()]
        told = (printed, replayed.done, len(left), cast.warehouse.printed.qsize())
        transcript.same("done once, and no letter is left", (ORDER, 1, 0, 0), told)


async def first_of(letters: DeadLetters) -> DeadLetter:
    """Wait for the first letter."""
    async with asyncio.timeout(WITHIN):
        while True:
            async for letter in letters.list(limit=1):
                return letter
            await asyncio.sleep(LOOK_EVERY)
