"""Messages that no library would make, on a real broker: only they are harmed, and once."""

from __future__ import annotations

import logging

import pytest

from nuropb_rmq.testing import RabbitMQNode

from ...support import Transports
from .mail import Fate
from .run import FuzzRun, Tell

SEED = 1
GROWS_AT_MOST = 60_000
"""KiB; the books that the run keeps are in it."""


async def fuzz(mesh: Transports, node: RabbitMQNode, count: int, tell: Tell) -> FuzzRun:
    """A run in which nothing happens that must not."""
    # A line for each dead letter: pytest would keep them all.
    logging.getLogger("nuropb_rmq").setLevel(logging.ERROR)
    try:
        run = FuzzRun(mesh, node, SEED, count, tell)
        await run.run()
    finally:
        logging.getLogger("nuropb_rmq").setLevel(logging.NOTSET)
    assert not run.failures, "\n".join([f"{len(run.failures)}, {run}", *run.failures[:10]])
    assert run.grown < GROWS_AT_MOST, run
    return run


@pytest.mark.timeout(120)
async def test_some_messages(mesh: Transports, rabbitmq_node: RabbitMQNode) -> None:
    await fuzz(mesh, rabbitmq_node, 1500, print)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_fifty_thousand_messages(
    mesh: Transports, rabbitmq_node: RabbitMQNode, capfd: pytest.CaptureFixture[str]
) -> None:
    """So many that the broker accepts; it refuses some besides."""

    def tell(text: str) -> None:
        with capfd.disabled():
            print(text, flush=True)

    run = await fuzz(mesh, rabbitmq_node, 56_000, tell)
    assert run.ledger.fates[Fate.ACCEPTED] >= 50_000, run
