"""Collect the facts: the network, a login, the management API, the dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ..broker.connecting import open_connection
from ..broker.connection import BrokerConnection
from ..broker.consumers import consumer_count
from ..broker.error_translation import located
from ..broker.management import ManagementAPI, management_api
from ..broker.permissions import refused
from ..broker.quiet import quietly
from ..config.settings import TransportConfig
from ..dead_letters.dead_letters import DeadLetters
from ..exceptions import (
    BrokerAuthenticationError,
    BrokerUnreachableError,
    NuropbException,
    NuropbTransportError,
    ServiceNotConfigured,
)
from ..waiting import time_limit
from . import network
from .facts import OF_VHOST, Facts, Login, Subject
from .needed import client_permissions, service_permissions

PURPOSE: Final = "doctor"
LETTERS_WITHIN: Final = 20.0
"""Seconds for looking at the dead letters; what was not looked at by then is not told."""
LETTERS_MOST: Final = 100_000
"""A dead-letter queue with more letters is not looked into: they would be held for too long."""
_API_WITHIN: Final = 10.0

_VHOST: Final = "{vhost}"
# Facts and their paths in the management API.
PATHS: Final[dict[str, tuple[str, ...]]] = {
    "whoami": ("whoami",),
    "overview": ("overview",),
    "vhost": ("vhosts", _VHOST),
    "queues": ("queues", _VHOST),
    "exchanges": ("exchanges", _VHOST),
    "bindings": ("bindings", _VHOST),
    "consumers": ("consumers", _VHOST),
    "connections": ("vhosts", _VHOST, "connections"),
    "nodes": ("nodes",),
    "policies": ("policies", _VHOST),
    "operator_policies": ("operator-policies", _VHOST),
    "limits": ("vhost-limits", _VHOST),
    "feature_flags": ("feature-flags",),
    "deprecated": ("deprecated-features", "used"),
}

_OF_NOW: Final = "disable_stats=true&enable_queue_totals=true"
"""Queues without statistics, which are up to 5 seconds old."""
_OBJECTS: Final = ("whoami", "overview", "vhost")
"""Facts that are one object; the others are lists."""
_MAY_BE_UNKNOWN: Final = ("operator_policies", "limits", "feature_flags", "deprecated")
"""Facts that not every version of RabbitMQ knows: it has none of them then."""


@quietly
async def look(subject: Subject) -> Facts:
    """Return what can be seen of a deployment; the facts name what cannot.

    Raises NuropbConfigurationError when a file of certificates cannot be read, or when the address
    of the management API is wrong.
    """
    facts = Facts(subject=subject)
    config = subject.config
    facts.hosts = await network.look(config.broker, config.connect_timeout / 2)
    if not any(host.works for host in facts.hosts):
        return facts
    await _log_in(facts)
    own_user = subject.api_url is not None and "@" in subject.api_url
    if facts.login_error is None or own_user:
        await ask(facts)
    if subject.serves and "login" in facts.found:
        await _read_letters(facts)
    return facts


async def _log_in(facts: Facts) -> None:
    config, subject = facts.config, facts.subject
    try:
        async with time_limit(config.connect_timeout):
            connection = await open_connection(config, PURPOSE)
    except TimeoutError:
        text = f"{config.broker}: no login within {config.connect_timeout:g} s"
        facts.login_error = BrokerUnreachableError(text)
        return
    except NuropbTransportError as e:
        facts.login_error = e
        return
    assert isinstance(connection, BrokerConnection)  # noqa: S101 - no broker in memory is looked at
    try:
        async with time_limit(config.connect_timeout):
            facts.found["login"] = await _told(connection, subject)
    except TimeoutError:
        facts.login_error = BrokerUnreachableError(
            f"{config.broker}: permissions are not told within {config.connect_timeout:g} s"
        )
    except NuropbTransportError as e:
        facts.login_error = located(config.broker, e) or e
    finally:
        await connection.shut()


async def _told(connection: BrokerConnection, subject: Subject) -> Login:
    """Return what a connection tells: limits, permissions, consumers."""
    queue = subject.config.service_queue_name if subject.serves else ""
    tuned = connection.tuned
    return Login(
        version=connection.version,
        frame_max=tuned.frame_max,
        channel_max=tuned.channel_max,
        denied_client=tuple(await refused(connection, client_permissions(subject), queue)),
        denied_service=tuple(await refused(connection, service_permissions(subject), queue)),
        consumers=await consumer_count(connection, queue) if queue else None,
    )


async def ask(facts: Facts, wanted: Iterable[str] = PATHS) -> None:
    """Ask the management API for facts, all that it tells this user."""
    subject = facts.subject
    async with management_api(subject.config, subject.api_url, timeout=_API_WITHIN) as api:
        for fact in wanted:
            path = (facts.vhost if part is _VHOST else part for part in PATHS[fact])
            try:
                answer = await api.get(*path, query=_OF_NOW if fact == "queues" else "")
            except NuropbException as e:
                facts.unseen[fact] = str(e)
                if isinstance(e, BrokerAuthenticationError):
                    facts.refused.add(fact)
                # Nothing more will be told then.
                if isinstance(e, BrokerUnreachableError) or fact == "whoami":
                    facts.api_error = e
                    break
            else:
                there = not isinstance(facts.login_error, ServiceNotConfigured)
                if answer is None and there and _may_not_enter(facts, fact):
                    facts.unseen[fact] = f"user {subject.api_user!r} may not enter {facts.vhost!r}"
                    facts.refused.add(fact)
                elif not _keep(facts, fact, answer) and there:
                    facts.api_error = NuropbTransportError(facts.unseen[fact])
                    break
        facts.clock_ahead = _ahead(api)
    _forget_what_is_empty(facts)


def _may_not_enter(facts: Facts, fact: str) -> bool:
    """Return whether a 404 means so: RabbitMQ 4.x answers it where 3.x has 401."""
    known = facts.closed or fact not in _MAY_BE_UNKNOWN
    return known and fact in OF_VHOST and "whoami" in facts.found


def _forget_what_is_empty(facts: Facts) -> None:
    """Take out the answers that are empty, or a part, where RabbitMQ should refuse them."""
    hidden: tuple[str, ...] = ("consumers", "limits") if facts.closed else ()
    if "nodes" in facts.refused:  # the user has no tag `monitoring`
        hidden += ("connections",)
    for fact in hidden:
        if facts.found.pop(fact, None) is not None:
            facts.unseen[fact] = f"user {facts.subject.api_user!r} does not see those of others"
            facts.refused.add(fact)


def _keep(facts: Facts, fact: str, answer: Any) -> bool:
    """Keep an answer if it is what it should be: an object, or a list of objects.

    None is a 404: of an old RabbitMQ, of one without this virtual host, or of something else that
    answers at this port. Return whether it was kept.
    """
    if answer is None and fact in _MAY_BE_UNKNOWN:
        answer = []
    expected, came = ("an object" if fact in _OBJECTS else "a list"), type(answer).__name__
    if isinstance(answer, dict) and fact in _OBJECTS:
        facts.found[fact] = answer
    elif isinstance(answer, list) and fact not in _OBJECTS:
        facts.found[fact] = [each for each in answer if isinstance(each, dict)]
    else:
        facts.unseen[fact] = (
            f"management API: expected {expected} at /api/{PATHS[fact][0]}, got "
            f"{'404 Not Found' if answer is None else came}: is this RabbitMQ's management API? "
            "Give its address with --management-url"
        )
        return False
    return True


def _ahead(api: ManagementAPI) -> float | None:
    """Return by how many seconds the broker's clock is ahead; less than one cannot be seen."""
    with suppress(TypeError, ValueError):
        ahead = parsedate_to_datetime(api.date).timestamp() - time.time()
        # Its seconds are cut off: 12:00:00 may be up to 12:00:01.
        return 0.0 if -1.5 < ahead < 0.5 else ahead
    return None


async def _read_letters(facts: Facts) -> None:
    """Group the dead letters; a queue that should not be looked at is left alone."""
    config: TransportConfig = facts.config
    depth = facts.named("queues").get(config.dl_queue_name) if "queues" in facts.found else None
    messages = None if depth is None else depth.get("messages")
    if messages == 0:
        facts.found["letters"] = ()
        return
    if isinstance(messages, int) and messages > LETTERS_MOST:
        facts.unseen["letters"] = f"there are more than {LETTERS_MOST:,}"
        return
    try:
        async with DeadLetters(
            config, api_url=facts.subject.api_url, pass_seconds=LETTERS_WITHIN
        ) as dead:
            facts.found["letters"] = await dead.groups()
    except NuropbException as e:
        facts.unseen["letters"] = str(e)
