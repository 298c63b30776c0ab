"""Check the arguments of Queue.Declare, and compare them with those of an existing queue.

Texts and rules are RabbitMQ 4.3's (rabbit_amqqueue:declare_args and assert_args_equivalence).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pamqp import encode

from .errors import PRECONDITION_FAILED, ChannelError

TYPE: Final = "x-queue-type"
CLASSIC: Final = "classic"
QUORUM: Final = "quorum"
OVERFLOWS: Final = ("drop-head", "reject-publish", "reject-publish-dlx")
MAX_PRIORITY: Final = 255

_NUMBERS: Final = (
    "x-message-ttl", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-delivery-limit",
)  # fmt: skip
# Of queues of either type; others are neither checked nor compared.
_COMPARED: Final = (
    TYPE, *_NUMBERS, "x-overflow", "x-dead-letter-exchange", "x-dead-letter-routing-key",
    "x-single-active-consumer",
)  # fmt: skip
_FOREIGN: Final = {CLASSIC: "x-delivery-limit", QUORUM: "x-max-priority"}
_KINDS: Final = {
    b"t": "bool", b"b": "byte", b"B": "unsignedbyte", b"s": "short", b"u": "unsignedshort",
    b"I": "signedint", b"i": "unsignedint", b"l": "long", b"S": "longstr", b"f": "float",
    b"d": "double", b"D": "decimal", b"T": "timestamp", b"A": "array", b"F": "table", b"V": "void",
    b"x": "binary",
}  # fmt: skip


def check(where: str, arguments: Mapping[str, Any], properties: Mapping[str, bool]) -> None:
    """Raise ChannelError for arguments that a new queue cannot have.

    `where` is "queue 'NAME' in vhost 'NAME'"; `properties` are those that a quorum queue lacks.
    """
    for name, value in arguments.items():
        problem = _problem(name, value, arguments)
        if problem is not None:
            raise _failed(f"invalid arg '{name}' for {where}: {problem}")
    kind = arguments.get(TYPE, CLASSIC)
    if (foreign := _FOREIGN[kind]) in arguments:
        raise _failed(f"invalid arg '{foreign}' for {where} of queue type rabbit_{kind}_queue")
    for name, value in properties.items():
        if value and kind == QUORUM:
            raise _failed(f"invalid property '{name}' for {where}")


def _problem(name: str, value: Any, arguments: Mapping[str, Any]) -> str | None:
    if name in _NUMBERS:
        return _number_problem(name, value)
    if name == TYPE and value not in _FOREIGN:
        return f"\"unsupported queue type '{value}'\""
    if name == "x-overflow" and value not in OVERFLOWS:
        return "invalid_overflow"
    if name == "x-dead-letter-routing-key" and "x-dead-letter-exchange" not in arguments:
        return "routing_key_but_no_dlx_defined"
    if name == "x-single-active-consumer" and not isinstance(value, bool):
        return f"{{unacceptable_type,{_kind(value)}}}"
    return None


def _number_problem(name: str, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f'"expected integer, got {_kind(value)}"'
    if value < 0 and name != "x-delivery-limit":
        return f"{{value_negative,{value}}}"
    if name == "x-max-priority" and value > MAX_PRIORITY:
        return f"{{max_value_exceeded,{value}}}"
    return None


def compare(
    where: str,
    properties: tuple[tuple[str, object, object], ...],
    wanted: Mapping[str, Any],
    current: Mapping[str, Any],
) -> None:
    """Raise ChannelError unless a declaration is like what is there.

    Each of the `properties` is a name, the wanted value and the current one.
    """
    for name, received, there in properties:
        if received != there:
            raise _failed(_inequivalent(name, where, _plain(received), _plain(there)))
    for name in _COMPARED:
        default = CLASSIC if name == TYPE else None
        received, there = wanted.get(name, default), current.get(name, default)
        if received == there:
            continue
        # RabbitMQ names the type only where one of the two is missing.
        say = _typed if None in (received, there) else _plain
        raise _failed(_inequivalent(name, where, say(received), say(there)))


def _inequivalent(name: str, where: str, received: str, there: str) -> str:
    return f"inequivalent arg '{name}' for {where}: received {received} but current is {there}"


def _failed(problem: str) -> ChannelError:
    return ChannelError(PRECONDITION_FAILED, problem)


def _plain(value: object) -> str:
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"


def _typed(value: object) -> str:
    return "none" if value is None else f"the value {_plain(value)} of type '{_kind(value)}'"


def _kind(value: Any) -> str:
    return _KINDS[encode.encode_table_value(value)[:1]]
