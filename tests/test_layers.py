"""Imports point down only: the table below is the architecture, and this file enforces it.

Every import statement counts, wherever it stands: in a function, and under `if TYPE_CHECKING:` too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = "nuropb_rmq"
ROOT = Path(__file__).parents[1] / PACKAGE

# From low to high. A module may import those of earlier entries, and no others.
LAYERS: tuple[str, ...] = (
    # pure: values and decisions
    "printable",
    "exceptions",
    "origins",
    "handled",  # what calls made in a handler inherit
    "forked",  # what ends in a child process
    "managed",  # async with
    "protocol",
    "broker",  # the half of config that says where the broker is
    "tokens",  # the part of it that says who we are
    "config",
    "values",  # what JSON lacks
    "serialization",
    "acknowledgement",
    "topology",
    "bounded",
    "encryption",
    "remote",  # errors that a service answers with
    "topics",  # of events, as methods are bound to them
    "decorated",  # nuropb's own decorators and exceptions
    "marks",  # what the decorators leave on a method
    "signatures",
    "contexts",  # the decorators, and the context of a call
    "hints",
    "libraries",  # pydantic and msgspec
    "nearest",  # names that are like one
    "checks",
    "converters",
    "parameters",
    "methods",  # what a service object publishes
    "foreign",  # encryptors that are not ours
    "wire",  # the sub-package's own __init__ holds a docstring and nothing else
    "wire.frames",  # below envelope: a payload is packed into its Content and Properties
    "head",
    "again",  # what is put back into a queue
    "routes",  # what a message may do by the way it came
    "envelope",
    # wire: what comes off the socket, by channel
    "wire.deliveries",
    "wire.port",
    "wire.greeting",
    "wire.liveness",
    "wire.outflow",
    "wire.router",
    # I/O
    "state",  # low, but not pure: a change of state is awaited
    "refusals",  # what a connection and a session are told
    "quiet",  # what others log of our connections
    "shielded",  # waits for what outlives its waiter
    "asker",  # of token providers
    "credentials",  # what a connection logs in with
    "patience",  # of a connection, with what it is told
    "addresses",
    "dialing",  # the socket of a connection
    "connection",
    "management",  # beside connection, and independent of it: HTTP, not AMQP
    "setup",  # what an operator would make, over both
    "outgoing",
    "outbox",
    "refused",  # which message a channel was closed over
    "publisher_channel",
    "publisher",
    "gate",  # before the publisher: for requests
    "consumer",
    "bindings",
    "watch",  # of what a session needs on the broker
    "session",  # above both: it gives each epoch's channels to them
    "link",
    # flow
    "changes",
    "stalls",
    "deadlines",
    "runner",
    "sealing",  # not pure: a private key's work leaves the event loop
    "outbound",
    "repeats",
    "failures",  # what the log says of handlers that fail
    "message",  # pure as well, but it belongs to handlers
    "delivery",
    "handler_deadlines",
    "redelivery",
    "suspects",
    "answers",
    "replies",
    "ignorable",
    "posting",
    "dispatcher",
    "hooks",
    "transport",
    "settling",
    "calls",
    "callbacks",
    "steps",
    "adapter_config",
    "adapter",
    # use
    "threads",
    "serving",
    "discovery",
    "calling",
    "mesh_config",
    "mesh",
    "receiving",  # of messages that a subclass looks at first
    "interface",  # for those who come from nuropb
    "rmq_api",
    "compat",
    "asgi",
    "telemetry",
    "cli",
    "",  # nuropb_rmq itself gathers the public names, so nothing in it may import it
)

# Stands beside the layers: users' tests load it without the rest, and the rest never needs it.
BESIDE = "testing"
BESIDE_MAY_IMPORT = frozenset({"exceptions", "shielded"})

PURE = frozenset(LAYERS[: LAYERS.index("envelope") + 1])

# Foreign libraries that are admitted in the named modules only.
IO_LIBRARIES = frozenset({"asyncio", "socket", "ssl", "aio_pika", "aiormq", "httpx"})
IMPURE = {
    "ssl": frozenset({"broker", "config"}),  # the TLS context is a setting; it opens nothing
}
# The control plane. `setup` is in it because declaring what is missing is all that it does.
CONTROL_PLANE = frozenset(
    {"refusals", "dialing", "connection", "bindings", "session", "setup", "watch"}
)
ONLY_IN = {
    "aio_pika": CONTROL_PLANE,
    "aiormq": CONTROL_PLANE,
    "httpx": frozenset({"management", BESIDE}),
    "starlette": frozenset({"asgi"}),  # an extra brings it
}


def top(module: str) -> str:
    return module.partition(".")[0]


def imported(module: str, source: str, modules: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of all that `module` imports; `modules` are the package's own.

    `from x import y` names x.y where that is a module, else x.
    """
    for node in ast.walk(ast.parse(source, filename=module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node, modules)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if _short(full) in modules else base


def _base(module: str, node: ast.ImportFrom, modules: frozenset[str]) -> str:
    """The absolute name of what stands between `from` and `import`."""
    if node.level == 0:
        return node.module or ""
    here = [PACKAGE, *module.split(".")] if module else [PACKAGE]
    is_package = module == "" or any(other.startswith(f"{module}.") for other in modules)
    above = node.level - 1 if is_package else node.level
    return ".".join(here[: len(here) - above] + ([node.module] if node.module else []))


def _short(name: str) -> str | None:
    """`nuropb_rmq.wire.frames` → `wire.frames`; None for what is not ours."""
    if name == PACKAGE:
        return ""
    return name.removeprefix(f"{PACKAGE}.") if name.startswith(f"{PACKAGE}.") else None


def violations(sources: Mapping[str, str]) -> list[str]:
    """What breaks the table in these sources, keyed by module name without the package's."""
    modules = frozenset(sources)
    found = []
    for module, source in sources.items():
        if module not in LAYERS and top(module) != BESIDE:
            found.append(f"{module}: not in the table of tests/test_layers.py")
            continue
        for line, name in sorted(set(imported(module, source, modules))):
            target = _short(name)
            reason = _foreign(module, top(name)) if target is None else _own(module, target)
            if reason is not None:
                found.append(f"{module}:{line}: {reason}")
    return found


def _own(module: str, target: str) -> str | None:
    """Why `module` may not import `target`, both of this package; None where it may."""
    if top(module) == BESIDE:
        allowed = top(target) == BESIDE or target in BESIDE_MAY_IMPORT
        return None if allowed else f"{BESIDE} imports {target or PACKAGE}"
    if top(target) == BESIDE:
        return f"imports {target}, which stands beside the layers"
    if target not in LAYERS:
        return f"imports {target}, which is not in the table"
    if LAYERS.index(target) >= LAYERS.index(module):
        return f"imports {target or PACKAGE}, which is not below it"
    return None


def _foreign(module: str, library: str) -> str | None:
    """Why `module` may not import the foreign `library`; None where it may."""
    home = ONLY_IN.get(library)
    if home is not None and top(module) not in home:
        return f"imports {library}, which belongs to {', '.join(sorted(home))}"
    if library in IO_LIBRARIES and module in PURE and module not in IMPURE.get(library, ()):
        return f"imports {library}, but is pure"
    return None


def package_sources() -> dict[str, str]:
    sources = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


def test_the_package_keeps_to_the_table() -> None:
    sources = package_sources()
    assert "exceptions" in sources
    assert "\n".join(violations(sources)) == ""


ALL = dict.fromkeys((*LAYERS, "testing", "testing.node"), "")

OFFENDERS = {
    "up": ("exceptions", "import nuropb_rmq.mesh"),
    "up, from the root": ("exceptions", "from nuropb_rmq import mesh"),
    "up, relative": ("config", "from .transport import Transport"),
    "up, relative to the package": ("config", "from . import transport"),
    "up, out of a sub-package": ("wire.frames", "from ..connection import connect"),
    "up, within a sub-package": ("wire.frames", "from .router import FrameRouter"),
    "sideways": ("publisher", "from nuropb_rmq.consumer import Consumer"),
    "itself": ("session", "import nuropb_rmq.session"),
    "in a function": ("config", "def f():\n    from nuropb_rmq.mesh import Mesh"),
    "for types only": (
        "config",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nuropb_rmq.mesh import Mesh",
    ),
    "the root": ("transport", "from nuropb_rmq import Mesh"),
    "the root by name": ("cli", "import nuropb_rmq"),
    "not in the table": ("helpers", ""),
    "below something not in the table": ("cli", "from nuropb_rmq.helpers import f"),
    "testing, from below": ("transport", "from nuropb_rmq.testing.node import RabbitMQNode"),
    "testing, from above": ("", "from nuropb_rmq import testing"),
    "testing needs the rest": ("testing.node", "from nuropb_rmq.connection import connect"),
    "testing needs the root": ("testing", "import nuropb_rmq"),
    "asyncio in pure": ("envelope", "import asyncio"),
    "asyncio in pure, from": ("acknowledgement", "from asyncio import Future"),
    "asyncio in pure, a submodule": ("wire.frames", "import asyncio.streams"),
    "socket in pure": ("config", "import socket"),
    "ssl in pure": ("topology", "import ssl"),
    "aio_pika in the data plane": ("publisher", "from aio_pika import Message"),
    "aiormq in use": ("mesh", "import aiormq.exceptions"),
    "httpx in use": ("adapter", "import httpx"),
    "starlette below its home": ("mesh", "from starlette.requests import Request"),
}

INNOCENTS = {
    "down": ("transport", "from nuropb_rmq.session import Session"),
    "down, relative": ("transport", "from . import exceptions\nfrom .wire import frames"),
    "down, in a sub-package": ("wire.router", "from . import frames\nfrom ..config import Config"),
    "the root gathers": ("", "from .mesh import Mesh\nfrom nuropb_rmq.exceptions import *"),
    "testing within itself": ("testing", "from .node import RabbitMQNode\nimport httpx"),
    "testing raises": ("testing.node", "from ..exceptions import NuropbException\nimport asyncio"),
    "config builds a TLS context": ("config", "import ssl"),
    "pure may compute": ("envelope", "import json, struct\nimport orjson"),
    "the control plane": ("session", "import aio_pika\nfrom aiormq.abc import AbstractChannel"),
    "management over HTTP": ("management", "import asyncio, ssl\nimport httpx"),
}


@pytest.mark.parametrize(("module", "source"), OFFENDERS.values(), ids=OFFENDERS)
def test_an_offender_is_found(module: str, source: str) -> None:
    found = violations({**ALL, module: source})
    assert len(found) == 1
    assert found[0].startswith(f"{module}:")


@pytest.mark.parametrize(("module", "source"), INNOCENTS.values(), ids=INNOCENTS)
def test_an_innocent_is_not(module: str, source: str) -> None:
    assert violations({**ALL, module: source}) == []
