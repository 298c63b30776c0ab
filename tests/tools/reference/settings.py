"""docs/reference/settings.md: defaults and units by the classes, ranges by their own errors."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from nuropb_rmq import (
    AccessToken,
    Encryptor,
    Mesh,
    MessageType,
    NuropbConfigurationError,
    Outage,
    Retry,
    RMQTransport,
    TransportConfig,
)

from .tables import argument_docs, attribute_docs, code, prose, table

URL: Final = "amqp://h"
_REQUIRED: Final[dict[str, Any]] = {"amqp_url": URL, "service_name": "orders"}
_UNITS: Final = {"heartbeat": "seconds"}  # whose own error does not tell
MIB: Final = 2**20
MINUTE: Final = 60
LONG: Final = 10 * MINUTE
HOUR: Final = 60 * MINUTE
_ENDS: Final = re.compile(r",? (?:not|got) .*$")


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield from (*_INTRODUCTION.splitlines(), "")
    yield from _transport_config()
    yield from _mesh()
    for kind, text in ((Retry, _RETRY), (Outage, _OUTAGE)):
        yield from _part(kind, text)
    yield from _encryptor()
    yield from (
        "## AccessToken",
        "",
        prose((inspect.getdoc(AccessToken) or "").split("\n\n")[0]),
        "",
    )
    texts = argument_docs(AccessToken)
    rows = [(code(name), texts[name]) for name in ("token", "expires_in")]
    yield from table(("field", ""), rows)
    yield from _configuration()


# -- the sections ---------------------------------------------------------------------------


def _transport_config() -> Iterator[str]:
    yield from (*_TRANSPORT.splitlines(), "")
    config = TransportConfig(**_REQUIRED)
    other = RMQTransport("orders", None, URL, lambda *_: None).core.config
    texts = attribute_docs(TransportConfig)
    fields = [each for each in dataclasses.fields(TransportConfig) if each.init]
    rows = []
    for each in fields:
        name = each.name
        unit = "bytes" if name.endswith("_bytes") else _UNITS.get(name, "")
        made = partial(_config, name)
        takes = _takes(made, unit)
        default = theirs = ""
        if name not in _REQUIRED:
            default = shown(getattr(config, name))
            theirs = shown(getattr(other, name))
        differs = code(theirs) if theirs != default else ""
        rows.append((code(name), f"{code(default)}{_aside(default, takes)}", takes, differs))
    yield from table(("setting", "default", "takes", "RMQTransport"), rows)
    yield from ("### What each does", "")
    for each in fields:
        yield f"- `{each.name}`: {texts[each.name]}"
    yield ""


def _config(name: str, value: object) -> TransportConfig:
    return TransportConfig(**{**_REQUIRED, name: value})


def _made(kind: Callable[..., object], name: str, value: object) -> object:
    return kind(**{name: value})


def _mesh() -> Iterator[str]:
    yield from (*_MESH.splitlines(), "")
    texts = argument_docs(Mesh)
    settings = {each.name for each in dataclasses.fields(TransportConfig)}
    rows = []
    for name, parameter in inspect.signature(Mesh).parameters.items():
        if name == "amqp_url":
            continue
        default = shown(parameter.default)
        if name in settings and parameter.default is None:
            default = ""
        text = texts.get(name, f"as `TransportConfig.{name}`")
        rows.append((code(name), code(default), text))
    yield from table(("argument", "default", ""), rows)


def _part(kind: type, introduction: str) -> Iterator[str]:
    yield from (f"## {kind.__name__}", "", introduction, "")
    made = kind()
    texts = argument_docs(kind) | attribute_docs(kind)
    rows = [
        (
            code(each.name),
            code(shown(getattr(made, each.name))),
            _takes(partial(_made, kind, each.name)),
            texts.get(each.name, ""),
        )
        for each in dataclasses.fields(kind)
    ]
    yield from table(("field", "default", "takes", ""), rows)


def _encryptor() -> Iterator[str]:
    yield from ("## Encryptor", "", prose((inspect.getdoc(Encryptor) or "").split("\n\n")[0]))
    yield from ("A mesh makes one by itself, of `key_uses` and `key_lifetime`.", "")
    texts = argument_docs(Encryptor)
    rows = []
    for name, parameter in inspect.signature(Encryptor).parameters.items():
        takes = ""
        if parameter.kind is parameter.KEYWORD_ONLY:
            takes = _takes(partial(_made, Encryptor, name))
        rows.append((code(name), code(shown(parameter.default)), takes, texts[name]))
    yield from table(("argument", "default", "takes", ""), rows)


def _configuration() -> Iterator[str]:
    yield from (*_CONFIGURATION.splitlines(), "")
    adapter = RMQTransport("orders", "1", URL, lambda *_: None)
    configuration: Any = adapter.rmq_configuration
    rows = [(code(name), code(shown(value))) for name, value in configuration.items()]
    yield from table(("key", "value"), rows)


# -- values ---------------------------------------------------------------------------------


def shown(value: object) -> str:
    """Return a value as a reader would write it."""
    if isinstance(value, MessageType):
        return f'"{value.value}"'
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(map(shown, value))) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, tuple):
        text = ", ".join(each.__name__ if isinstance(each, type) else shown(each) for each in value)
        return f"({text},)" if len(value) == 1 else f"({text})"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:_}"
    return repr(value)


def _takes(make: Callable[[object], object], unit: str = "") -> str:
    """Return the values that something takes, as its own error names them."""
    try:
        make(object())
    except NuropbConfigurationError as error:
        said = str(error).removeprefix(f"{error.field}: ")
    else:
        return "True or False"
    said = re.sub(r"^(must be|expected) ", "", _ENDS.sub("", said))
    if unit and not said.startswith(unit):
        said = f"{unit}, {said}"
    return re.sub(r"\d{5,}", lambda digits: f"{int(digits[0]):,}", said)


def _aside(default: str, takes: str) -> str:
    """Return a large default in the unit that people say it in."""
    number = float(default.replace("_", "")) if default[:1].isdigit() else 0.0
    if takes.startswith("bytes") and number >= MIB:
        return f" ({number / MIB:g} MiB)"
    if takes.startswith("seconds") and number >= LONG:
        return f" ({number / HOUR:g} h)" if number >= HOUR else f" ({number / MINUTE:g} min)"
    return ""


# -- texts ----------------------------------------------------------------------------------

_INTRODUCTION: Final = """\
# Settings

