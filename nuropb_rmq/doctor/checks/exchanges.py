"""The exchanges that all services and clients share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...broker.topology import Exchange
from ..facts import Facts
from ..finding import Check, Finding, error, shell, warning
from .policies import POLICIES, without_for_all

_ALTERNATE: Final = "alternate-exchange"


def configure(facts: Facts, *options: object) -> str:
    """Return our command that makes what is missing."""
    target = (facts.subject.target,) if facts.subject.serves and facts.subject.target else ()
    return shell("nuropb-rmq", "configure", *target, *options)


def missing(facts: Facts) -> Iterator[Finding]:
    """Find exchanges that are not there."""
    there = facts.named("exchanges")
    away = [each.name for each in facts.subject.topology.exchanges if each.name not in there]
    if away:
        yield error(
            f"Exchanges are missing in {facts.vhost!r}: {', '.join(away)}. Services do not start, "
            "calls fail.",
            configure(facts),
        )


def kind(facts: Facts) -> Iterator[Finding]:
    """Find exchanges of another type."""
    for wanted, there in _pairs(facts):
        if there.get("type") != wanted.kind:
            yield error(
                f"Exchange {wanted.name!r} is of type {there.get('type')}, not {wanted.kind}: "
                "messages go astray. Stop all services, delete it (management console), and "
                "make it again.",
                configure(facts),
            )


def durable(facts: Facts) -> Iterator[Finding]:
    """Find exchanges that a restart of the broker removes."""
    for wanted, there in _pairs(facts):
        if there.get("durable") is False or there.get("auto_delete") is True:
            what = "transient" if there.get("durable") is False else "auto-delete"
            yield error(
                f"Exchange {wanted.name!r} is {what}: it vanishes, and its bindings with it. Stop "
                "all services, delete it (management console), and make it again.",
                configure(facts),
            )


def alternate(facts: Facts) -> Iterator[Finding]:
    """Find alternate exchanges, which take what nobody is bound for."""
    policies = facts.named("policies")
    for wanted, there in _pairs(facts):
        if wanted.name == facts.config.dl_exchange:
            continue
        policy = policies.get(str(there.get("policy")), {})
        if _ALTERNATE in (policy.get("definition") or {}):
            about, fix = without_for_all(facts, POLICIES, policy, _ALTERNATE)
            yield warning(
                f"Policy {policy.get('name')!r} gives exchange {wanted.name!r} an "
                "alternate-exchange: calls of services that do not exist wait for their timeouts "
                f"in place of failing at once.{about}",
                fix,
            )


def _pairs(facts: Facts) -> Iterator[tuple[Exchange, dict[str, object]]]:
    """Yield what is needed with what is there."""
    there = facts.named("exchanges")
    for wanted in facts.subject.topology.exchanges:
        if wanted.name in there:
            yield wanted, dict(there[wanted.name])


CHECKS: Final = (
    Check("exchange-missing", "exchanges that are not there", missing),
    Check("exchange-type", "exchanges of another type", kind),
    Check("exchange-durable", "exchanges that are transient or auto-delete", durable),
    Check("exchange-alternate", "policies with an alternate-exchange for them", alternate),
)
