"""Permissions that services and clients need, as docs/operations/permissions.md has them."""

from __future__ import annotations

import re
from typing import Final

from ..broker.permissions import DEFAULT_EXCHANGE, Permission, Right
from .facts import Facts, Subject
from .finding import ctl

REPLACES: Final = (
    "The command replaces all permissions that this user has there by those of "
    "docs/operations/permissions.md, for configure=False: is the user this program's alone?"
)
_INSTANCE = "0" * 32


def client_permissions(subject: Subject) -> tuple[Permission, ...]:
    """Return what a client needs: to call, to publish, and to get answers.

    Nothing without a name: nobody knows whose response queues the user is for.
    """
    config = subject.config
    if not subject.target:
        return ()
    answers = config.response_queue_name(config.instance_id or _INSTANCE)
    return (
        Permission(Right.WRITE, "exchange", config.rpc_exchange),
        Permission(Right.WRITE, "exchange", config.events_exchange),
        Permission(Right.CONFIGURE, "queue", answers),
        Permission(Right.READ, "queue", answers),
    )


def service_permissions(subject: Subject) -> tuple[Permission, ...]:
    """Return what a service needs beyond that: its queues, the exchanges, and to answer."""
    topology, config = subject.topology, subject.config
    if topology.service_queue is None:
        return ()
    queue = topology.service_queue.name
    retries = [each.name for each in topology.retry_queues]
    return (
        Permission(Right.CONFIGURE, "queue", queue),
        Permission(Right.WRITE, "queue", queue),
        Permission(Right.READ, "queue", queue),
        *(Permission(right, "queue", name) for name in retries for right in _OF_RETRIES),
        Permission(Right.WRITE, "exchange", config.dl_exchange),
        Permission(Right.WRITE, "exchange", DEFAULT_EXCHANGE),
        Permission(Right.READ, "exchange", config.rpc_exchange),
        Permission(Right.READ, "exchange", config.events_exchange),
    )


_OF_RETRIES = (Right.CONFIGURE, Right.READ)


def recipe(facts: Facts) -> str:
    """Return the command that gives a user what a client, or a service, needs, and no more.

    Say REPLACES with it. Raises DoesNotApply without the name of one.
    """
    facts.subject.must_be_named()
    config, subject = facts.config, facts.subject
    answers = _answers(config.response_queue, config.service_name, config.instance_id)
    rpc, events, dead = map(
        pattern_of, (config.rpc_exchange, config.events_exchange, config.dl_exchange)
    )
    if not subject.serves:
        patterns = (f"^{answers}$", f"^({rpc}|{events})$", f"^{answers}$")
    else:
        queue = pattern_of(config.service_queue_name)
        retry = f"nuropb-{pattern_of(config.service_name)}-retry-[0-9]+(-quorum)?"
        own = f"{queue}|{retry}|{answers}"
        patterns = (
            f"^({own})$",
            rf"^({queue}|{rpc}|{events}|{dead}|amq\.default)$",
            f"^({own}|{rpc}|{events})$",
        )
    return ctl(facts, "set_permissions", facts.user, *patterns)


def _answers(queue: str | None, service: str, instance: str | None) -> str:
    if queue is not None:
        return pattern_of(queue)
    made = "[0-9a-f]{32}" if instance is None else pattern_of(instance)
    return f"nuropb-{pattern_of(service)}-{made}-rq"


def pattern_of(name: str) -> str:
    """Return a regular expression for one name; a hyphen stays as it is, for people's eyes."""
    return re.escape(name).replace(r"\-", "-")
