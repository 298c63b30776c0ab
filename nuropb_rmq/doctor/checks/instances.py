"""The instances of a service: who consumes, versions, and settings beside those of the broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..facts import Facts, Json
from ..finding import Check, Finding, error, note, shell, warning
from .broker import major, size
from .policies import arguments_of, definition
from .queue import consumers, count

PRODUCTS: Final = ("nuropb_rmq", "Nuropb")
"""Ours, and nuropb's."""
CONSUMER_TIMEOUT: Final = 1_800_000
"""Milliseconds: RabbitMQ's default since 3.8.17."""
LARGEST: Final = {3: 128 * 2**20, 4: 16 * 2**20}
"""Bytes of max_message_size by default, by the first number of the version."""


def served(facts: Facts) -> Iterator[Finding]:
    """Find a service that nobody runs."""
    queue = facts.queue
    told = facts.login.consumers
    if len(consumers(facts)) if told is None else told:
        return
    subject, waiting = facts.subject, count(queue, "messages_ready")
    # Without the program's name there is no command that could be pasted.
    fix = (shell("nuropb-rmq", "serve", subject.target),) if subject.declared else ()
    do = "" if fix else "Start an instance: nuropb-rmq serve MODULE:CLASS."
    yield error(
        f"Nobody serves {facts.config.service_name!r}: queue {queue.get('name')!r} has no "
        f"consumer, and {waiting:,} messages wait.",
        *fix,
        do=do,
    )


def standby(facts: Facts) -> Iterator[Finding]:
    """Tell that one instance gets all messages."""
    found = consumers(facts)
    arguments = arguments_of(facts.queue)
    if arguments.get("x-single-active-consumer") and len(found) > 1:
        yield note(
            f"One of {len(found)} consumers gets all messages of {facts.config.service_name!r} "
            "(single_active_consumer); the others stand by."
        )


def idle(facts: Facts) -> Iterator[Finding]:
    """Find instances that are connected, and do not consume."""
    should = [each for each in _connections(facts) if _named(each).endswith(" consuming")]
    told = facts.login.consumers
    if told is not None and told >= len(should):
        return  # the list of consumers may be late
    do = {
        str((each.get("channel_details") or {}).get("connection_name")) for each in consumers(facts)
    }
    for each in should:
        if each.get("name") not in do:
            yield warning(
                f"Instance {_properties(each).get('instance_id')} of {facts.config.service_name!r} "
                f"on {each.get('peer_host')} is connected, and does not consume: look into its log."
            )


def versions(facts: Facts) -> Iterator[Finding]:
    """Find instances of several versions."""
    found: dict[str, int] = {}
    for each in _connections(facts):
        told = _properties(each)
        version = f"{told.get('product')} {told.get('version')}"
        found[version] = found.get(version, 0) + 1
    if len(found) > 1:
        each_one = "; ".join(f"{name}: {number} connections" for name, number in found.items())
        yield warning(
            f"Instances of {facts.config.service_name!r} run several versions: {each_one}. Give "
            "all the same, unless you are just updating them."
        )


def blocked(facts: Facts) -> Iterator[Finding]:
    """Find connections that the broker holds up."""
    held = [each for each in _connections(facts) if each.get("state") in ("blocked", "blocking")]
    if held:
        yield error(
            f"The broker takes no messages from {facts.config.service_name!r} until its alarm is "
            f"over, so that answers and events wait. Connections that it blocks: {len(held)}, for "
            f"example {_named(held[0])}."
        )


def heartbeats(facts: Facts) -> Iterator[Finding]:
    """Find connections without heartbeats: nobody notices their end."""
    silent = [each for each in _connections(facts) if each.get("timeout") == 0]
    if silent:
        yield warning(
            f"{len(silent)} connections of {facts.config.service_name!r}, "
            f"{_named(silent[0])} for one, have no heartbeat: a "
            "connection that has died is never noticed. Set heartbeat=10."
        )


def handler_timeout(facts: Facts) -> Iterator[Finding]:
    """Find handlers that may run for longer than the broker waits."""
    facts.subject.must_be_declared()
    longest = facts.config.handler_timeout
    told, whose = _consumer_timeout(facts)
    if longest * 1000 >= told:
        yield warning(
            f"Handlers may run for {longest:g} s (handler_timeout), and the broker waits for "
            f"{told / 1000:g} s (consumer_timeout, {whose}): then it closes the channel, and the "
            "message is handled again. Set handler_timeout below it, or raise consumer_timeout."
        )


def _consumer_timeout(facts: Facts) -> tuple[int, str]:
    """Return the milliseconds that the broker waits for an ack, and who says so."""
    queue = facts.queue
    arguments = arguments_of(queue)
    told = definition(facts, queue).get("consumer-timeout", arguments.get("x-consumer-timeout"))
    if isinstance(told, int):
        return told, f"of queue {queue.get('name')!r}"
    # RabbitMQ tells it for each consumer from 4.3 on.
    of_each = [each.get("consumer_timeout") for each in consumers(facts)]
    told_of_each = [each for each in of_each if isinstance(each, int)]
    if told_of_each:
        return min(told_of_each), "of its consumers"
    return CONSUMER_TIMEOUT, "by default; rabbitmq.conf may say otherwise"


def body_size(facts: Facts) -> Iterator[Finding]:
    """Find bodies that the broker does not take."""
    facts.subject.must_be_declared()
    largest = LARGEST[min(max(major(facts), 3), 4)]
    if facts.config.max_body_bytes > largest:
        yield warning(
            f"Bodies may have {size(facts.config.max_body_bytes)} (max_body_bytes), and RabbitMQ "
            f"{facts.login.version} takes {size(largest)} by default: larger ones end with "
            f"MessageTooLargeError. Set max_body_bytes={largest}, or max_message_size in "
            "rabbitmq.conf."
        )


def _connections(facts: Facts) -> list[Json]:
    """Return the connections of the service; not our own."""
    return [
        each
        for each in facts.all("connections")
        if _properties(each).get("product") in PRODUCTS
        and _properties(each).get("name") == facts.config.service_name
        and _properties(each).get("instance_id")
    ]


def _named(connection: Json) -> str:
    return str(_properties(connection).get("connection_name", ""))


def _properties(connection: Json) -> dict[str, Any]:
    found = connection.get("client_properties")
    return found if isinstance(found, dict) else {}


CHECKS: Final = (
    Check("consumers", "a service that nobody serves", served),
    Check("standby", "single_active_consumer with several instances", standby),
    Check("idle", "instances that are connected and do not consume", idle),
    Check("versions", "several versions of this library, or nuropb beside it", versions),
    Check("blocked", "connections of the service that the broker blocks", blocked),
    Check("heartbeat", "connections without heartbeats", heartbeats),
    Check(
        "handler-timeout", "a handler_timeout over the broker's consumer_timeout", handler_timeout
    ),
    Check("body-size", "max_body_bytes over the broker's max_message_size", body_size),
)
