"""The queue of a service: its type, arguments, bindings, policies, and what waits in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ...broker.topology import Binding
from ...config.settings import CLASSIC, QUORUM
from ..facts import Facts, Json
from ..finding import Check, Finding, ctl, error, note, warning
from .exchanges import configure
from .policies import arguments_of, definition, set_for_queue, type_of, without

BACKLOG: Final = 1000
"""Messages that wait; more are told."""
DEAD_LETTER_EXCHANGE: Final = "x-dead-letter-exchange"
_OPTIONS: Final = ("x-delivery-limit", "x-max-priority", "x-single-active-consumer")
"""Arguments that are settings of a service: they differ only from what a program declares."""
_COMPARED: Final = (
    *_OPTIONS,
    "x-dead-letter-routing-key",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-message-ttl",
    "x-overflow",
)
"""Arguments that the broker compares when a queue is declared that is there."""
_WORKS: Final = ("running", "idle", "flow", None)


def missing(facts: Facts) -> Iterator[Finding]:
    """Find a service whose queue is not there."""
    name = facts.subject.service_queue.name
    if name in facts.named("queues"):
        return
    text = f"Queue {name!r} does not exist: calls of {facts.config.service_name!r} fail at once"
    if facts.subject.declared:
        yield error(f"{text}, and events are not kept.", configure(facts))
    else:
        do = "Is the name right? Start the service once: it makes the queue."
        yield error(f"{text}.", do=do)


def kind(facts: Facts) -> Iterator[Finding]:
    """Find a queue of another type than the program declares."""
    facts.subject.must_be_declared()
    name, wanted = facts.config.service_queue_name, facts.config.queue_type
    found = type_of(facts.queue)
    if found == wanted:
        return
    if (wanted, found) == (CLASSIC, QUORUM):
        yield note(
            f"Queue {name!r} is a quorum queue, and is used as it is: set queue_type='quorum'."
        )
        return
    yield _again(
        facts,
        f"Queue {name!r} is a {found} queue, and {facts.subject.target} declares a {wanted} one: "
        f"it does not start. Set queue_type={found!r}, or stop it, empty the queue, and make it "
        "again.",
    )


def arguments(facts: Facts) -> Iterator[Finding]:
    """Find arguments with which the service would be refused."""
    wanted = facts.subject.service_queue.arguments
    found = arguments_of(facts.queue)
    compared = [each for each in _COMPARED if facts.subject.declared or each not in _OPTIONS]
    differ = [
        f"{name} is {found.get(name, 'not set')}, declared is {wanted.get(name, 'none')}"
        for name in compared
        if found.get(name) != wanted.get(name)
    ]
    if differ:
        yield _again(
            facts,
            f"Queue {facts.config.service_queue_name!r} has other arguments than the service "
            f"declares, which does not start: {'; '.join(differ)}. Stop all instances, empty the "
            "queue, and make it again.",
        )


def durable(facts: Facts) -> Iterator[Finding]:
    """Find a queue that a restart of the broker, or the last consumer, removes."""
    queue = facts.queue
    if queue.get("durable") is False or queue.get("auto_delete") is True:
        how = "transient" if queue.get("durable") is False else "auto-delete"
        yield _again(
            facts,
            f"Queue {facts.config.service_queue_name!r} is {how}: it vanishes with its messages, "
            "and the service does not start. Stop who declares it so, and make it again.",
        )


def dead_lettering(facts: Facts) -> Iterator[Finding]:
    """Find a queue whose refused messages are lost."""
    wanted = facts.config.dl_exchange
    found = arguments_of(facts.queue).get(DEAD_LETTER_EXCHANGE)
    if found != wanted:
        yield _again(
            facts,
            f"Queue {facts.config.service_queue_name!r} has the dead-letter exchange "
            f"{found or 'none'}, not {wanted}: messages that fail are lost, and the service does "
            "not start. Stop all instances, empty the queue, and make it again.",
        )


def rpc_bindings(facts: Facts) -> Iterator[Finding]:
    """Find names by which the service cannot be called."""
    away = _unbound(facts, facts.config.rpc_exchange)
    if away:
        yield error(
            f"Queue {facts.config.service_queue_name!r} is not bound to "
            f"{facts.config.rpc_exchange!r} as {', '.join(away)}: calls by these names fail at "
            "once.",
            _made_with_queue(facts),
        )


def event_bindings(facts: Facts) -> Iterator[Finding]:
    """Find topics that handlers are for, and that do not come."""
    facts.subject.must_be_declared()
    away = _unbound(facts, facts.config.events_exchange)
    if away:
        yield error(
            f"Queue {facts.config.service_queue_name!r} is not bound to topics of handlers: "
            f"{', '.join(away)}. Their events do not come.",
            _made_with_queue(facts),
        )


def stale_bindings(facts: Facts) -> Iterator[Finding]:
    """Find bindings that no handler is for."""
    facts.subject.must_be_declared()
    wanted = {(each.exchange, each.routing_key) for each in facts.subject.topology.bindings}
    exchanges = (facts.config.rpc_exchange, facts.config.events_exchange)
    stale = [
        (source, key)
        for source, key in sorted(_bound(facts))
        if source in exchanges and (source, key) not in wanted
    ]
    if stale:
        named = ", ".join(f"{key} of {source}" for source, key in stale)
        unbind = [word for pair in stale for word in ("--unbind", ":".join(pair))]
        yield warning(
            f"Queue {facts.config.service_queue_name!r} is bound to what {facts.subject.target} "
            f"has no handler for: {named}. Such messages become dead letters.",
            configure(facts, *unbind),
        )


def lifetimes(facts: Facts) -> Iterator[Finding]:
    """Find policies that end messages, or the queue."""
    name, queue = facts.config.service_queue_name, facts.queue
    set_for = definition(facts, queue)
    if "expires" in set_for:
        about, fix = without(facts, queue, "expires")
        yield error(
            f"A policy deletes queue {name!r}, with its messages, when nobody has consumed for "
            f"{_seconds(set_for['expires'])} (expires).{about}",
            fix,
        )
    if "message-ttl" in set_for:
        about, fix = without(facts, queue, "message-ttl")
        yield warning(
            f"A policy ends messages in {name!r} after {_seconds(set_for['message-ttl'])} "
            "(message-ttl): commands and events become dead letters, calls time out."
            f"{about}",
            fix,
        )


def bounds(facts: Facts) -> Iterator[Finding]:
    """Find a queue that drops messages when it is full."""
    name, queue = facts.config.service_queue_name, facts.queue
    set_for = definition(facts, queue)
    for key in ("max-length", "max-length-bytes"):
        if key in set_for and set_for.get("overflow", "drop-head") == "drop-head":
            yield warning(
                f"Queue {name!r} holds {set_for[key]:,} ({key}) at most, and then drops the oldest "
                "to the dead letters. With overflow reject-publish, which the command sets for "
                "this queue alone, senders will know.",
                set_for_queue(facts, queue, {"overflow": "reject-publish"}),
            )


def backlog(facts: Facts) -> Iterator[Finding]:
    """Find a queue in which much waits."""
    waiting = count(facts.queue, "messages_ready")
    if waiting >= BACKLOG:
        yield warning(
            f"{waiting:,} messages wait in {facts.config.service_queue_name!r} for "
            f"{len(consumers(facts))} consumers: start more instances, or see what slows them."
        )


def in_hand(facts: Facts) -> Iterator[Finding]:
    """Find consumers that can take nothing more."""
    places = [each.get("prefetch_count") for each in consumers(facts)]
    total = sum(each for each in places if isinstance(each, int))
    held = count(facts.queue, "messages_unacknowledged")
    waiting = count(facts.queue, "messages_ready")
    if total and held >= total and waiting and 0 not in places:
        yield warning(
            f"All {total} places of the consumers of {facts.config.service_queue_name!r} are taken "
            f"(prefetch_count), and {waiting:,} messages wait: handlers hang, or are slow. Start "
            "more instances, or look into their logs."
        )


def state(facts: Facts) -> Iterator[Finding]:
    """Find a queue that does not work, or has lost members."""
    name, queue = facts.config.service_queue_name, facts.queue
    told = queue.get("state")
    if told not in _WORKS:
        yield error(
            f"Queue {name!r} is {told}; it was last on {queue.get('node')}: start that node."
        )
    members, online = queue.get("members"), queue.get("online")
    if isinstance(members, list) and isinstance(online, list) and len(online) < len(members):
        away = ", ".join(sorted(set(map(str, members)) - set(map(str, online))))
        yield warning(
            f"Quorum queue {name!r} has {len(online)} of {len(members)} members online; away: "
            f"{away}. Without more than half of them it stands still."
        )


def consumers(facts: Facts) -> list[Json]:
    """Return who consumes the service queue."""
    name = facts.subject.service_queue.name
    return [
        each
        for each in facts.all("consumers")
        if isinstance(each.get("queue"), dict) and each["queue"].get("name") == name
    ]


def count(queue: Json, what: str) -> int:
    """Return a count of a queue; 0 when the broker has not counted yet."""
    found = queue.get(what)
    return found if isinstance(found, int) else 0


def delete(facts: Facts, queue: Json) -> tuple[str, ...]:
    """Return the command that deletes a queue; none unless it is known that nothing is in it.

    A classic one is kept if there is something by then; say `delete_with_care` for others.
    """
    if queue.get("messages") != 0:
        return ()
    careful = ("--if-empty", "--if-unused") if type_of(queue) == CLASSIC else ()
    return (ctl(facts, "delete_queue", queue.get("name"), *careful),)


def delete_with_care(queue: Json) -> str:
    """Return what must be done before a queue is deleted; "" for a classic one."""
    if type_of(queue) == CLASSIC:
        return ""
    return (
        f" A {type_of(queue)} queue is deleted with what has come to it by then: stop the senders "
        "first."
    )


def _again(facts: Facts, text: str) -> Finding:
    """Return an error, with commands that make the service queue again; none if it may hold any."""
    removed = delete(facts, facts.queue)
    made = (configure(facts),) if removed and facts.subject.declared else ()
    return error(text + delete_with_care(facts.queue), *removed, *made)


def _made_with_queue(facts: Facts) -> str:
    options = () if facts.subject.declared else ("--queue-type", type_of(facts.queue))
    return configure(facts, *options)


def _bound(facts: Facts) -> set[tuple[str, str]]:
    """Return exchange and routing key of all bindings of the service queue.

    Raises DoesNotApply when there is no queue.
    """
    name = facts.queue.get("name")
    return {
        (str(each.get("source")), str(each.get("routing_key")))
        for each in facts.all("bindings")
        if each.get("destination") == name and each.get("destination_type") == "queue"
    }


def _unbound(facts: Facts, exchange: str) -> list[str]:
    """Return routing keys that the service needs and has not."""
    bindings: tuple[Binding, ...] = facts.subject.topology.bindings
    there = _bound(facts)
    return [
        each.routing_key
        for each in bindings
        if each.exchange == exchange and (exchange, each.routing_key) not in there
    ]


def _seconds(milliseconds: Any) -> str:
    return f"{milliseconds / 1000:g} s" if isinstance(milliseconds, int | float) else "some time"


CHECKS: Final = (
    Check("queue-missing", "a service queue that is not there", missing),
    Check("queue-type", "another type than MODULE:NAME declares", kind),
    Check("queue-arguments", "arguments with which a service is refused", arguments),
    Check("queue-durable", "a transient or auto-delete service queue", durable),
    Check("queue-dead-letters", "a service queue without our dead-letter exchange", dead_lettering),
    Check("binding-rpc", "names by which the service cannot be called", rpc_bindings),
    Check("binding-events", "topics of MODULE:NAME's handlers that are not bound", event_bindings),
    Check("binding-stale", "bindings that MODULE:NAME has no handler for", stale_bindings),
    Check(
        "queue-lifetime", "policies with expires or message-ttl for the service queue", lifetimes
    ),
    Check("queue-bounds", "policies with max-length that drop the oldest", bounds),
    Check("queue-backlog", f"{BACKLOG:,} messages or more that wait", backlog),
    Check("queue-in-hand", "consumers whose places are all taken while messages wait", in_hand),
    Check("queue-state", "a queue that is down, or has members that are", state),
)
