"""A dead-letter queue with known letters in it, for the command to look at."""

from __future__ import annotations

import json
from typing import Any

from ..dead_letters.support import SAID, Yard, command, copied, died

FAILED_AT = "2026-01-02T03:04:05+00:00"
HOSTILE = "order 7 \x1b]0;owned\x07\x1b[2J\nnuropb-rmq: 0 dead letters"


async def fill(yard: Yard) -> None:
    """Put a letter of each kind into the queue: nine, of which one is another service's."""
    for number in range(3):
        await yard.put(copied(number), command(number), correlation_id=f"c-{number}")
    odd = copied(3, nuropb_error_text=HOSTILE, nuropb_failed_method="bill")
    await yard.put(odd, command(3, "bill"), correlation_id="c-3")
    event: dict[str, Any] = {"tag": "event", "topic": "orders.cancelled", "event": {"id": 4}}
    more = {"nuropb_failed_method": "orders.cancelled", "nuropb_error": "KeyError"}
    told = copied(4, **more, nuropb_error_text="KeyError: 'order_id'")
    await yard.put(told, json.dumps(event).encode(), "event", correlation_id="c-4")
    await yard.put(copied(5), command(5, "total"), "request", correlation_id="c-5")
    sealed = {**copied(6), "encrypted": "yes"}
    for name in ("nuropb_error_text", "nuropb_traceback", "nuropb_failed_method"):
        del sealed[name]
    await yard.put(sealed, b"c2VjcmV0.c2VjcmV0", correlation_id="c-6")
    await yard.put(died(reason="expired"), command(7), correlation_id="c-7")
    await yard.put(died("nuropb-billing-sq"), command(8, "charge"), correlation_id="c-8")


__all__ = ["FAILED_AT", "HOSTILE", "SAID", "fill"]
