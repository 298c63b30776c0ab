"""Exchanges, queues and bindings that a transport needs on the broker, as data.

Names and arguments are nuropb 0.1.8's, recorded on a broker: if an old peer has declared a queue,
other arguments are refused with 406. Every declaration names the queue's type, because without one
the broker compares an existing queue with the virtual host's default_queue_type; for an existing
queue, "classic" and no type are equal. Ours differ where no peer can notice: the response queue is
exclusive, and the dead-letter queue has another name, is durable, and gets its own service's dead
letters alone.

Why: docs/decisions/013-dead-letters-of-one-service.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..config.settings import CLASSIC, QUORUM, TransportConfig
from ..protocol.constants import HEADER_TYPE, MessageType
from ..protocol.dead_letter import HEADER_DEAD_LETTER_OF

QUEUE_TYPE: Final = "x-queue-type"

# The broker writes both to a message that dies for the first time; a headers exchange compares
# what begins with x- when x-match says so, from RabbitMQ 3.10 on.
_FIRST_QUEUE: Final = "x-first-death-queue"
_FIRST_REASON: Final = "x-first-death-reason"
_ALL: Final = {"x-match": "all-with-x"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange; `kind` is direct, topic, fanout or headers."""

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
    """A binding: messages of `exchange` with `routing_key` go to `queue`. All three are names.

    A headers exchange compares the `arguments` in place of the routing key.
    """

    queue: str
    exchange: str
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ExchangeBinding:
    """A binding of an exchange: all messages of `source`, a fanout, go to `destination` as well."""

    destination: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterTopology:
    """The dead-letter queue of a service, and how letters come to it; configure() makes both."""

    queue: Queue
    bindings: tuple[Binding, ...]
    exchange: Exchange | None = None
    """The exchange of `bindings`, bound to dl_exchange itself. None: they are of dl_exchange, for
    the user has named the queue, and it may be for several services."""
    exchange_binding: ExchangeBinding | None = None
    former: tuple[Binding, ...] = ()
    """Bindings to take out once the others are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """All that one instance needs. A client has no service or dead-letter queue, no bindings."""

    instance_id: str
    generation: int
    """Number of the response queue's name, which counts up with each new name."""
    rpc_exchange: Exchange
    events_exchange: Exchange
    dl_exchange: Exchange
    service_queue: Queue | None
    response_queue: Queue
    dead_letters: DeadLetterTopology | None
    retry_queues: tuple[Queue, ...]
    """Queues from which messages come back, one for each of retry_delays, in their order."""
    bindings: tuple[Binding, ...]
    """Bindings of the service queue, made again at every start and recovery."""

    @classmethod
    def of(cls, config: TransportConfig, instance_id: str, generation: int = 0) -> Topology:
        """Return the topology of a configuration for the instance with this id."""
        # Exclusive, so that it is deleted with its connection; with auto-delete, a new channel
        # would be enough to lose the answers in it.
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
            dead_letters=_dead_letters(config) if serves else None,
            retry_queues=_retry_queues(config) if serves else (),
            bindings=_service_bindings(config) if serves else (),
        )

    def renewed(self, config: TransportConfig) -> Topology:
        """Return the same with another name of the response queue, of the next generation."""
        return Topology.of(config, self.instance_id, self.generation + 1)

    @property
    def exchanges(self) -> tuple[Exchange, Exchange, Exchange]:
        """The three exchanges, in the order of making them."""
        return self.rpc_exchange, self.events_exchange, self.dl_exchange


def _service_queue(config: TransportConfig) -> Queue:
    """Return the service queue; a classic one without options equals nuropb's.

    A quorum queue, too, dead-letters at most once: with at-least-once it would keep every dead
    letter until all queues of the shared fanout have confirmed it, even an old peer's on a dead
    node. An operator may set that by a policy.
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


def _retry_queues(config: TransportConfig) -> tuple[Queue, ...]:
    """Return a queue for each delay: it holds messages for just that long, then they come back.

    With one delay for all, no message waits behind a longer one. Those of a quorum service are
    quorum queues that keep each message until the service queue has confirmed it. The delay is
    part of the name, so that other delays never meet a queue with other arguments.
    """
    arguments: dict[str, Any] = {
        QUEUE_TYPE: config.queue_type,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": config.service_queue_name,
    }
    suffix = ""
    if config.queue_type == QUORUM:
        suffix = f"-{QUORUM}"
        # At-least-once needs the overflow that refuses.
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    queues = []
    for delay in config.retry_delays:
        ms = round(delay * 1000)
        name = f"nuropb-{config.service_name}-retry-{ms}{suffix}"
        queues.append(Queue(name, durable=True, arguments={**arguments, "x-message-ttl": ms}))
    return tuple(queues)


def _dead_letters(config: TransportConfig) -> DeadLetterTopology:
    """Return the dead-letter queue, of the same type as the service queue, so equally safe."""
    name = config.dl_queue_name
    queue = Queue(name, durable=True, arguments={QUEUE_TYPE: config.queue_type})
    # A fanout exchange ignores the key; nuropb uses the queue's name.
    all_letters = Binding(name, config.dl_exchange, name)
    if config.dl_queue is not None:
        return DeadLetterTopology(queue=queue, bindings=(all_letters,))
    exchange = Exchange(config.dl_by_queue_exchange, "headers")
    expired_requests = _expired(config, MessageType.REQUEST)
    wanted = config.dead_letter_requests
    return DeadLetterTopology(
        queue=queue,
        bindings=dead_letter_bindings(config, [queue.name for queue in _retry_queues(config)])
        + ((expired_requests,) if wanted else ()),
        exchange=exchange,
        exchange_binding=ExchangeBinding(exchange.name, config.dl_exchange),
        former=(all_letters,) if wanted else (all_letters, expired_requests),
    )


def dead_letter_bindings(
    config: TransportConfig, other_queues: Sequence[str] = ()
) -> tuple[Binding, ...]:
    """Return the bindings by which the dead letters of one service come to its own queue.

    They are those of its service queue: refused, returned too often, dropped at its length, and
    commands and events that expired; those of `other_queues`, whatever the reason, for a message
    that died there first is the service's wherever it ends; and copies that a service published.
    """
    queue = config.service_queue_name
    reasons = ("rejected", "delivery_limit", "maxlen")
    return (
        *(_letters(config, {_FIRST_QUEUE: queue, _FIRST_REASON: reason}) for reason in reasons),
        _expired(config, MessageType.COMMAND),
        _expired(config, MessageType.EVENT),
        *(_letters(config, {_FIRST_QUEUE: other}) for other in other_queues),
        _letters(config, {HEADER_DEAD_LETTER_OF: queue}),
    )


def _expired(config: TransportConfig, kind: MessageType) -> Binding:
    """Return the binding of messages of one kind that expired in the service queue."""
    first = {_FIRST_QUEUE: config.service_queue_name, _FIRST_REASON: "expired"}
    return _letters(config, {**first, HEADER_TYPE: kind.value})


def _letters(config: TransportConfig, headers: Mapping[str, str]) -> Binding:
    return Binding(config.dl_queue_name, config.dl_by_queue_exchange, "", {**_ALL, **headers})


def _service_bindings(config: TransportConfig) -> tuple[Binding, ...]:
    queue = config.service_queue_name
    rpc = [config.service_name, *config.rpc_bindings]
    bindings = [Binding(queue, config.rpc_exchange, key) for key in rpc]
    bindings += [Binding(queue, config.events_exchange, key) for key in config.event_bindings]
    return tuple(dict.fromkeys(bindings))
