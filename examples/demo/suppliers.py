"""A service as it was written for nuropb 0.1.8; it needs nothing of ours, and runs in .venv-peer.

    .venv-peer/bin/python -m examples.demo.suppliers URL

It asks the orders service for a total, and then serves suppliers.offer until SIGTERM.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from decimal import Decimal
from typing import Any

from nuropb.rmq_api import RMQAPI  # type: ignore[import-not-found,unused-ignore]


class Suppliers:
    """The methods of the service."""

    _service_name = "suppliers"

    async def offer(self, item: str, count: int) -> dict[str, Any]:
        """Return the price of so many."""
        return {"item": item, "count": count, "price": count * Decimal("19.90")}


def report(about: str, **facts: Any) -> None:
    """Say what happened, as one line of JSON on stdout."""
    print(json.dumps({"about": about, **facts}), flush=True)


async def main(url: str) -> None:
    """Be the suppliers service."""
    api = RMQAPI(amqp_url=url, service_name="suppliers", service_instance=Suppliers())
    await api.connect()
    if not api.connected:  # connect() does not tell
        sys.exit("nuropb could not connect: its reason stands above")
    report("ready")
    began = time.monotonic()
    answer = await api.request("orders", "total", {"order": "A-1001"}, context={})
    seconds = time.monotonic() - began
    report("request", asked="orders.total('A-1001')", answer=answer, seconds=seconds)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await api.disconnect()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the suppliers service of the demo")
    parser.add_argument("url", help="the broker: amqp://user:password@host:port/vhost")
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(parser.parse_args().url))
