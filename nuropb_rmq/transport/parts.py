"""The parts of one run of a transport: made anew, so that nothing of an earlier run goes on."""

from __future__ import annotations

from collections.abc import Callable

from ..amqp.publisher import Publisher
from ..broker.state import State
from ..broker.topology import Topology
from ..config.settings import TransportConfig
from ..protocol.message import Handler
from .dispatcher import Dispatcher
from .hooks import Hooks
from .observer import Observers
from .packer import Outbound
from .pending_requests import Replies
from .sealing import Sealing
from .sender import Sender
from .stats import Counts, Stats


class Parts:
    """Outbox, packer, sender, the table of requests, and the dispatcher of a service."""

    def __init__(
        self,
        config: TransportConfig,
        hooks: Hooks,
        sealing: Sealing,
        observers: Observers,
        instance_id: str,
    ) -> None:
        self._config = config
        self._hooks = hooks
        self._sealing = sealing
        self._observers = observers
        self.publisher = Publisher(
            max_messages=config.outbox_messages,
            max_bytes=config.outbox_bytes,
            max_body=config.max_body_bytes,
        )
        self.outbound = Outbound(
            *(config, Topology.of(config, instance_id), self.publisher, sealing),
            encode=hooks.encode,
            observers=observers,
        )
        self.replies = Replies(
            sealing, config, observers.counts, self.outbound.log, on_response=hooks.on_response
        )
        self.sender = Sender(
            *(config, self.outbound, self.replies),
            on_response=hooks.on_response,
            on_failure=hooks.on_failure,
            observers=observers,
        )

    def serve(
        self,
        handler: Handler,
        *,
        shutting_down: Callable[[], bool],
        on_outage: Callable[[], None],
    ) -> Dispatcher:
        """Return the dispatcher of a service."""
        return Dispatcher(
            *(self._config, handler, self.outbound, self._sealing, self._observers),
            shutting_down=shutting_down,
            on_outage=on_outage,
            settler=self._hooks.settler,
        )


def snapshot(
    service: str,
    instance_id: str,
    state: State,
    counts: Counts,
    run: tuple[Parts, Dispatcher | None] | None,
) -> Stats:
    """Return the counts and levels of a transport, and of its last run, if there was one."""
    parts, dispatcher = run or (None, None)
    settled = {kind: count for kind, count in counts.settled.items() if kind is not None}
    returned = counts.settled[None]
    unsettled = 0 if dispatcher is None else dispatcher.unsettled
    messages, size, oldest = (0, 0, 0.0) if parts is None else parts.publisher.backlog()
    return Stats(
        service=service,
        instance_id=instance_id,
        state=state,
        sent=dict(counts.sent),
        answered=counts.answered,
        received=counts.received,
        redelivered=counts.redelivered,
        refused=counts.refused,
        handled=dict(counts.handled),
        settled=settled,
        returned=returned,
        reconnects=counts.reconnects,
        responses_dropped={} if parts is None else dict(parts.replies.dropped),
        requests_pending=0 if parts is None else len(parts.replies),
        handlers_active=0 if dispatcher is None else dispatcher.running,
        deliveries_unsettled=unsettled,
        outbox_messages=messages,
        outbox_bytes=size,
        outbox_oldest=oldest,
        unconfirmed=0 if parts is None else parts.publisher.unconfirmed,
    )
