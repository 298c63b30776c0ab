"""Messages that come back: after a delay (RetryLater), or at the end of their queue.

After a delay: a copy is published to a queue that holds messages for that long, and confirmed; then
the message is acknowledged. The queue passes the copy on to the service queue, by the default
exchange.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from time import monotonic

from ..amqp.settlement import CALL_AGAIN
from ..config.settings import TransportConfig
from ..exceptions import AMQPProtocolError, NuropbTransportError, RetryLater
from ..protocol import dead_letter
from ..protocol.put_back import history, pack_copy
from .delivery import Delivery, Postponement
from .outage import settle_put_back
from .packer import Outbound


class Retries:
    """Sender of the messages of one service instance that come back."""

    def __init__(self, config: TransportConfig, outbound: Outbound) -> None:
        self._outbound = outbound
        names = (queue.name for queue in outbound.topology.retry_queues)
        # In order of the delays.
        self._queues = dict(zip(config.retry_delays, names, strict=False))

    def plan(self, work: Delivery, later: RetryLater, error: BaseException) -> Postponement | None:
        """Return how a message comes back; None when it cannot, for the want of time or queues."""
        if not self._queues or work.settler is not None:
            return None
        delay = next((each for each in self._queues if each >= later.after), [*self._queues][-1])
        left = work.left()
        if left is not None and left <= delay:
            return None
        head = work.head
        first_failed_at = head.first_failed_at or datetime.now(UTC).isoformat(timespec="seconds")
        headers = history(head, error) | {dead_letter.HEADER_FIRST_FAILED_AT: first_failed_at}
        if left is not None:
            headers[dead_letter.HEADER_TIME_LEFT] = max(1, round((left - delay) * 1000))
        try:
            return Postponement(self._queues[delay], delay, pack_copy(head, headers))
        except AMQPProtocolError:
            return None

    def send(self, work: Delivery, postponed: Postponement) -> None:
        """Send a message to come back; its confirm settles it."""
        on_done = work.expect_retry()
        try:
            self._outbound.retry(work.head, postponed.queue, postponed.properties, on_done)
        except NuropbTransportError as e:  # closed
            on_done(e)

    def put_back(self, work: Delivery) -> None:
        """Publish a copy to the end of the service queue: called again, or failed in an outage."""
        again = work.settlement is CALL_AGAIN
        held = monotonic() - work.arrived
        on_done = work.expect_call_again() if again else partial(settle_put_back, work)
        try:
            self._outbound.put_back(work.head, on_done, held=held, called_again=again)
        except NuropbTransportError as e:
            on_done(e)
