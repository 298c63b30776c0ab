"""Facts about a deployment, as far as they can be seen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ..broker.permissions import Permission
from ..broker.topology import Queue, Topology
from ..config.settings import TransportConfig
from ..dead_letters.groups import DeadLetterGroup
from ..exceptions import NuropbException

Json = Mapping[str, Any]
"""An object of the management API."""


_LABELS: Final = {"letters": "dead letters", "vhost": "defaults of the virtual host"}
OF_VHOST: Final = (
    "queues", "exchanges", "bindings", "consumers", "connections", "policies",
    "operator_policies", "limits",
)  # fmt: skip
"""Facts that only those see who may enter the virtual host."""


def label(fact: str) -> str:
    """Return a fact's name for people."""
    return _LABELS.get(fact, fact.replace("_", " "))


class Unseen(Exception):  # noqa: N818 - no error: a check is left out
    """A fact is not known. `fact` names it."""

    def __init__(self, fact: str) -> None:
        super().__init__(fact)
        self.fact = fact


class DoesNotApply(Unseen):
    """A check has nothing to look at here: a client has no queue, a name tells no handlers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A deployment: the broker's address, and a service or a client there."""

    config: TransportConfig
    target: str = ""
    """The service as the command names it: SERVICE or MODULE:NAME; "": none is looked at."""
    declared: bool = False
    """True when `config` is the program's; False: only names are known."""
    api_url: str | None = None

    @property
    def api_user(self) -> str:
        """The user of the management API."""
        own = urlsplit(self.api_url).username if self.api_url else None
        return self.config.broker.username if own is None else unquote(own)

    @property
    def asks_as_itself(self) -> bool:
        """True when the management API gets the credentials of the login."""
        return "@" not in (self.api_url or "")

    @property
    def serves(self) -> bool:
        """True when there should be a service queue."""
        return not self.config.client_only

    def must_be_named(self) -> None:
        """Raise DoesNotApply unless it is known whose permissions are looked at."""
        if not self.target:
            raise DoesNotApply("SERVICE")

    def must_be_declared(self) -> None:
        """Raise DoesNotApply unless the settings are a program's."""
        if not self.declared:
            raise DoesNotApply("MODULE:NAME")

    @property
    def topology(self) -> Topology:
        """Exchanges, queues and bindings that it needs."""
        return Topology.of(self.config, self.config.instance_id or "0" * 32)

    @property
    def service_queue(self) -> Queue:
        """The service queue, as the settings declare it. Raises DoesNotApply for a client."""
        queue = self.topology.service_queue
        if queue is None:
            raise DoesNotApply("service")
        return queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A TLS connection, and the certificate that the broker showed."""

    version: str
    subject: str
    names: tuple[str, ...]
    """Names and addresses that it is valid for (subjectAltName)."""
    ends: datetime


@dataclass(slots=True, kw_only=True)
class Host:
    """One host of the broker's address."""

    name: str
    port: int
    unresolved: str = ""
    """Why its name has no address."""
    unreachable: str = ""
    """Why no connection was accepted."""
    untrusted: str = ""
    """Why TLS failed."""
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"

    @property
    def works(self) -> bool:
        """True when a login can be tried."""
        return not (self.unresolved or self.unreachable or self.untrusted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """An AMQP connection that was made."""

    version: str
    """Version of the broker."""
    frame_max: int
    channel_max: int
    denied_client: tuple[Permission, ...]
    """Permissions that a client needs and does not have."""
    denied_service: tuple[Permission, ...]
    consumers: int | None = None
    """Consumers of the service queue; None: the broker does not tell, or there is no queue."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """All that was seen of a deployment. What was not seen raises Unseen when it is read."""

    subject: Subject
    hosts: Sequence[Host] = ()
    login_error: NuropbException | None = None
    clock_ahead: float | None = None
    """Seconds by which the broker's clock is ahead of this machine's; to a second."""
    api_error: NuropbException | None = None
    """Why the management API tells nothing at all."""
    found: dict[str, Any] = field(default_factory=dict)
    """Facts by their names; those of the management API as they came."""
    unseen: dict[str, str] = field(default_factory=dict)
    """Why facts are not there."""
    refused: set[str] = field(default_factory=set)
    """Those of them that the management API does not show to this user."""

    @property
    def config(self) -> TransportConfig:
        """The settings."""
        return self.subject.config

    @property
    def vhost(self) -> str:
        """The virtual host."""
        return self.subject.config.broker.vhost

    @property
    def closed(self) -> bool:
        """True when the user of the management API has no permission in the virtual host.

        Any tag is enough for seeing queues, if the user may enter.
        """
        return "queues" in self.refused

    @property
    def user(self) -> str:
        """The user who logs in."""
        return self.subject.config.broker.username

    def _fact(self, name: str) -> Any:
        if name not in self.found:
            raise Unseen(name)
        return self.found[name]

    @property
    def login(self) -> Login:
        """The AMQP connection."""
        found: Login = self._fact("login")
        return found

    @property
    def letters(self) -> tuple[DeadLetterGroup, ...]:
        """Groups of dead letters, the largest first."""
        found: tuple[DeadLetterGroup, ...] = self._fact("letters")
        return found

    def one(self, name: str) -> Json:
        """Return an object of the management API."""
        found: Json = self._fact(name)
        return found

    def all(self, name: str) -> Sequence[Json]:
        """Return a list of the management API."""
        found: Sequence[Json] = self._fact(name)
        return found

    def retry_queues(self) -> list[Json]:
        """Return queues of the service's retries that are there, used or not."""
        service = re.escape(self.config.service_name)
        pattern = re.compile(f"nuropb-{service}-retry-[0-9]+(-quorum)?")
        return [each for name, each in self.named("queues").items() if pattern.fullmatch(name)]

    def named(self, name: str) -> dict[str, Json]:
        """Return a list of the management API by the names in it."""
        return {str(each.get("name")): each for each in self.all(name)}

    @property
    def queue(self) -> Json:
        """The service queue. Raises DoesNotApply when it is not there."""
        return self.queue_named(self.subject.service_queue.name)

    @property
    def dl_queue(self) -> Json:
        """The dead-letter queue. Raises DoesNotApply when it is not there."""
        if not self.subject.serves:
            raise DoesNotApply("service")
        return self.queue_named(self.config.dl_queue_name)

    def queue_named(self, name: str) -> Json:
        """Return a queue. Raises DoesNotApply when it is not there."""
        found = self.named("queues").get(name)
        if found is None:
            raise DoesNotApply("queue")
        return found
