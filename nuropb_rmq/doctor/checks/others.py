"""Queues beside: those from which messages come back, and those of answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ..facts import DoesNotApply, Facts, Json
from ..finding import Check, Finding, error, note, warning
from .exchanges import configure
from .policies import definition, setter, without, without_for_all
from .queue import delete, delete_with_care

_SHOWN: Final = 5
"""Queues that are named, and deleted by a command each."""
_UUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OF_MESSAGES: Final = ("message-ttl", "expires", "max-length", "max-length-bytes")


def retries_missing(facts: Facts) -> Iterator[Finding]:
    """Find delays without a queue."""
    facts.subject.must_be_declared()
    there = facts.named("queues")
    away = [each.name for each in facts.subject.topology.retry_queues if each.name not in there]
    if away:
        yield error(
            f"Queues of retries are missing: {', '.join(away)}. Messages that should come back "
            "become dead letters.",
            configure(facts),
        )


def retries_unused(facts: Facts) -> Iterator[Finding]:
    """Find queues of delays that the program no longer has."""
    facts.subject.must_be_declared()
    used = {each.name for each in facts.subject.topology.retry_queues}
    for queue in _retry_queues(facts):
        if queue["name"] not in used:
            held = queue.get("messages")
            yield note(
                f"Queue {queue['name']!r} is for a delay that {facts.subject.target} does not "
                f"have; {'?' if held is None else held} messages are in it"
                + ("." if held == 0 else ", and come back from it.")
                + delete_with_care(queue),
                *delete(facts, queue),
            )


def retries_changed(facts: Facts) -> Iterator[Finding]:
    """Find policies that change when, or whether, messages come back."""
    for queue in _retry_queues(facts):
        changed = [key for key in _OF_MESSAGES if key in definition(facts, queue)]
        if changed:
            about, fix = without(facts, queue, *changed)
            yield warning(
                f"A policy sets {', '.join(changed)} for {queue['name']!r}: messages come back "
                f"too early, or not at all.{about}",
                fix,
            )


def answers_left(facts: Facts) -> Iterator[Finding]:
    """Find response queues of programs that are gone."""
    consumed = {
        each["queue"].get("name")
        for each in facts.all("consumers")
        if isinstance(each.get("queue"), dict)
    }
    left = [
        each
        for each in _response_queues(facts)
        if not each.get("exclusive") and each.get("name") not in consumed
    ]
    if left:
        names = ", ".join(str(each["name"]) for each in left[:_SHOWN])
        more = f" and {len(left) - _SHOWN:,} more" if len(left) > _SHOWN else ""
        yield warning(
            f"Without a consumer: {len(left):,} response queues, {names}{more}. Their programs "
            "are gone; nuropb 0.1.8 leaves them.",
            *(fix for each in left[:_SHOWN] for fix in delete(facts, each)),
        )


def answers_changed(facts: Facts) -> Iterator[Finding]:
    """Find policies that take answers away."""
    for queue in _response_queues(facts):
        changed = [key for key in _OF_MESSAGES if key in definition(facts, queue)]
        if changed:
            about, fix = without_for_all(facts, *setter(facts, queue, changed[0]), *changed)
            yield warning(
                f"A policy sets {', '.join(changed)} for response queues, {queue['name']!r} for "
                f"one: answers get lost, and calls end by their timeouts.{about}",
                fix,
            )
            return


def _retry_queues(facts: Facts) -> list[Json]:
    """Return queues of retries that are there. Raises DoesNotApply for a client."""
    if not facts.subject.serves:
        raise DoesNotApply("service")
    return facts.retry_queues()


def _response_queues(facts: Facts) -> list[Json]:
    """Return response queues: of the service if one is looked at, else all.

    orders-eu is another service than orders: an instance has a hyphen as a UUID, or when the
    settings name it.
    """
    config = facts.config
    pattern = re.compile("nuropb-.*-rq", re.DOTALL)
    if facts.subject.target:
        service, own = re.escape(config.service_name), re.escape(config.instance_id or "")
        pattern = re.compile(f"nuropb-{service}-([^-]+|{_UUID}|{own})-rq")
    return [each for name, each in facts.named("queues").items() if pattern.fullmatch(name)]


CHECKS: Final = (
    Check("retry-missing", "queues of MODULE:NAME's delays that are not there", retries_missing),
    Check("retry-unused", "queues of delays that MODULE:NAME does not have", retries_unused),
    Check("retry-policy", "policies for queues of retries", retries_changed),
    Check("answers-left", "response queues that nobody consumes", answers_left),
    Check("answers-policy", "policies for response queues", answers_changed),
)
