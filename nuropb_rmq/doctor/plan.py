"""List the things that `configure` makes and takes out on a broker, for a service or a client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..broker.connecting import open_connection
from ..broker.quiet import quietly
from ..broker.topology import Binding
from ..exceptions import BrokerUnreachableError, ServiceNotConfigured
from ..waiting import time_limit
from .facts import Facts, Subject, Unseen
from .looking import PURPOSE, ask

_PARTS: Final = ("whoami", "exchanges", "queues", "bindings")


@dataclass(frozen=True, slots=True)
class Thing:
    """A part of the topology; `kind` is virtual host, exchange, queue or binding."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts that are missing, in the order of making them; those taken out; those unused."""

    missing: tuple[Thing, ...]
    removed: tuple[Thing, ...]
    unused: tuple[Thing, ...] = ()
    """Queues of delays that the service no longer has; they stay, for messages may be in them."""


@quietly
async def plan(subject: Subject, *, with_queue: bool) -> Plan:
    """Return what would be made and taken out; nothing is changed.

    with_queue: the service queue, those of its retries, and its bindings, too. Raises Unseen when
    the management API does not tell what is there, and the errors of a login.
    """
    facts = Facts(subject=subject)
    config = subject.config
    try:
        async with time_limit(config.connect_timeout):
            connection = await open_connection(config, PURPOSE)
    except TimeoutError as e:
        text = f"{config.broker}: no login within {config.connect_timeout:g} s"
        raise BrokerUnreachableError(text) from e
    except ServiceNotConfigured:  # the virtual host is missing, and all else with it
        vhost = Thing("virtual host", facts.vhost)
        facts.found |= {"exchanges": [], "queues": [], "bindings": []}
        return Plan((vhost, *_missing(facts, with_queue)), ())
    await connection.shut()
    await ask(facts, _PARTS)
    if facts.unseen:
        raise Unseen(next(iter(facts.unseen.values())))
    unused = _unused(facts) if with_queue else ()
    return Plan(tuple(_missing(facts, with_queue)), tuple(_removed(facts)), tuple(unused))


def _missing(facts: Facts, with_queue: bool) -> Iterator[Thing]:
    topology = facts.subject.topology
    exchanges, queues = facts.named("exchanges"), facts.named("queues")
    letters = topology.dead_letters
    own = None if letters is None else letters.exchange
    wanted = [*topology.exchanges, *([] if own is None else [own])]
    yield from (Thing("exchange", each.name) for each in wanted if each.name not in exchanges)
    if letters is not None:
        yield from (
            Thing("queue", each.name) for each in (letters.queue,) if each.name not in queues
        )
        if letters.exchange_binding is not None:
            into = letters.exchange_binding
            if (into.source, into.destination, "", "{}") not in _there(facts):
                yield Thing("binding", f"{into.destination} to {into.source}")
        yield from _unbound(facts, letters.bindings)
    if with_queue and topology.service_queue is not None:
        for queue in (topology.service_queue, *topology.retry_queues):
            if queue.name not in queues:
                yield Thing("queue", queue.name)
        yield from _unbound(facts, topology.bindings)


def _removed(facts: Facts) -> Iterator[Thing]:
    """Yield bindings of the dead-letter queue by which it got what it should not get any more."""
    letters = facts.subject.topology.dead_letters
    there = _there(facts)
    for each in () if letters is None else letters.former:
        if _key(each) in there:
            yield _thing(each)


def _unused(facts: Facts) -> Iterator[Thing]:
    used = {each.name for each in facts.subject.topology.retry_queues}
    if used or facts.subject.declared:  # else nobody has told the delays
        names = [each["name"] for each in facts.retry_queues()]
        yield from (Thing("queue", name) for name in names if name not in used)


def _unbound(facts: Facts, bindings: Iterable[Binding]) -> Iterator[Thing]:
    there = _there(facts)
    for each in bindings:
        if _key(each) not in there:
            yield _thing(each)


def _thing(binding: Binding) -> Thing:
    shown = binding.routing_key or _headers(binding.arguments)
    return Thing("binding", f"{binding.queue} to {binding.exchange} ({shown})")


def _key(binding: Binding) -> tuple[str, str, str, str]:
    """Return what `_there` has of a binding."""
    return (binding.exchange, binding.queue, binding.routing_key, _sorted(binding.arguments))


def _there(facts: Facts) -> set[tuple[str, str, str, str]]:
    """Return source, destination, routing key and arguments of all bindings."""
    return {
        (
            str(each.get("source")),
            str(each.get("destination")),
            str(each.get("routing_key")),
            _sorted(each.get("arguments") or {}),
        )
        for each in facts.all("bindings")
    }


def _sorted(arguments: Any) -> str:
    return str(dict(sorted(arguments.items())))


def _headers(arguments: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items() if name != "x-match")
