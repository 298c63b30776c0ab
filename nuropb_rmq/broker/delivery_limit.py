"""Find out whether looking at a queue can cost messages.

A quorum queue counts how often a message came back without being settled, and gives it up over its
delivery limit: 20 by default from RabbitMQ 4.0 on. Whoever takes messages in order to look at them,
and is killed, has them counted. AMQP tells the type of a queue, but not its policies.

Why: docs/decisions/015-looking-at-dead-letters.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..config.settings import CLASSIC, TransportConfig
from ..exceptions import (
    BrokerAuthenticationError,
    NuropbException,
    NuropbTransportError,
    ServiceNotConfigured,
)
from .connecting import Connection
from .error_translation import standing_type, translated
from .topology import QUEUE_TYPE, Queue

LIMITED_FROM: Final = 4
"""The first major version in which a quorum queue has a limit without being told."""
DEFAULT_LIMIT: Final = 20
NO_LIMIT: Final = -1
_ASK_WITHIN: Final = 5.0
"""Seconds that the management API has to answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """Type and depth of a queue, as far as this user may see them."""

    type: str | None
    """None: neither AMQP nor the management API tells."""
    depth: bool
    """True when the broker tells how many messages are ready; RabbitMQ 4.2.6 and 4.3.0 do so only
    to those who may configure the queue."""
    limit: int | None = None
    """The delivery limit in force; negative: none. None: it was not asked for, or is not told."""
    unseen: str = ""
    """Why it is not told."""


async def told_of(
    connection: Connection, config: TransportConfig, queue: str, api_url: str | None
) -> Told:
    """Ask for a queue: AMQP, and the management API for what AMQP does not tell.

    Raises ServiceNotConfigured when there is no such queue.
    """
    told = await _told_by_amqp(connection, queue)
    # In memory nobody who looks is killed without the broker.
    unlimited = config.broker.in_memory or _major(connection.version) < LIMITED_FROM
    if told.type is not None and (told.type == CLASSIC or unlimited):
        return replace(told, limit=NO_LIMIT)
    try:
        facts = await _ask(config, queue, api_url)
    except NuropbException as e:
        return replace(told, limit=NO_LIMIT if unlimited else None, unseen=str(e))
    found = facts.get("type")
    limit = NO_LIMIT if unlimited or found == CLASSIC else limit_of(facts)
    return replace(told, type=found if isinstance(found, str) else told.type, limit=limit)


def check_delivery_limit(queue: str, told: Told) -> None:
    """Raise ServiceNotConfigured unless messages of the queue may come back any number of times.

    That is so in a classic queue, below RabbitMQ 4.0, in a broker in memory, and in a quorum queue
    with the policy delivery-limit -1, if the management API tells.
    """
    if told.limit is not None and told.limit < 0:
        return
    if told.limit is not None:
        how = f"it is a quorum queue with a delivery limit of {told.limit}"
    else:
        unseen = "its delivery limit" if told.type is not None else "its type and delivery limit"
        how = f"{unseen} cannot be seen ({told.unseen})"
    after = 1 + (DEFAULT_LIMIT if told.limit is None else told.limit)
    raise ServiceNotConfigured(
        f"queue {queue!r}: {how}. Whoever is killed, or loses the connection, while it looks at "
        "letters has had them delivered once, and before RabbitMQ 4.3 so has everybody who looks: "
        f"after {after} times they are gone. Set the policy delivery-limit -1 for this queue "
        "(rabbitmqctl set_policy, --apply-to quorum_queues; never the argument), or take the risk "
        "by allow_delivery_limit=True"
    )


def _major(version: str) -> int:
    """Return the first number of a version; one that cannot be read counts as new."""
    first = version.partition(".")[0]
    return int(first) if first.isdecimal() else LIMITED_FROM


async def _told_by_amqp(connection: Connection, name: str) -> Told:
    """Ask for a queue. Raises ServiceNotConfigured when it is missing.

    Declaring it as a classic queue changes nothing: one of another type is an error that says so.
    """
    declared = Queue(name, durable=True, arguments={QUEUE_TYPE: CLASSIC})
    try:
        await _declare(connection, declared, passive=True)
    except BrokerAuthenticationError:
        return Told(type=None, depth=False)
    try:
        await _declare(connection, declared, passive=False)
    except BrokerAuthenticationError:
        return Told(type=None, depth=True)
    except ServiceNotConfigured as e:
        return Told(type=standing_type(e), depth=True)
    return Told(type=CLASSIC, depth=True)


async def _declare(connection: Connection, queue: Queue, *, passive: bool) -> None:
    channel = connection.new_channel()
    await channel.open()
    with translated(f"queue {queue.name!r}"):
        await channel.declare_queue(queue, passive=passive)
    await channel.close()


async def _ask(config: TransportConfig, queue: str, api_url: str | None) -> dict[str, Any]:
    """Return what the management API says of a queue."""
    # Imported here, because few programs need it, and httpx takes a third of the import time.
    from .management import management_api  # noqa: PLC0415

    async with management_api(config, api_url, timeout=_ASK_WITHIN) as api:
        found = await api.queue(config.broker.vhost, queue, statistics=False)
    if found is None:
        raise NuropbTransportError(f"the management API knows no queue {queue!r}")
    return found


def limit_of(facts: Mapping[str, Any]) -> int:
    """Return the delivery limit in force, by what the management API says of a quorum queue.

    A negative one is none.
    """
    policy = facts.get("effective_policy_definition") or {}
    arguments = facts.get("arguments") or {}
    told = [facts.get("delivery_limit"), policy.get("delivery-limit")]
    if (argument := arguments.get("x-delivery-limit")) is not None:
        told.append(argument)
    limits = [each for each in told if isinstance(each, int)]
    counting = [each for each in limits if each >= 0]
    return min(counting, default=min(limits, default=DEFAULT_LIMIT))
