"""Names and attributes of spans and series, by where a message goes or comes from.

After OpenTelemetry's semantic conventions 1.44 for messaging, RabbitMQ and RPC. The number
of series and of span names is bounded: they have names that peers choose only where this program
knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from opentelemetry.util.types import AttributeValue

from ..config.settings import TransportConfig
from ..printable import printable
from ..protocol.constants import EVENT, RESPONSE, MessageType
from ..protocol.dead_letter import HEADER_REPLAY_COUNT
from ..protocol.put_back import came_by
from ..protocol.reader import Head
from ..service.topics import matcher, matches
from ..transport.sent_message import SentMessage
from .names import OTHER, Names

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
TEMPLATE: Final = "messaging.destination.template"
TEMPORARY: Final = "messaging.destination.temporary"
ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
DELIVERY_TAG: Final = "messaging.rabbitmq.message.delivery_tag"
CONVERSATION: Final = "messaging.message.conversation_id"
CLIENT_ID: Final = "messaging.client.id"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR: Final = "error.type"
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_METHOD_ORIGINAL: Final = "rpc.method_original"
RPC_STATUS: Final = "rpc.response.status_code"
MESSAGE_TYPE: Final = "nuropb.message.type"
RETRY_COUNT: Final = "nuropb.retry.count"
REPLAY_COUNT: Final = "nuropb.replay.count"
CALL_AGAIN_COUNT: Final = "nuropb.call_again.count"
REDELIVERED: Final = "nuropb.redelivered"
ENCRYPTED: Final = "nuropb.encrypted"
SETTLEMENT: Final = "nuropb.settlement"

RESPONSES: Final = "nuropb-{service}-{instance}-rq"
"""The template that stands for response queues: each instance has one of its own."""
OK: Final = "OK"
"""rpc.response.status_code of a result; that of an error is the name of its class."""
RPC: Final[dict[str, AttributeValue]] = {RPC_SYSTEM: "nuropb"}
_LONGEST: Final = 255
_MOST_CACHED: Final = 1024
_MOST_ERRORS: Final = 100

Attributes = dict[str, AttributeValue]
K = TypeVar("K")
V = TypeVar("V")


_OF_SERIES: Final = frozenset({SYSTEM, OPERATION_NAME, SERVER_ADDRESS, SERVER_PORT})
"""With the destination, and no more: the SDK takes a microsecond for each."""


class Destination(NamedTuple):
    """The place that messages of one sort go to, or come from."""

    name: str
    """Of their spans."""
    attributes: Attributes
    """Of their spans; those of one message are added to them."""
    labels: Attributes
    """Of their series."""


class Call(NamedTuple):
    """A method of a service, as a caller or the service names it."""

    name: str
    """Its rpc.method."""
    original: str | None
    """rpc.method_original, where the method is not known."""
    span: str
    """Name of its spans."""
    attributes: Attributes
    """Of its spans."""


class Destinations:
    """Names what one transport sends and receives."""

    def __init__(self, config: TransportConfig, methods: Collection[str]) -> None:
        self._config = config
        self._service = config.service_name
        self._published = Names()
        self._called = Names(f"{config.service_name}/{method}" for method in methods)
        # Those that are known.
        self._calls: dict[str, Call] = {}
        self._errors = Names(most=_MOST_ERRORS)
        self._patterns = [(each, matcher(each)) for each in config.event_bindings]
        self._keys = frozenset({config.service_name, *config.rpc_bindings})
        self._server: Attributes = {}
        if len(config.broker.hosts) == 1 and not config.broker.in_memory:
            host, port = config.broker.hosts[0]
            self._server = {SERVER_ADDRESS: host, SERVER_PORT: port}
        self._sent: dict[tuple[MessageType, str, str, bool], Destination] = {}
        self._received: dict[tuple[MessageType, str, str], Destination] = {}

    # -- methods and errors -----------------------------------------------------------------

    def call(self, service: str, method: str) -> Call:
        """Name a call; with its method, where this program knows it."""
        full = f"{service}/{method}"
        call = self._calls.get(full)
        if call is not None:
            return call
        if self._called.of(full) is OTHER:
            attributes: Attributes = {**RPC, RPC_METHOD: OTHER}
            return Call(OTHER, printable(full, _LONGEST), "nuropb", attributes)
        call = self._calls[full] = Call(full, None, full, {**RPC, RPC_METHOD: full})
        return call

    def succeeded(self, call: Call) -> Call:
        """Name a call that has its result: its method has proved real."""
        full = call.original
        if full is None or self._called.admit(full) is OTHER:
            return call
        return self.call(*full.split("/", 1))

    def error(self, name: str) -> str:
        """Return the class name of an error, or _OTHER when there have been too many."""
        return self._errors.admit(name) if name.isidentifier() and len(name) <= _LONGEST else OTHER

    # -- messages that go out ---------------------------------------------------------------

    def sent(self, message: SentMessage) -> Destination:
        """Name where a message goes."""
        key = message.kind, message.exchange, message.routing_key, message.copy
        return _cached(self._sent, key, lambda: self._outgoing(message))

    def _outgoing(self, message: SentMessage) -> Destination:
        exchange, key = message.exchange, message.routing_key
        attributes: Attributes = {
            **self._common("publish", "send", message.kind),
            DESTINATION: _joined(exchange, key),
            ROUTING_KEY: printable(key, _LONGEST),
        }
        if message.kind is RESPONSE:
            attributes |= {TEMPLATE: RESPONSES, TEMPORARY: True}
            return _destination(attributes, RESPONSES, TEMPLATE)
        if message.copy and exchange == self._config.dl_exchange:  # its key is that of any message
            return _destination(attributes, exchange)
        label = _joined(exchange, key)
        if self._published.admit(label) is OTHER:
            label = exchange
        return _destination(attributes, label)

    # -- messages that come in --------------------------------------------------------------

    def received(self, head: Head) -> Destination:
        """Name where a message comes from: the exchange and key that it was first sent with."""
        exchange, key = came_by(head)
        return _cached(
            self._received,
            (head.kind, exchange, key),
            lambda: self._incoming(head.kind, exchange, key),
        )

    def _incoming(self, kind: MessageType, exchange: str, key: str) -> Destination:
        queue = self._config.service_queue_name
        attributes: Attributes = {
            **self._common("process", "process", kind),
            DESTINATION: _joined(exchange, key, queue),
            ROUTING_KEY: printable(key, _LONGEST),
        }
        if exchange not in (self._config.rpc_exchange, self._config.events_exchange):
            return _destination(attributes, queue)
        known = self._binding(key) if kind is EVENT else key if key in self._keys else ""
        label = _joined(exchange, known, queue)
        if label == attributes[DESTINATION]:
            return _destination(attributes, label)
        attributes[TEMPLATE] = label
        return _destination(attributes, label, TEMPLATE)

    def _binding(self, topic: str) -> str:
        """Return the first binding that lets a topic in; "" for none that is known."""
        return next((each for each, words in self._patterns if matches(words, topic)), "")

    # -- both -------------------------------------------------------------------------------

    def _common(self, name: str, kind: str, message: MessageType) -> Attributes:
        return {
            SYSTEM: "rabbitmq",
            OPERATION_NAME: name,
            OPERATION_TYPE: kind,
            MESSAGE_TYPE: message.value,
            **self._server,
        }


def _destination(attributes: Attributes, label: str, labelled: str = DESTINATION) -> Destination:
    """Put it together; `labelled` is the attribute of series that the label is the value of."""
    labels = {name: value for name, value in attributes.items() if name in _OF_SERIES}
    name = f"{attributes[OPERATION_NAME]!s} {label}"
    return Destination(name, attributes, {**labels, labelled: label})


def _joined(*parts: str) -> str:
    """Join exchange, routing key and queue; empty ones, and a queue like its key, are left out."""
    said = [each for each in dict.fromkeys(parts) if each]
    return printable(":".join(said), _LONGEST) or "amq.default"


def _cached(cache: dict[K, V], key: K, make: Callable[[], V]) -> V:
    found = cache.get(key)
    if found is None:
        if len(cache) >= _MOST_CACHED:
            cache.clear()
        found = cache[key] = make()
    return found


def arrivals(head: Head, headers: Mapping[str, Any]) -> Attributes:
    """Return how often a message has come before: retried, called again, replayed."""
    counts: Attributes = {}
    if head.attempts:
        counts[RETRY_COUNT] = head.attempts
    if head.call_again_count:
        counts[CALL_AGAIN_COUNT] = head.call_again_count
    replays = headers.get(HEADER_REPLAY_COUNT)
    if type(replays) is int and replays > 0 and not head.content.exchange:
        counts[REPLAY_COUNT] = replays
    return counts
