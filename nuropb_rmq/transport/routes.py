"""Check that a message asks for no more than its exchange and routing key allow.

The broker's permissions cover exchanges and routing keys, but the body says which handler runs. The
two must agree, or a user who may publish one topic could run the handlers of any other.

Why: docs/decisions/005-what-a-message-may-do.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..amqp import frames
from ..config.settings import TransportConfig
from ..exceptions import MalformedMessageError
from ..printable import short
from ..protocol.constants import EVENT
from ..protocol.put_back import came_by
from ..protocol.reader import Head
from ..service.topics import matcher, matches

_LONGEST_TOPIC: Final = 255  # bytes: it is a routing key (AMQP 0-9-1, section 4.2.5.3)


class Routes:
    """The routes by which messages may come to one service queue.

    The exchange of events brings events whose topic is the routing key. The exchange of requests
    brings requests and commands whose service is the routing key. Messages of any other exchange,
    the default one included, may do what the configured names and bindings allow. The service that
    a call names must always be service_name or match one of rpc_bindings.
    """

    def __init__(self, config: TransportConfig) -> None:
        self._rpc = config.rpc_exchange
        self._events = config.events_exchange
        self._services = frozenset((config.service_name, *config.rpc_bindings))
        # rpc_bindings with wildcards: somebody else may have made a topic exchange for requests.
        patterns = (name for name in config.rpc_bindings if "*" in name or "#" in name)
        self._patterns = [matcher(pattern) for pattern in patterns]
        self._topics = [matcher(pattern) for pattern in config.event_bindings]
        exchange = frames.shortstr(self._rpc)
        # Route as it arrives (exchange and routing key, encoded) → the service that it calls.
        self._usual = {exchange + frames.shortstr(name): name for name in self._services}
        # The encoded exchange of events, and where the routing key's text begins behind it.
        self._by_events = frames.shortstr(self._events)
        self._key_at = len(self._by_events) + 1

    def check(self, head: Head, payload: Mapping[str, Any]) -> None:
        """Raise MalformedMessageError when the payload is not what its route allows."""
        route = head.content.route
        if head.kind is EVENT:
            topic = payload["topic"]
            key = topic.encode("utf-8", "surrogatepass")
            if route[self._key_at :] != key or not route.startswith(self._by_events):
                self._check_event(topic, *came_by(head))
        elif self._usual.get(route) != payload["service"]:
            self._check_call(head.kind.value, payload["service"], *came_by(head))

    def _check_event(self, topic: str, exchange: str, routing_key: str) -> None:
        if exchange == self._events:
            if topic != routing_key:
                raise MalformedMessageError(
                    f"field 'topic' is {short(topic)}, and its routing key is {short(routing_key)}"
                )
        elif exchange == self._rpc:
            raise MalformedMessageError(
                f"an event by the exchange {exchange!r}, which is for requests and commands"
            )
        elif len(topic) > _LONGEST_TOPIC or not any(matches(rule, topic) for rule in self._topics):
            raise MalformedMessageError(
                f"field 'topic' is {short(topic)}: it came by {_named(exchange)}, and no event "
                "binding of this service admits it"
            )

    def _check_call(self, kind: str, service: str, exchange: str, routing_key: str) -> None:
        if exchange == self._rpc:
            if service != routing_key:
                raise MalformedMessageError(
                    f"field 'service' is {short(service)}, and its routing key is "
                    f"{short(routing_key)}"
                )
        elif exchange == self._events:
            raise MalformedMessageError(
                f"a {kind} by the exchange {exchange!r}, which is for events"
            )
        if service in self._services or any(matches(rule, service) for rule in self._patterns):
            return
        names = ", ".join(sorted(self._services))
        raise MalformedMessageError(
            f"field 'service' is {short(service)}, and this service is {names} (service_name, "
            "rpc_bindings)"
        )


def _named(exchange: str) -> str:
    return f"the exchange {short(exchange)}" if exchange else "the default exchange"
