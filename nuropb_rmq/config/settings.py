"""Every setting of a transport, frozen and checked when it is made.

A wrong setting raises NuropbConfigurationError, which names the field and says what would be
right. Where the broker is, and its TLS, is read by `address`; its names are here too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from typing import Any, Final

from ..exceptions import NuropbConfigurationError
from ..nearest import nearest
from ..protocol.constants import (
    DEFAULT_DL_EXCHANGE,
    DEFAULT_EVENTS_EXCHANGE,
    DEFAULT_RPC_EXCHANGE,
    MAX_SECONDS,
    MessageType,
)
from .address import AmqpUrl, Broker, TLSConfig, typed
from .tokens import TokenProvider

__all__ = ["AmqpUrl", "Broker", "TLSConfig", "TransportConfig"]

# pamqp refuses other characters in the name of an exchange or queue, before anything is sent.
_NAME: Final = re.compile(r"[a-zA-Z0-9\-_.:@#,/+ ]+")
_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9\-_.:@#,/+ ]")
_NAME_TEXT: Final = "letters, digits, space and - _ . : @ # , / + only (the AMQP library's limit)"
_SHORTSTR: Final = 255  # bytes; AMQP 0-9-1, section 4.2.5.3
_EXCHANGE_NAME: Final = 127  # AMQP 0-9-1's domain exchange-name, enforced by pamqp
_UUID: Final = "0" * 36  # as long as an instance id that start() makes by itself can be

CLASSIC: Final = "classic"
QUORUM: Final = "quorum"
_QUEUE_TYPES: Final = (CLASSIC, QUORUM)
_BOOLEANS: Final = ("client_only", "single_active_consumer", "inherit_deadline", "log_error_text")
_INTEGERS: Final[Mapping[str, tuple[int, int]]] = {
    "prefetch_count": (0, 65_535),
    "heartbeat": (0, 65_534),
    "max_pending": (1, 2**31),
    "outbox_messages": (1, 2**31),
    "outbox_bytes": (1, 2**40),
    "max_body_bytes": (1, 2**31),
    "max_json_depth": (1, 10_000),
}
_SECONDS: Final[Mapping[str, float]] = {  # field → its smallest value
    "connect_timeout": 0.001,
    "reconnect_cap": 0.001,
    "publish_timeout": 0.001,
    "request_timeout": 0.001,
    "default_ttl": 0.001,
    "missing_timeout": 0.0,
    "unknown_outcome_after": 0.0,
    "handler_timeout": 0.001,
    "instance_retry": 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportConfig:
    """The settings of one transport. Times are in seconds, sizes in bytes.

    Raises NuropbConfigurationError for any field of a wrong type or range. repr() is masked;
    `dataclasses.replace` makes a changed copy, and checks it again.
    """

    amqp_url: AmqpUrl = field(repr=False, compare=False)
    """As given; `broker` is what was read from it."""
    token_provider: TokenProvider | None = field(default=None, repr=False, compare=False)
    """Gives an AccessToken to use in place of the password of amqp_url.

    It is called at every login, and at 80 % of a token's life, to renew the token on the open
    connection. It must answer within half of connect_timeout. When it fails, or the broker refuses
    its token, start() fails. Later it is called again, with pauses up to reconnect_cap: for as
    long as it fails, and for 5 minutes while its tokens are refused."""
    service_name: str
    instance_id: str | None = None
    """Unique among the instances of a service; None: made at start().

    An id set here is a lock: at most one instance with it is connected, also after recoveries,
    because its response queue keeps its name. In a cluster with RabbitMQ 4.2 or later that queue
    stays locked while the node that it was used on is down; see instance_retry."""
    client_only: bool = False
    """A client has a response queue and nothing else; its bindings are not used."""
    rpc_exchange: str = DEFAULT_RPC_EXCHANGE
    events_exchange: str = DEFAULT_EVENTS_EXCHANGE
    dl_exchange: str = DEFAULT_DL_EXCHANGE
    dl_queue: str | None = None
    """None: nuropb-{service}-dlq."""
    service_queue: str | None = None
    """None: nuropb-{service}-sq."""
    response_queue: str | None = None
    """None: nuropb-{service}-{instance}-rq. When a recovery cannot have that name, and instance_id
    is None, a counter replaces the last 8 digits of the instance. A name set here never changes,
    and locks out a second instance, as an instance_id does."""
    rpc_bindings: Sequence[str] = ()
    """Routing keys on the RPC exchange, besides the service's name."""
    event_bindings: Sequence[str] = ()
    """Topics on the events exchange, with * and # as in AMQP."""
    queue_type: str = CLASSIC
    """Type of the service queue and the dead-letter queue: classic, as in nuropb, or quorum, which
    survives the loss of a cluster node. All instances of a service must agree; old peers know only
    classic. An existing quorum service queue is used even with classic, with a warning."""
    delivery_limit: int | None = None
    """How often a quorum queue may redeliver a message before it goes to the dead letters; None:
    the broker's own limit (20 since 4.0, none before). A lost connection, a killed process and a
    channel that the broker closes count once for each message in hand. Before RabbitMQ 4.3, so
    does every message that stop() gives back: leave room for restarts."""
    single_active_consumer: bool = False
    """One instance gets everything, and when it goes another takes over. With prefetch_count=1
    messages are handled in order. All instances must agree; an old peer cannot."""
    max_priority: int | None = None
    """Highest message priority that the service queue knows, at most 255; a few levels are enough.
    A message of higher priority overtakes those that wait in the queue, not those that an instance
    has taken (prefetch_count). None: priorities have no effect. For classic queues only; all
    instances must agree; old peers know no priorities."""
    prefetch_count: int = 32
    """Messages handled at a time; 0 is unlimited: all that waits is then taken into memory."""
    heartbeat: int = 10
    """Seconds; 0 turns heartbeats off, and then a silent peer is not noticed."""
    connect_timeout: float = 10.0
    """Limits each attempt to connect: all hosts, TLS, login and setting up the session. Limits
    start() as a whole, too: both connections of a service, and what Mesh configures first."""
    reconnect_cap: float = 5.0
    """The longest pause between two attempts to connect."""
    publish_timeout: float = 30.0
    """How long to wait for the broker to confirm a command, an event or an explicit send()."""
    request_timeout: float = 30.0
    """How long request() waits for an answer by default."""
    default_ttl: float = 43_200.0
    """Expiration of commands, and of requests sent by send() and post(), that set no ttl."""
    max_pending: int = 100_000
    """The most requests that may wait for their answers; PendingFullError beyond."""
    outbox_messages: int = 10_000
    """The most messages that may wait to be sent."""
    outbox_bytes: int = 64 * 2**20
    """The most bytes that may wait to be sent; as many, 256 KiB at least, may be unconfirmed."""
    missing_timeout: float = 60.0
    """How long a recovery waits for a virtual host or exchange that is missing to be made, or for
    the permission to enter the virtual host. start() does not wait for them."""
    exchange_check: float | None = 30.0
    """Seconds, a fifth more or less, between checks that the exchanges exist; 0 or None: never
    check. The checks end when the broker refuses one."""
    binding_renewal: float | None = 600.0
    """Seconds, a fifth more or less, between renewals of the service queue's bindings; 0 or None:
    renew them only at start and recovery, and when an exchange was missing."""
    unknown_outcome_after: float = 30.0
    """How long after a recovery a request waits for an answer that may be lost."""
    handler_timeout: float = 1500.0
    """How long one handler may run, counted from the arrival of its message; one that never waits
    cannot be ended. Keep it under the broker's consumer_timeout (30 min)."""
    instance_retry: float = 4.0
    """How long start() waits for a crashed predecessor's response queue to be freed. A recovery
    waits 3.5 heartbeats for it, or this time, when it is longer."""
    max_body_bytes: int = 16 * 2**20
    """Longer bodies are refused, not parsed."""
    max_json_depth: int = 100
    """Deeper nested bodies are refused, not parsed."""
    inherit_deadline: bool = True
    """Limit the timeout of a request made in a handler to the time that the handled request has
    left."""
    log_error_text: bool = True
    """Log the texts of errors that handlers raise. False: log only their classes and frames, as
    always for messages that came encrypted."""
    persistent: frozenset[MessageType] = frozenset({MessageType.COMMAND, MessageType.EVENT})
    """The kinds of message that the broker writes to disk."""
    reply_to_pattern: str = r"nuropb-.*-rq"
    """A regular expression that a whole reply_to must match to be answered."""
    broker: Broker = field(init=False)
    """Read from amqp_url."""

    def __post_init__(self) -> None:
        self._set("broker", Broker.parse(self.amqp_url))
        if self.token_provider is not None and not callable(self.token_provider):
            raise NuropbConfigurationError("token_provider", "must be a function")
        for name in _BOOLEANS:
            typed(name, getattr(self, name), bool, "True or False")
        self._check_queue_type()
        for name, (low, high) in _INTEGERS.items():
            self._check_integer(name, low, high)
        for name, shortest in _SECONDS.items():
            self._check_seconds(name, shortest)
        for name in ("exchange_check", "binding_renewal"):
            if getattr(self, name) is None:
                self._set(name, 0.0)
            self._check_seconds(name, 0.0)
        self._set("rpc_bindings", _routing_keys("rpc_bindings", self.rpc_bindings))
        self._set("event_bindings", _routing_keys("event_bindings", self.event_bindings))
        self._set("persistent", _message_types("persistent", self.persistent))
        self._check_pattern()
        self._check_names()

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> TransportConfig:
        """From a dict with the names of the fields, as read from a file, say.

        NuropbConfigurationError names an unknown key, with the nearest known one, and a missing
        one.
        """
        settings = typed("settings", settings, Mapping, "a mapping")  # type: ignore[type-abstract]
        known = [item.name for item in fields(cls) if item.init]
        for key in settings:
            if key not in known:
                near = nearest(str(key), known)
                hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
                raise NuropbConfigurationError(str(key), f"is not a setting; {hint}")
        for key in ("amqp_url", "service_name"):
            if key not in settings:
                raise NuropbConfigurationError(key, "is missing: it has no default")
        return cls(**settings)

    @property
    def service_queue_name(self) -> str:
        """The queue of requests, commands and events, shared by all instances."""
        return self.service_queue or f"nuropb-{self.service_name}-sq"

    @property
    def dl_queue_name(self) -> str:
        """The dead-letter queue. Not nuropb's name: an old peer declares that one transient."""
        return self.dl_queue or f"nuropb-{self.service_name}-dlq"

    def response_queue_name(self, instance_id: str, generation: int = 0) -> str:
        """The queue of answers to this instance; after a recovery it may be a later generation's.

        Later generations have names of the same form, so that permissions for the first admit them.
        A derived name has "_" for what pamqp refuses, such as the % of nuropb's client name
        "%2F-client": peers learn the name from reply_to, so it is ours to choose.
        """
        if generation:
            instance_id = f"{instance_id[:-8]}{generation:08x}"
        derived = f"nuropb-{self.service_name}-{instance_id}-rq"
        return self.response_queue or _NOT_IN_NAME.sub("_", derived)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # frozen for everyone else

    def _check_integer(self, name: str, low: int, high: int) -> None:
        wanted = f"an integer from {low} to {high}"
        value = typed(name, getattr(self, name), int, wanted)
        if not low <= value <= high:
            raise NuropbConfigurationError(name, f"must be {wanted}, not {value}")

    def _check_seconds(self, name: str, shortest: float) -> None:
        wanted = f"seconds, a number from {shortest:g} to {MAX_SECONDS}"
        given = getattr(self, name)
        if type(given) is int:  # of any length; a float has an end
            given = float(max(-1, min(given, 2**64)))
        value = typed(name, given, float, wanted)
        if not math.isfinite(value) or not shortest <= value <= MAX_SECONDS:
            raise NuropbConfigurationError(name, f"must be {wanted}, not {given}")
        self._set(name, value)

    def _check_queue_type(self) -> None:
        kind = typed("queue_type", self.queue_type, str, "one of classic, quorum")
        if kind not in _QUEUE_TYPES:
            raise NuropbConfigurationError("queue_type", f"must be classic or quorum, not {kind!r}")
        if self.max_priority is not None:
            self._check_integer("max_priority", 1, 255)
            if kind == QUORUM:
                problem = 'is for classic queues only: leave it out, or set queue_type="classic"'
                raise NuropbConfigurationError("max_priority", problem)
        if self.delivery_limit is None:
            return
        self._check_integer("delivery_limit", 0, 2**31)
        if kind != QUORUM:
            raise NuropbConfigurationError(
                "delivery_limit",
                'is for quorum queues only: set queue_type="quorum", or leave it out',
            )

    def _check_pattern(self) -> None:
        pattern = typed("reply_to_pattern", self.reply_to_pattern, str, "a regular expression")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            problem = f"is not a regular expression: {error}"
            raise NuropbConfigurationError("reply_to_pattern", problem) from error

    def _check_names(self) -> None:
        _shortstr("service_name", self.service_name)
        if self.instance_id is not None:
            _shortstr("instance_id", self.instance_id)
        exchanges = ("rpc_exchange", "events_exchange", "dl_exchange")
        for name in exchanges:
            _name(name, getattr(self, name), longest=_EXCHANGE_NAME)
        if len({getattr(self, name) for name in exchanges}) < len(exchanges):
            raise NuropbConfigurationError("rpc_exchange", "the three exchanges must differ")
        for name in ("service_queue", "response_queue", "dl_queue"):
            if getattr(self, name) is not None:
                _name(name, getattr(self, name))
        response_queue = self.response_queue_name(self.instance_id or _UUID)
        _name("service_name" if self.response_queue is None else "response_queue", response_queue)
        if self.client_only:
            return
        _name(
            "service_name" if self.service_queue is None else "service_queue",
            self.service_queue_name,
        )
        _name("service_name" if self.dl_queue is None else "dl_queue", self.dl_queue_name)
        if len({response_queue, self.service_queue_name, self.dl_queue_name}) < 3:
            raise NuropbConfigurationError(
                "service_queue", "service, response and dead-letter queue must have three names"
            )


