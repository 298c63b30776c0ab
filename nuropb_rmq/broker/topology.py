"""Exchanges, queues and bindings as data: what a transport needs on the broker.

Names and arguments are nuropb 0.1.8's, read off a broker: a queue declared with anything else is
refused with 406 beside an old peer. Every declaration names the queue's type, because without one
the broker compares an existing queue with the virtual host's default_queue_type; of an existing
queue, "classic" and no type are equal. Ours differ where no peer can notice: the response queue is
exclusive, and the dead-letter queue has a name of its own and is durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.settings import CLASSIC, TransportConfig

__all__ = ["QUEUE_TYPE", "Binding", "Exchange", "Queue", "Topology"]

QUEUE_TYPE = "x-queue-type"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange; `kind` is direct, topic or fanout."""

    name: str
    kind: str
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, with the arguments of Queue.Declare (AMQP 0-9-1, section 1.7.2.1)."""

    name: str
    durable: bool
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of `exchange` with `routing_key` go to `queue`; all three are names."""

    queue: str
    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """All that one instance needs. A client has no service queue, no dead letters, no bindings."""

    instance_id: str
    generation: int
    """Of the response queue: each has a name of its own."""
    rpc_exchange: Exchange
    events_exchange: Exchange
    dl_exchange: Exchange
    service_queue: Queue | None
    response_queue: Queue
    dl_queue: Queue | None
    bindings: tuple[Binding, ...]
    """Of the service queue: made again at every start and recovery."""

    @classmethod
    def of(cls, config: TransportConfig, instance_id: str, generation: int = 0) -> Topology:
        """The topology of this configuration, for the instance with this id."""
        # Exclusive, so that it dies with its connection; auto-delete would drop the answers in it
        # when only the channel that consumes it is renewed.
        response_queue = Queue(
            config.response_queue_name(instance_id, generation),
            durable=False,
            exclusive=True,
            arguments={QUEUE_TYPE: CLASSIC},
        )
        serves = not config.client_only
        return cls(
            instance_id=instance_id,
            generation=generation,
            rpc_exchange=Exchange(config.rpc_exchange, "direct"),
            events_exchange=Exchange(config.events_exchange, "topic"),
            dl_exchange=Exchange(config.dl_exchange, "fanout"),
            service_queue=_service_queue(config) if serves else None,
            response_queue=response_queue,
            dl_queue=_dead_letter_queue(config) if serves else None,
            bindings=_service_bindings(config) if serves else (),
        )

    def renewed(self, config: TransportConfig) -> Topology:
        """The same with a response queue of another name, of the next generation."""
        return Topology.of(config, self.instance_id, self.generation + 1)

    @property
    def exchanges(self) -> tuple[Exchange, Exchange, Exchange]:
        """The three exchanges, in the order in which they are made."""
        return self.rpc_exchange, self.events_exchange, self.dl_exchange

    @property
    def dl_binding(self) -> Binding | None:
        """Of the dead-letter queue: made with that queue, and not by start()."""
        if self.dl_queue is None:
            return None
        # A fanout ignores the key; nuropb's is the queue's name.
        return Binding(self.dl_queue.name, self.dl_exchange.name, self.dl_queue.name)


def _service_queue(config: TransportConfig) -> Queue:
    """A classic one without options is nuropb's own.

    A quorum queue dead-letters at most once, too: with at-least-once it would keep every dead
    letter until all queues of the shared fanout have confirmed it, an old peer's, on a node that
    is down, among them. An operator who wants that sets it by a policy.
    """
    arguments: dict[str, Any] = {
        "x-dead-letter-exchange": config.dl_exchange,
        QUEUE_TYPE: config.queue_type,
    }
    if config.delivery_limit is not None:
        arguments["x-delivery-limit"] = config.delivery_limit
    if config.max_priority is not None:
        arguments["x-max-priority"] = config.max_priority
    if config.single_active_consumer:
        arguments["x-single-active-consumer"] = True
    return Queue(config.service_queue_name, durable=True, arguments=arguments)


def _dead_letter_queue(config: TransportConfig) -> Queue:
    """As safe as the queue whose messages it gets: a classic one lives on one node."""
    return Queue(config.dl_queue_name, durable=True, arguments={QUEUE_TYPE: config.queue_type})


def _service_bindings(config: TransportConfig) -> tuple[Binding, ...]:
    queue = config.service_queue_name
    rpc = [config.service_name, *config.rpc_bindings]
    bindings = [Binding(queue, config.rpc_exchange, key) for key in rpc]
    bindings += [Binding(queue, config.events_exchange, key) for key in config.event_bindings]
    return tuple(dict.fromkeys(bindings))
