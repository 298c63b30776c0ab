"""OpenTelemetry's semantic conventions, as far as they are about us: version 1.44.0.

Taken from the models of the registry (model/messaging/spans.yaml, rabbitmq.yaml, metrics.yaml,
model/rpc/common.yaml, metrics.yaml). Names of attributes and metrics are compared with the package
opentelemetry-semantic-conventions too, which is made of the same registry; test_conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.trace import SpanKind

VERSION = "1.44.0"

MESSAGE = {
    # attribute: the requirement level
    "messaging.system": "required",
    "messaging.operation.name": "required",
    "messaging.operation.type": "required",
    "messaging.destination.name": "required",
    "messaging.destination.template": "if available",
    "messaging.destination.temporary": "if true",
    "messaging.rabbitmq.destination.routing_key": "if not empty",
    "messaging.message.conversation_id": "recommended",
    "messaging.client.id": "recommended",
    "server.address": "recommended",
    "server.port": "recommended",
    "error.type": "if failed",
}
CALL = {
    "rpc.system.name": "required",
    "rpc.method": "required",
    "rpc.method_original": "if unknown",
    "rpc.response.status_code": "if available",
    "error.type": "if failed",
}
OWN_OF_MESSAGES = {
    "nuropb.message.type",
    "nuropb.retry.count",
    "nuropb.call_again.count",
    "nuropb.replay.count",
    "nuropb.redelivered",
    "nuropb.encrypted",
    "nuropb.settlement",
}


@dataclass(frozen=True)
class Sort:
    """A sort of span."""

    kind: SpanKind
    values: dict[str, object]
    """Attributes with a value that is laid down."""
    attributes: dict[str, str]
    own: frozenset[str]

    @property
    def required(self) -> set[str]:
        """Attributes that every span must have."""
        return {name for name, level in self.attributes.items() if level == "required"}


def _operation(kind: SpanKind, name: str, sort: str, **attributes: str) -> Sort:
    values: dict[str, object] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": name,
        "messaging.operation.type": sort,
    }
    return Sort(kind, values, MESSAGE | attributes, frozenset(OWN_OF_MESSAGES))


SENT = _operation(SpanKind.PRODUCER, "publish", "send")
COPIED = _operation(SpanKind.CLIENT, "publish", "send")
"""messaging.send.client: the context that goes along is that of another span."""
PROCESSED = _operation(
    SpanKind.CONSUMER,
    "process",
    "process",
    **{"messaging.rabbitmq.message.delivery_tag": "required"},
)
_RPC: dict[str, object] = {"rpc.system.name": "nuropb"}
CALLED = Sort(SpanKind.CLIENT, dict(_RPC), CALL, frozenset({"nuropb.encrypted"}))
SERVED = Sort(SpanKind.SERVER, dict(_RPC), CALL, frozenset({"nuropb.encrypted"}))

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

_OF_MESSAGES = {
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.destination.name",
    "messaging.destination.template",
    "server.address",
    "server.port",
    "error.type",
}
_OF_CALLS = {"rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"}
METRICS = {
    # metric: unit, attributes
    "messaging.client.operation.duration": ("s", _OF_MESSAGES),
    "messaging.process.duration": ("s", _OF_MESSAGES),
    "messaging.client.sent.messages": ("{message}", _OF_MESSAGES),
    "messaging.client.consumed.messages": ("{message}", _OF_MESSAGES),
    "rpc.client.call.duration": ("s", _OF_CALLS),
    "rpc.server.call.duration": ("s", _OF_CALLS),
}
OWN_METRICS = {
    "nuropb.retries": "{message}",
    "nuropb.dead_letters": "{message}",
    "nuropb.redelivered": "{message}",
    "nuropb.responses.dropped": "{message}",
    "nuropb.reconnects": "{reconnect}",
    "nuropb.telemetry.failures": "{failure}",
    "nuropb.telemetry.broken_contexts": "{message}",
    "nuropb.outbox.messages": "{message}",
    "nuropb.outbox.bytes": "By",
    "nuropb.outbox.oldest_age": "s",
    "nuropb.requests.pending": "{request}",
    "nuropb.handlers.active": "{handler}",
    "nuropb.connection.state": "{transport}",
}
OWN_LABELS = {"nuropb.message.type", "nuropb.service", "nuropb.reason", "nuropb.state"}