def _shortstr(name: str, value: object) -> str:
    text = typed(name, value, str, "a string")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise NuropbConfigurationError(name, "is not text that UTF-8 can carry") from error
    if not 0 < size <= _SHORTSTR:
        raise NuropbConfigurationError(name, f"must be 1 to {_SHORTSTR} bytes of UTF-8, not {size}")
    return text


def _name(name: str, value: object, longest: int = _SHORTSTR) -> None:
    text = _shortstr(name, value)
    if _NAME.fullmatch(text) is None:
        raise NuropbConfigurationError(name, f"makes the name {text!r}; names have {_NAME_TEXT}")
    if len(text) > longest:
        raise NuropbConfigurationError(name, f"must be at most {longest} characters long")


def _listed(name: str, value: object, wanted: str) -> Iterable[object]:
    if isinstance(value, str | bytes):
        raise NuropbConfigurationError(name, f"is one string; wrap it in a list: [{value!r}]")
    if isinstance(value, Set):  # an order that is the same in every process
        return sorted(value, key=str)
    return typed(name, value, Sequence, wanted)  # type: ignore[type-abstract]


def _routing_keys(name: str, value: object) -> tuple[str, ...]:
    keys = _listed(name, value, "a list of routing keys")
    return tuple(dict.fromkeys(_shortstr(f"{name}[{i}]", key) for i, key in enumerate(keys)))


def _message_types(name: str, value: object) -> frozenset[MessageType]:
    wanted = ", ".join(MessageType)
    kinds = set()
    for kind in _listed(name, value, f"a set of {wanted}"):
        try:
            kinds.add(MessageType(typed(name, kind, str, f"one of {wanted}")))
        except ValueError as error:
            raise NuropbConfigurationError(name, f"{kind!r} is none of {wanted}") from error
    return frozenset(kinds)
