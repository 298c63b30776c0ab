"""All settings of a transport, frozen and checked when they are made.

A wrong setting raises NuropbConfigurationError, which names the field and the values it may have.
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
from .address import AmqpUrl, Broker, typed
from .outage import Outage, check_waits
from .times import delays
from .tokens import TokenProvider

# pamqp refuses other characters in the names of exchanges and queues, before sending anything.
_NAME: Final = re.compile(r"[a-zA-Z0-9\-_.:@#,/+ ]+")
_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9\-_.:@#,/+ ]")
_NAME_TEXT: Final = "letters, digits, space and - _ . : @ # , / + only (the AMQP library's limit)"
_SHORTSTR: Final = 255  # bytes; AMQP 0-9-1, section 4.2.5.3
_EXCHANGE_NAME: Final = 127  # AMQP 0-9-1's domain exchange-name, enforced by pamqp
_UUID: Final = "0" * 36  # as long as the longest instance id that start() makes

CLASSIC: Final = "classic"
QUORUM: Final = "quorum"
_QUEUE_TYPES: Final = (CLASSIC, QUORUM)
_BOOLEANS: Final = (
    "client_only",
    "dead_letter_requests",
    "single_active_consumer",
    "inherit_deadline",
    "log_error_text",
)
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
    "start_timeout": 0.0,
    "reconnect_cap": 0.001,
    "publish_timeout": 0.001,
    "request_timeout": 0.001,
    "default_ttl": 0.001,
    "missing_timeout": 0.0,
    "unknown_outcome_after": 0.0,
    "handler_timeout": 0.001,
    "watchdog": 0.0,
    "instance_retry": 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportConfig:
    """The settings of one transport. Times are in seconds, sizes in bytes.

    Raises NuropbConfigurationError for any field of a wrong type or range. repr() is masked;
    `dataclasses.replace` makes a changed copy, and checks it again.
    """

    amqp_url: AmqpUrl = field(repr=False, compare=False)
    """Address of the broker, in the form that was passed; `broker` holds the parsed one."""
    token_provider: TokenProvider | None = field(default=None, repr=False, compare=False)
    """A function that returns an AccessToken to use in place of the password of amqp_url.

    It is called at every login, and at 80 % of a token's life, to renew the token on the open
    connection. It must answer within half of connect_timeout. When it fails, or the broker refuses
    its token, start() fails. Later it is called again, with pauses up to reconnect_cap: for as
    long as it fails, and for 5 minutes while its tokens are refused."""
    service_name: str
    """Name of the service: its routing key on the RPC exchange, and a part of its queues' names."""
    instance_id: str | None = None
    """Name of this instance, unique in its service; None: start() makes one.

    An id set here is a lock: at most one instance with it is connected, also after recoveries,
    because its response queue keeps its name. In a cluster with RabbitMQ 4.2 or later that queue
    stays locked while the node that it was used on is down; see instance_retry."""
    client_only: bool = False
    """True for a client, which has only a response queue; its bindings are not used."""
    rpc_exchange: str = DEFAULT_RPC_EXCHANGE
    """Name of the direct exchange for requests and commands."""
    events_exchange: str = DEFAULT_EVENTS_EXCHANGE
    """Name of the topic exchange for events."""
    dl_exchange: str = DEFAULT_DL_EXCHANGE
    """Name of the fanout exchange for dead letters."""
    dl_queue: str | None = None
    """Name of the dead-letter queue, which then gets the dead letters of all services; None:
    nuropb-{service}-dlq, which gets those of this service alone."""
    dead_letter_requests: bool = False
    """Keep requests in nuropb-{service}-dlq, too, that expired in the service queue, or whose error
    was answered: their callers know. Commands and events are always kept, and so are requests
    that could not be read or answered, or that ended by handler_timeout. All instances should
    agree."""
    retry_delays: Sequence[float] = ()
    """Seconds after which messages can come back (RetryLater): whole milliseconds, 12 delays at
    most. Each has a queue, nuropb-{service}-retry-{milliseconds}; run configure() for new ones. A
    Mesh adds those of its Retrys."""
    service_queue: str | None = None
    """Name of the service queue; None: nuropb-{service}-sq."""
    response_queue: str | None = None
    """Name of the response queue; None: nuropb-{service}-{instance}-rq. If a recovery cannot have
    that name, and instance_id is None, a counter replaces the last 8 digits of the instance. A name
    set here never changes, and locks out a second instance, as an instance_id does."""
    rpc_bindings: Sequence[str] = ()
    """Routing keys on the RPC exchange, in addition to the service's name."""
    event_bindings: Sequence[str] = ()
    """Topics on the events exchange, with * and # as in AMQP."""
    queue_type: str = CLASSIC
    """Type of the service queue and the dead-letter queue: classic, as in nuropb, or quorum, which
    survives the loss of a cluster node. All instances of a service must agree; old peers know only
    classic. An existing quorum service queue is used even with classic, with a warning."""
    delivery_limit: int | None = None
    """Limit of redeliveries by a quorum queue; then a message goes to the dead letters. None: the
    broker's own limit (20 since 4.0, none before). A lost connection, a killed process and a
    channel that the broker closes count once for each unsettled message. Before RabbitMQ 4.3, so
    does every message that stop() gives back: leave room for restarts."""
    single_active_consumer: bool = False
    """True: one instance gets all messages; when it goes, another takes over. prefetch_count=1
    handles them in order. All instances must agree; old peers do not know it."""
    max_priority: int | None = None
    """Highest message priority that the service queue knows, at most 255; a few levels are enough.
    A message of higher priority overtakes those that wait in the queue, not those that an instance
    has taken (prefetch_count). None: priorities have no effect. For classic queues only; all
    instances must agree; old peers know no priorities."""
    prefetch_count: int = 32
    """Number of messages handled at a time; 0: no limit, all that wait come into memory."""
    heartbeat: int = 10
    """Seconds; 0 turns heartbeats off, so that a silent connection is never noticed."""
    connect_timeout: float = 10.0
    """Limits each attempt to connect: all hosts, TLS, login and setting up the session. Limits
    start() as a whole, too: both connections of a service, and what Mesh configures first."""
    start_timeout: float = 0.0
    """Limit of start()'s wait for a broker that cannot be reached yet, before connect_timeout
    begins; it tries again with growing pauses. 0: start() fails at once."""
    reconnect_cap: float = 5.0
    """The longest pause between two attempts to connect."""
    publish_timeout: float = 30.0
    """Limit of the wait for the broker's confirm of a command, an event or an explicit send()."""
    request_timeout: float = 30.0
    """Default limit of the wait for an answer to request()."""
    default_ttl: float = 43_200.0
    """Expiration of commands, and of requests sent by send() and post(), that set no ttl."""
    max_pending: int = 100_000
    """Limit of requests that wait for their answers; a further one raises PendingFullError."""
    outbox_messages: int = 10_000
    """Limit of messages that wait to be sent; a further one raises OutboxFullError."""
    outbox_bytes: int = 64 * 2**20
    """Limit of bytes that wait to be sent; as many, at least 256 KiB, may be unconfirmed."""
    missing_timeout: float = 60.0
    """Limit of a recovery's wait for a missing virtual host or exchange, or for access to the
    virtual host. start() does not wait for them."""
    exchange_check: float | None = 30.0
    """Seconds, a fifth more or less, between checks that the exchanges exist; 0 or None: never
    check. The checks end when the broker refuses one."""
    binding_renewal: float | None = 600.0
    """Seconds, a fifth more or less, between renewals of the service queue's bindings; 0 or None:
    renew them only at start and recovery, and when an exchange was missing."""
    unknown_outcome_after: float = 30.0
    """Time after a recovery for which a request waits for an answer that may be lost."""
    handler_timeout: float = 1500.0
    """Limit of a handler's time, from the arrival of its message; one that never awaits cannot be
    ended. Keep it under the broker's consumer_timeout (30 min)."""
    watchdog: float = 0.0
    """Time after which the stack of a handler, or those of all threads while a call blocks the
    event loop, are logged at ERROR; 0: never."""
    outage: Outage | None = None
    """Handle one message at a time while handlers fail in a row; None: never. See Outage."""
    instance_retry: float = 4.0
    """Limit of start()'s wait for the response queue of a crashed predecessor. A recovery waits
    this long, or for 3.5 heartbeats if that is longer."""
    max_body_bytes: int = 16 * 2**20
    """Limit of a body's size; larger ones are refused without parsing."""
    max_json_depth: int = 100
    """Limit of levels in a body's JSON; deeper ones are refused without parsing."""
    inherit_deadline: bool = True
    """Limit a request made in a handler to the time that the handled request has left."""
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
        self._set("retry_delays", delays("retry_delays", self.retry_delays))
        self._set("persistent", _message_types("persistent", self.persistent))
        if self.outage is not None:
            check_waits(
                typed("outage", self.outage, Outage, "an Outage, or None"),
                prefetch_count=self.prefetch_count,
                handler_timeout=self.handler_timeout,
            )
        self._check_pattern()
        self._check_names()

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> TransportConfig:
        """Make settings from a dict with the names of the fields, for example read from a file.

        Raises NuropbConfigurationError for a missing key and, with the nearest known name, for an
        unknown one.
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
        """Name of the queue of requests, commands and events, which all instances share."""
        return self.service_queue or f"nuropb-{self.service_name}-sq"

    @property
    def dl_queue_name(self) -> str:
        """Name of the dead-letter queue; not nuropb's, which old peers declare as transient."""
        return self.dl_queue or f"nuropb-{self.service_name}-dlq"

    @property
    def dl_by_queue_exchange(self) -> str:
        """Name of the headers exchange behind dl_exchange, which separates services' letters."""
        return f"{self.dl_exchange}-by-queue"

    def response_queue_name(self, instance_id: str, generation: int = 0) -> str:
        """Return the name of this instance's response queue; `generation` counts new names.

        Names of later generations have the same form, so that permissions for the first cover
        them. A derived name has "_" for characters that pamqp refuses, such as the % of nuropb's
        client name "%2F-client". We may choose it, because peers read it from reply_to.
        """
        if generation:
            instance_id = f"{instance_id[:-8]}{generation:08x}"
        derived = f"nuropb-{self.service_name}-{instance_id}-rq"
        return self.response_queue or _NOT_IN_NAME.sub("_", derived)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the class is frozen

    def _check_integer(self, name: str, low: int, high: int) -> None:
        wanted = f"an integer from {low} to {high}"
        value = typed(name, getattr(self, name), int, wanted)
        if not low <= value <= high:
            raise NuropbConfigurationError(name, f"must be {wanted}, not {value}")

    def _check_seconds(self, name: str, shortest: float) -> None:
        wanted = f"seconds, a number from {shortest:g} to {MAX_SECONDS}"
        value = getattr(self, name)
        if type(value) is int:  # an int of any length, which may be too large for a float
            value = float(max(-1, min(value, 2**64)))
        value = typed(name, value, float, wanted)
        if not math.isfinite(value) or not shortest <= value <= MAX_SECONDS:
            raise NuropbConfigurationError(name, f"must be {wanted}, not {value}")
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
        if self.delivery_limit == -1:
            raise NuropbConfigurationError(
                "delivery_limit",
                '-1 is no argument for "no limit": RabbitMQ 3.10 drops a message at its first '
                "return then. Leave it out (3.10 has no limit of its own); from RabbitMQ 4.0 on, "
                "set the policy delivery-limit -1 for this queue",
            )
        self._check_integer("delivery_limit", 0, 2**31)
        if kind != QUORUM:
            problem = 'is for quorum queues only: set queue_type="quorum", or leave it out'
            raise NuropbConfigurationError("delivery_limit", problem)

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
        origin = "service_name" if self.service_queue is None else "service_queue"
        _name(origin, self.service_queue_name)
        _name("service_name" if self.dl_queue is None else "dl_queue", self.dl_queue_name)
        if self.dl_queue is None:
            by_queue = self.dl_by_queue_exchange
            _name("dl_exchange", by_queue, longest=_EXCHANGE_NAME)
            for name in ("rpc_exchange", "events_exchange"):
                if getattr(self, name) == by_queue:
                    problem = f"{by_queue!r} is the exchange behind dl_exchange: choose another"
                    raise NuropbConfigurationError(name, problem)
        if len({response_queue, self.service_queue_name, self.dl_queue_name}) < 3:
            raise NuropbConfigurationError(
                "service_queue", "service, response and dead-letter queue must have three names"
            )


def _shortstr(name: str, value: object) -> str:
    text = typed(name, value, str, "a string")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise NuropbConfigurationError(name, "cannot be encoded as UTF-8") from error
    if not 0 < size <= _SHORTSTR:
        raise NuropbConfigurationError(name, f"must be 1 to {_SHORTSTR} bytes of UTF-8, not {size}")
    return text


def _name(name: str, value: object, longest: int = _SHORTSTR) -> None:
    text = _shortstr(name, value)
    if _NAME.fullmatch(text) is None:
        raise NuropbConfigurationError(name, f"makes the name {text!r}; expected {_NAME_TEXT}")
    if len(text) > longest:
        raise NuropbConfigurationError(name, f"must be at most {longest} characters long")


def _listed(name: str, value: object, wanted: str) -> Iterable[object]:
    if isinstance(value, str | bytes):
        raise NuropbConfigurationError(name, f"is one string; wrap it in a list: [{value!r}]")
    if isinstance(value, Set):  # in the same order in every process
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
