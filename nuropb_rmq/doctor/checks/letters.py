"""The dead letters of a service: their queue, how they come to it, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...broker.delivery_limit import LIMITED_FROM, limit_of
from ...broker.topology import DeadLetterTopology
from ...config.settings import QUORUM
from ...printable import shorten
from ..facts import DoesNotApply, Facts
from ..finding import Check, Finding, error, note, shell, warning
from .broker import major
from .exchanges import configure
from .policies import arguments_of, definition, set_for_queue, type_of, without
from .queue import count

_BOUNDS: Final[dict[str, int]] = {"max-length": 100_000, "message-ttl": 604_800_000}
_UNLIMITED: Final[dict[str, int]] = {"delivery-limit": -1}


def missing(facts: Facts) -> Iterator[Finding]:
    """Find a service whose dead letters are lost."""
    name = _topology(facts).queue.name
    if name not in facts.named("queues"):
        yield error(
            f"Queue {name!r} does not exist: messages that fail are lost.", configure(facts)
        )


def exchange(facts: Facts) -> Iterator[Finding]:
    """Find a missing exchange of services' own dead letters, or one that gets none."""
    own = _topology(facts).exchange
    if own is None:
        return
    wanted = facts.config.dl_exchange
    if own.name not in facts.named("exchanges"):
        yield error(
            f"Exchange {own.name!r} does not exist: dead letters do not come to their services' "
            "queues.",
            configure(facts),
        )
    elif wanted in facts.named("exchanges") and not any(
        each.get("source") == wanted
        and each.get("destination") == own.name
        and each.get("destination_type") == "exchange"
        for each in facts.all("bindings")
    ):
        yield error(
            f"Exchange {own.name!r} is not bound to {wanted!r}: dead letters do not come to their "
            "services' queues.",
            configure(facts),
        )


def bindings(facts: Facts) -> Iterator[Finding]:
    """Find dead letters that do not come to the queue."""
    wanted = _topology(facts).bindings
    if facts.config.dl_queue_name not in facts.named("queues"):
        return  # told above
    if not {each.exchange for each in wanted} <= set(facts.named("exchanges")):
        return  # told above
    there = [
        (each.get("source"), each.get("arguments") or {})
        for each in facts.all("bindings")
        if each.get("destination") == facts.config.dl_queue_name
    ]
    away = [each for each in wanted if (each.exchange, dict(each.arguments)) not in there]
    if away:
        yield error(
            f"{len(away)} of {len(wanted)} bindings of {facts.config.dl_queue_name!r} are missing: "
            "some dead letters of the service are lost.",
            configure(facts),
        )


def fan_out(facts: Facts) -> Iterator[Finding]:
    """Find a queue that gets the dead letters of all services."""
    name, source = facts.config.dl_queue_name, facts.config.dl_exchange
    if _topology(facts).exchange is None:
        return
    keys = [
        each.get("routing_key")
        for each in facts.all("bindings")
        if each.get("source") == source and each.get("destination") == name
    ]
    if not keys:
        return
    text = f"Queue {name!r} gets the dead letters of all services: it is bound to {source!r}"
    if keys == [name]:
        yield warning(f"{text}, as by an earlier version of this library.", configure(facts))
    else:
        yield warning(f"{text}. Take that binding out (management console).")


def waiting(facts: Facts) -> Iterator[Finding]:
    """Find dead letters that nobody has looked at."""
    total = count(facts.dl_queue, "messages")
    if "letters" in facts.found:
        own = [group for group in facts.letters if group.own]
        total = sum(group.count for group in own)
        if not total:
            return
        most, times = own[0], [group.first for group in own if group.first]
        since = f", the oldest from {min(times):%Y-%m-%d %H:%M} UTC" if times else ""
        failed = f"{most.method or most.type or 'message'}: {most.error or most.reason or '?'}"
        largest = f" Most, {most.count:,}: {shorten(failed, 100)}."
    elif total:
        since = largest = ""
    else:
        return
    yield warning(
        f"{total:,} dead letters of {facts.config.service_name!r} wait{since}.{largest}",
        shell("nuropb-rmq", "dlq", "groups", facts.config.service_name),
    )


