"""The broker's absence: when it ends, and what became of the calls that met it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from .programs import Report
from .transcript import Transcript, duration

__all__ = ["judge", "port_opens"]

WORKS_AGAIN_WITHIN = 10.0  # seconds after the broker's port has opened
LOOK_EVERY = 0.01  # seconds
ERRORS = {
    "NuropbNotSentError": "could not be sent while they waited",
    "NuropbTimeoutError": "no answer for as long as they wait",
    "NuropbOutcomeUnknownError": "under way when the broker died",
}


async def port_opens(port: int) -> float:
    """Wait until somebody listens there; the time of the monotonic clock."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(LOOK_EVERY)
        else:
            opened_at = time.monotonic()
            writer.close()
            await writer.wait_closed()
            return opened_at


def judge(transcript: Transcript, report: Report, *, killed_at: float, opened_at: float) -> None:
    """Show and check what became of the calls. Times are of the monotonic clock."""
    calls: list[tuple[float, float, str]] = report["calls"]
    counts = Counter(how for _, _, how in calls)
    answered = [(began, ended) for began, ended, how in calls if how == "answered"]
    waited = sum(killed_at <= began < opened_at for began, _ in answered)
    told = f"answered, {waited} of them begun while there was no broker"
    transcript.line(f"{len(answered):7}", told)
    for how in sorted(counts.keys() - {"answered"}):
        transcript.line(f"{counts[how]:7}", f"{how}: {ERRORS.get(how, 'not expected')}")
    back = min((ended for _, ended in answered if ended > opened_at), default=None)
    if back is not None:
        transcript.line("again", "calls work again, after the port was open", back - opened_at)
    transcript.same("every call has ended, once", report["begun"], len(calls))
    transcript.check(
        "each with its answer or a typed error",
        bool(answered) and counts.keys() <= {"answered", *ERRORS},
        expected=f"answers, and no errors but {', '.join(ERRORS)}",
        got=dict(counts),
    )
    transcript.check(
        f"calls work again within {WORKS_AGAIN_WITHIN:g} s",
        back is not None and back - opened_at < WORKS_AGAIN_WITHIN,
        expected=f"an answer less than {WORKS_AGAIN_WITHIN:g} s after the port was open",
        got="never" if back is None else f"after {duration(back - opened_at)}",
    )
    states = report["states"]
    transcript.check(
        "the client has noticed, and recovered by itself",
        "RECOVERING" in states and states[-1] == "READY",
        expected="RECOVERING, ... READY",
        got=", ".join(states) or "no change of state",
    )