Every setting, its default and what it takes. **Times are in seconds and sizes in bytes**, unless a row says otherwise.
A wrong value raises `NuropbConfigurationError`, which names the setting and the values that it takes. Pass settings as
`TransportConfig(…)`, as `TransportConfig.from_mapping(…)` of a dict, or, the most usual ones, as arguments of a `Mesh`.
"""
_TRANSPORT: Final = """\
## TransportConfig

A `Mesh` has the same defaults, whether it is given a URL or a `TransportConfig`. The last column has those of `RMQTransport`,
where they differ; it takes its own times in milliseconds. `None` for a name means that one is made; for a limit, that
the broker's own holds.
"""
_MESH: Final = """\
## Mesh

The first argument is the broker's address, or a `TransportConfig`. Arguments that are settings, too, have the defaults above,
or those of the `TransportConfig`.
"""
_RETRY: Final = (
    "Which errors of a handler let its message come back, when, and how often: `Mesh(retry=Retry())`, or for one method "
    "`@publish_to_mesh(retry=Retry())`, and so for one event handler, above its `@mesh_event(…)`."
)
_OUTAGE: Final = "When handlers fail one after the other, handle one message at a time until one succeeds: `Mesh(outage=Outage())`."
_CONFIGURATION: Final = """\
## RabbitMQConfiguration

The value of `RMQTransport.rmq_configuration`, here of `RMQTransport("orders", "1", …)`. `default_ttl` is in milliseconds.
"""