def foreign(facts: Facts) -> Iterator[Finding]:
    """Find dead letters of other services."""
    _topology(facts)  # raises DoesNotApply
    others = sum(group.count for group in facts.letters if not group.own)
    if others:
        yield warning(
            f"{others:,} letters in {facts.config.dl_queue_name!r} are other services', or nobody "
            "knows whose: they stay when those of the service are replayed.",
            shell("nuropb-rmq", "dlq", "groups", facts.config.service_name),
        )


def unbounded(facts: Facts) -> Iterator[Finding]:
    """Find a queue that fills the disk in the end."""
    queue = facts.dl_queue
    found = {**arguments_of(queue), **definition(facts, queue)}
    bounds = ("max-length", "max-length-bytes", "message-ttl")
    if not any(key in found or f"x-{key}" in found for key in bounds):
        yield note(
            f"Queue {facts.config.dl_queue_name!r} has no bound: nothing drops letters that nobody "
            "wants any more. This policy, for it alone, drops letters older than 7 days, and the "
            "oldest beyond 100,000: are they wanted?",
            _set_policy(facts, _BOUNDS),
        )


def delivery_limit(facts: Facts) -> Iterator[Finding]:
    """Find a quorum queue that drops letters which are looked at."""
    queue = facts.dl_queue
    if type_of(queue) != QUORUM or major(facts) < LIMITED_FROM:
        return
    limit = limit_of({**queue, "effective_policy_definition": definition(facts, queue)})
    if limit >= 0:
        yield warning(
            f"Quorum queue {facts.config.dl_queue_name!r} drops letters that came back {limit} "
            "times: whoever is killed looking at them counts. dlq refuses to look until the "
            "limit is off.",
            _set_policy(facts, {}),
        )


def lifetime(facts: Facts) -> Iterator[Finding]:
    """Find a policy that deletes the queue, and one that refuses letters."""
    name, queue = facts.config.dl_queue_name, facts.dl_queue
    found = definition(facts, queue)
    if "expires" in found:
        about, fix = without(facts, queue, "expires")
        yield error(
            f"A policy deletes queue {name!r}, with its letters, when nobody has looked at it for "
            f"{found['expires'] / 1000:g} s (expires).{about}",
            fix,
        )
    if str(found.get("overflow", "")).startswith("reject-publish"):
        yield warning(
            f"A policy makes {name!r} refuse new letters when it is full (overflow): they are "
            "lost. The command, for it alone, lets it drop the oldest.",
            set_for_queue(facts, queue, {"overflow": "drop-head"}),
        )


def _topology(facts: Facts) -> DeadLetterTopology:
    found = facts.subject.topology.dead_letters
    if found is None:
        raise DoesNotApply("service")
    return found


def _set_policy(facts: Facts, wanted: dict[str, int]) -> str:
    """Return the command for a policy of this queue, which has no delivery limit."""
    queue = facts.dl_queue
    unlimited = type_of(queue) == QUORUM and major(facts) >= LIMITED_FROM
    return set_for_queue(facts, queue, wanted | (_UNLIMITED if unlimited else {}))


CHECKS: Final = (
    Check("dlq-missing", "a dead-letter queue that is not there", missing),
    Check(
        "dlq-exchange", "the exchange of services' own dead letters, missing or not bound", exchange
    ),
    Check("dlq-bindings", "bindings by which dead letters come to the queue", bindings),
    Check("dlq-all-services", "a dead-letter queue that gets those of all services", fan_out),
    Check("dlq-letters", "dead letters of the service, with the oldest and what most are", waiting),
    Check("dlq-foreign", "letters of other services in the queue", foreign),
    Check("dlq-bounds", "a dead-letter queue without bounds", unbounded),
    Check(
        "dlq-delivery-limit", "a delivery limit on a quorum queue of RabbitMQ 4.x", delivery_limit
    ),
    Check("dlq-lifetime", "policies with expires, or that refuse new letters", lifetime),
)
