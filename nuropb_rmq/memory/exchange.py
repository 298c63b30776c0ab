"""Exchanges: which queues a message goes to (AMQP 0-9-1, section 3.1.3).

Exchanges can be bound to others (https://www.rabbitmq.com/docs/e2e).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

from pamqp import encode

from ..service.topics import matcher, matches
from .errors import PRECONDITION_FAILED, ChannelError
from .queue import StoredQueue

KINDS: Final = ("direct", "topic", "fanout", "headers")
MOST_HASHES: Final = 2
"""Limit of `#` in the key of a topic binding, from RabbitMQ 4.3 on."""
MATCHES: Final = ("all", "any", "all-with-x", "any-with-x")

Destination: TypeAlias = "StoredQueue | StoredExchange"
Headers: TypeAlias = Callable[[], Mapping[str, Any]]
"""Reads the headers of a message, which only a headers exchange asks for."""


class StoredExchange:
    """An exchange and its bindings; the key of a topic exchange's binding is a pattern."""

    def __init__(self, name: str, kind: str, *, durable: bool) -> None:
        self.name = name
        self.kind = kind
        self.durable = durable
        # Arguments are what a headers exchange compares; by their bytes, for they are part of a
        # binding's identity.
        self._bindings: dict[tuple[str, Destination], dict[bytes, Mapping[str, Any]]] = {}
        self._by_key: dict[str, list[Destination]] = {}
        self._patterns: dict[str, tuple[str, ...]] = {}
        # Number of bindings to other exchanges.
        self._exchanges = 0

    def bind(self, to: Destination, key: str, arguments: Mapping[str, Any]) -> None:
        """Bind a queue or an exchange; doing it again changes nothing. Raises ChannelError."""
        self._check(key, arguments)
        known = self._bindings.get((key, to))
        if known is None:
            known = self._bindings[key, to] = {}
            self._by_key.setdefault(key, []).append(to)
            self._patterns[key] = matcher(key)
            self._exchanges += isinstance(to, StoredExchange)
        known[_identity(arguments)] = arguments

    def _check(self, key: str, arguments: Mapping[str, Any]) -> None:
        if self.kind == "topic" and (hashes := key.split(".").count("#")) > MOST_HASHES:
            raise ChannelError(
                PRECONDITION_FAILED,
                f"Topic binding key '{key}' uses {hashes} '#' wildcards, at most {MOST_HASHES} are "
                "allowed",
            )
        match = arguments.get("x-match", "all")
        if self.kind == "headers" and match not in MATCHES:
            raise ChannelError(
                PRECONDITION_FAILED,
                f"Invalid x-match field value {match!r}; expected all, any, all-with-x, or "
                "any-with-x",
            )

    def unbind(self, to: Destination, key: str, arguments: Mapping[str, Any]) -> None:
        """Take out one binding, if it is there."""
        known = self._bindings.get((key, to))
        if known is not None and known.pop(_identity(arguments), None) is not None and not known:
            self._take_out(to, key)

    def forget(self, to: Destination) -> None:
        """Take out all bindings of a queue or an exchange, which is deleted."""
        for key, bound in tuple(self._bindings):
            if bound is to:
                self._take_out(to, key)

    def _take_out(self, to: Destination, key: str) -> None:
        del self._bindings[key, to]
        self._exchanges -= isinstance(to, StoredExchange)
        bound = self._by_key[key]
        bound.remove(to)
        if not bound:
            del self._by_key[key], self._patterns[key]

    def route(self, key: str, headers: Headers) -> Iterable[StoredQueue]:
        """Return the queues that a message goes to, each once."""
        if self._exchanges:
            return self._through_exchanges(key, headers)
        found = self._destinations(key, headers)
        return cast("Iterable[StoredQueue]", found)  # there is no exchange among them

    def _through_exchanges(self, key: str, headers: Headers) -> Iterable[StoredQueue]:
        """Follow bindings from exchange to exchange, to each once: they may go in circles."""
        queues: dict[StoredQueue, None] = {}
        reached = [self]
        for exchange in reached:
            for found in exchange._destinations(key, headers):  # noqa: SLF001 - of the same class
                if isinstance(found, StoredQueue):
                    queues[found] = None
                elif found not in reached:
                    reached.append(found)
        return queues

    def _destinations(self, key: str, headers: Headers) -> Iterable[Destination]:
        if self.kind == "direct":
            return self._by_key.get(key, ())
        return dict.fromkeys(self._matching(key, headers))

    def _matching(self, key: str, headers: Headers) -> Iterator[Destination]:
        if self.kind == "topic":
            for pattern, words in self._patterns.items():
                if matches(words, key):
                    yield from self._by_key[pattern]
        elif self.kind == "fanout":
            for _, bound in self._bindings:
                yield bound
        else:
            found = headers()
            for (_, bound), all_arguments in self._bindings.items():
                if any(_headers_match(each, found) for each in all_arguments.values()):
                    yield bound


def _identity(arguments: Mapping[str, Any]) -> bytes:
    return encode.field_table(dict(sorted(arguments.items())))


def _headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Compare by x-match: all (the default) or any, of headers without "x-"; or …-with-x."""
    kind, _, with_x = str(arguments.get("x-match", "all")).partition("-")
    found = [
        name in headers and (value is None or _same(value, headers[name]))
        for name, value in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    return any(found) if kind == "any" else all(found)


def _same(wanted: object, header: object) -> bool:
    """Compare as AMQP does, where True is not 1."""
    return wanted == header and isinstance(wanted, bool) is isinstance(header, bool)
