"""The description of a service as an AsyncAPI 3.0 document.

Follows https://www.asyncapi.com/docs/reference/specification/v3.0.0 and the AMQP bindings 0.3.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..mesh.described import methods_of, params_of, result_of
from .asyncapi_schemas import Components, key

if TYPE_CHECKING:
    from nuropb_rmq import TransportConfig

_BINDING: Final = "0.3.0"
_ANY_OBJECT: Final = {"type": ["object", "null"]}
_TEXT: Final = {"type": "string"}
_CORRELATION: Final = {"location": "$message.header#/correlation_id"}
_RESPONSES: Final = "responses"


def document(
    config: TransportConfig,
    service: str,
    description: Mapping[str, Any],
    topics: Sequence[str],
) -> dict[str, Any]:
    """Return the document; `topics` are those of the events that the service handles."""
    return _Document(config, service).of(description, topics)


class _Document:
    """The parts of one document."""

    def __init__(self, config: TransportConfig, service: str) -> None:
        self._config = config
        self._service = service
        self._components = Components()
        self._requests: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}

    def of(self, description: Mapping[str, Any], topics: Sequence[str]) -> dict[str, Any]:
        """Return the whole."""
        for name, method in sorted(methods_of(description).items()):
            self._add_method(name, method)
        channels = self._channels()
        for topic in sorted(topics):
            channels |= self._event(topic)
        version = description.get("service_version")
        return {
            "asyncapi": "3.0.0",
            "info": {
                "title": self._service,
                "version": "0" if version is None else str(version),
                **_described(description),
            },
            "defaultContentType": "application/json",
            "servers": {"broker": self._server()},
            "channels": channels,
            "operations": self._operations,
            "components": {"schemas": self._components.schemas},
        }

    def _server(self) -> dict[str, Any]:
        broker = self._config.broker
        host, port = broker.hosts[0] if broker.hosts else ("localhost", 5672)
        return {
            "host": f"{host}:{port}",
            "protocol": "amqp" if broker.tls is None else "amqps",
            "protocolVersion": "0-9-1",
            "pathname": f"/{'' if broker.vhost == '/' else broker.vhost}",
        }

    # -- methods ----------------------------------------------------------------------------

    def _channels(self) -> dict[str, Any]:
        """Return the channels of requests and of responses."""
        config = self._config
        if not self._operations:
            return {}
        return {
            "requests": {
                "address": self._service,
                "title": "Requests and commands",
                "messages": self._requests,
                "bindings": {"amqp": _exchange(config.rpc_exchange, "direct")},
            },
            _RESPONSES: {
                "address": None,
                "title": "Responses, in the queue that a request names in its reply_to",
                "messages": self._results,
            },
        }

    def _add_method(self, name: str, method: Mapping[str, Any]) -> None:
        known = key(name)
        while known in self._requests:
            known += "_"
        encrypted = bool(method.get("requires_encryption"))
        extra = {"x-requires-encryption": True} if encrypted else {}
        params = self._components.of(params_of(method), f"{known}.params")
        result = self._components.of(result_of(method), f"{known}.result")
        self._requests[known] = {
            "name": name,
            **_described(method),
            "headers": _headers("request", "command"),
            "correlationId": _CORRELATION,
            "payload": {
                "type": "object",
                "properties": {
                    "tag": {"enum": ["request", "command"]},
                    "service": {"const": self._service},
                    "method": {"const": name},
                    "params": params,
                    "context": _ANY_OBJECT,
                },
                "required": ["tag", "service", "method", "params"],
            },
        }
        self._results[known] = {
            "name": f"{name}, response",
            "headers": _headers("response"),
            "correlationId": _CORRELATION,
            "payload": {
                "type": "object",
                "properties": {
                    "tag": {"const": "response"},
                    "result": result,
                    "error": {
                        "type": ["object", "null"],
                        "properties": {"error": _TEXT, "description": {"type": ["string", "null"]}},
                    },
                    "correlation_id": _TEXT,
                },
                "required": ["tag", "result", "error"],
            },
        }
        self._operations[known] = {
            "action": "receive",
            "title": name,
            **_described(method),
            "channel": {"$ref": "#/channels/requests"},
            "messages": [{"$ref": f"#/channels/requests/messages/{known}"}],
            "reply": {
                "address": {"location": "$message.header#/reply_to"},
                "channel": {"$ref": f"#/channels/{_RESPONSES}"},
                "messages": [{"$ref": f"#/channels/{_RESPONSES}/messages/{known}"}],
            },
            **extra,
        }

    # -- events -----------------------------------------------------------------------------

    def _event(self, topic: str) -> dict[str, Any]:
        """Add the operation of a topic; return its channel."""
        known = key(f"event.{topic}")
        while known in self._operations:
            known += "_"
        self._operations[known] = {
            "action": "receive",
            "title": f"Events of {topic}",
            "channel": {"$ref": f"#/channels/{known}"},
            "messages": [{"$ref": f"#/channels/{known}/messages/event"}],
        }
        message = {
            "headers": _headers("event"),
            "correlationId": _CORRELATION,
            "payload": {
                "type": "object",
                "properties": {
                    "tag": {"const": "event"},
                    "topic": _TEXT,
                    "event": {},
                    "target": {},
                    "context": _ANY_OBJECT,
                },
                "required": ["tag", "topic", "event"],
            },
        }
        exchange = _exchange(self._config.events_exchange, "topic")
        return {
            known: {
                "address": topic,
                "messages": {"event": message},
                "bindings": {"amqp": exchange},
            }
        }


def _described(described: Mapping[str, Any]) -> dict[str, str]:
    text = described.get("description")
    return {"description": text} if isinstance(text, str) and text else {}


def _headers(*kinds: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "nuropb_type": {"enum": list(kinds)},
            "nuropb_protocol": _TEXT,
            "nuropb_version": _TEXT,
            "trace_id": _TEXT,
            "encrypted": {"enum": ["", "yes"]},
        },
        "required": ["nuropb_type"],
    }


def _exchange(name: str, kind: str) -> dict[str, Any]:
    exchange = {"name": name, "type": kind, "durable": True, "autoDelete": False}
    return {"is": "routingKey", "exchange": exchange, "bindingVersion": _BINDING}
