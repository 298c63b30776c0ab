"""The folders are the architecture: imports point down only, and this file enforces it.

Every import statement counts, wherever it stands: in a function, and under `if TYPE_CHECKING:` too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "nuropb_rmq"
ROOT = Path(__file__).parents[2] / PACKAGE

# From low to high. A folder, or a module beside the folders, may import those of earlier rows.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("_version", "health_probe", "nearest", "printable", "waiting"),
    ("exceptions", "safe_logging"),
    ("amqp",),  # frames on a socket, publishing and consuming on a channel
    ("protocol",),  # NuroPb on the wire
    ("config",),  # settings, where the broker is, tokens
    ("service",),  # what a service object publishes, and how a call of it runs
    ("memory",),  # a broker inside the process
    ("broker",),  # connections, declaring, the management API
    ("transport",),  # the coroutine core
    ("dead_letters",),  # looking at a dead-letter queue, and sending back
    ("doctor",),  # looking at a deployment
    ("mesh",),
    ("compat",),  # NuroPb's own surface
    ("blocking",),
    ("telemetry",),  # traces and metrics, over what a transport tells
    ("asgi",),
    ("",),  # nuropb_rmq itself gathers the public names, so nothing below may import it
    ("cli",),  # the command, over the public names
    ("__main__",),
)

# Stands beside the floors: users' tests load it without the rest, and the rest never needs it.
BESIDE = "testing"
# The command runs a broker as tests do.
USES_BESIDE = frozenset({"cli.foreground"})
BESIDE_MAY_IMPORT = frozenset(
    {"exceptions", "waiting"}
    # Within functions only, once a test uses a broker in memory; test_public.py sees to that.
    | {"memory.host", "memory.message", "config.address", "mesh.mesh"}
    # To read what that broker has seen.
    | {"amqp.frames", "protocol.constants", "protocol.dead_letter", "service.topics"}
)

# Folders and modules that open nothing and wait for nothing.
PURE = frozenset(
    {
        "_version",
        "nearest",
        "printable",
        "exceptions",
        "safe_logging",
        "protocol",
        "config",
        "service",
    }
    | {"amqp.frames", "amqp.getting", "amqp.settlement", "amqp.deliveries"}
)
IO_LIBRARIES = frozenset({"asyncio", "socket", "ssl", "aio_pika", "aiormq", "httpx"})
# What is admitted all the same.
IMPURE = {
    "config.address": frozenset({"ssl"}),  # the TLS context is a setting; it opens nothing
    "config.settings": frozenset({"ssl"}),
    "service.thread_pool": frozenset({"asyncio"}),
    "service.turns": frozenset({"asyncio"}),
}
# Foreign libraries that are admitted in these folders and modules only.
ONLY_IN = {
    "aio_pika": frozenset({"broker"}),
    "aiormq": frozenset({"broker"}),
    "httpx": frozenset({"broker.management", "broker.management_address", BESIDE}),
    "starlette": frozenset({"asgi"}),  # an extra brings it, and the next ones
    "prometheus_client": frozenset({"telemetry.prometheus", "asgi"}),  # asgi: for its types
    "opentelemetry": frozenset({"telemetry"}),
    "typer": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
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
    """`nuropb_rmq.amqp.frames` → `wire.frames`; None for what is not ours."""
    if name == PACKAGE:
        return ""
    return name.removeprefix(f"{PACKAGE}.") if name.startswith(f"{PACKAGE}.") else None


def floor_of(module: str) -> int | None:
    """The row of a module; None when it has none."""
    return next((row for row, names in enumerate(FLOORS) if top(module) in names), None)


def violations(sources: Mapping[str, str]) -> list[str]:
    """Tell what breaks the table in these sources, keyed by module name without the package's."""
    modules = frozenset(sources)
    found = []
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        if floor_of(module) is None and top(module) != BESIDE:
            found.append(
                f"{module}: {top(module)} is not in the table of tests/unit/test_layers.py"
            )
            continue
        for line, name in sorted(set(imported(module, source, modules))):
            target = _short(name)
            reason = _foreign(module, top(name)) if target is None else _own(module, target)
            if reason is not None:
                found.append(f"{module}:{line}: {reason}")
            elif target is not None:
                graph.setdefault(module, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        found.append(f"{circle.args[1][0]}:0: imports in a circle: {' <- '.join(circle.args[1])}")
    return found


def _own(module: str, target: str) -> str | None:
    """Return why `module` may not import `target`, both of this package; None where it may."""
    if top(module) == BESIDE:
        allowed = top(target) == BESIDE or target in BESIDE_MAY_IMPORT
        return None if allowed else f"{BESIDE} imports {target or PACKAGE}"
    if top(target) == BESIDE and module not in USES_BESIDE:
        return f"imports {target}, which stands beside the floors"
    here, there = floor_of(module), floor_of(target)
    if top(target) == BESIDE:
        return None
    if here is None or there is None:
        return f"imports {target}, which is not in the table"
    if there > here or (there == here and top(module) != top(target)):
        return f"imports {target or PACKAGE}, which is not below it"
    return None


def _among(module: str, names: frozenset[str]) -> bool:
    return module in names or top(module) in names


def _foreign(module: str, library: str) -> str | None:
    """Return why `module` may not import the foreign `library`; None where it may."""
    home = ONLY_IN.get(library)
    if home is not None and not _among(module, home):
        return f"imports {library}, which belongs to {', '.join(sorted(home))}"
    admitted = IMPURE.get(module, frozenset())
    if library in IO_LIBRARIES and _among(module, PURE) and library not in admitted:
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


ALL = dict.fromkeys(package_sources(), "")

OFFENDERS = {
    "up": ("exceptions", "import nuropb_rmq.mesh"),
    "up, from the root": ("exceptions", "from nuropb_rmq import mesh"),
    "up, relative": ("config.settings", "from ..transport.transport import Transport"),
    "up, relative to the package": ("config.settings", "from .. import transport"),
    "sideways": ("exceptions", "from nuropb_rmq.safe_logging import origin"),
    "itself": ("broker.session", "import nuropb_rmq.broker.session"),
    "in a function": ("config.settings", "def f():\n    from nuropb_rmq.mesh import Mesh"),
    "for types only": (
        "config.settings",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nuropb_rmq.mesh import Mesh",
    ),
    "the root": ("transport.transport", "from nuropb_rmq import Mesh"),
    "the root by name": ("asgi", "import nuropb_rmq"),
    "not in the table": ("helpers", ""),
    "below something not in the table": ("asgi", "from nuropb_rmq.helpers import f"),
    "testing, from below": (
        "transport.transport",
        "from nuropb_rmq.testing.node import RabbitMQNode",
    ),
    "testing, from above": ("", "from nuropb_rmq import testing"),
    "testing needs the rest": (
        "testing.node",
        "from nuropb_rmq.broker.connection import connect",
    ),
    "testing needs the root": ("testing", "import nuropb_rmq"),
    "asyncio in pure": ("protocol.writer", "import asyncio"),
    "asyncio in pure, from": ("protocol.acknowledgement", "from asyncio import Future"),
    "asyncio in pure, a submodule": ("amqp.frames", "import asyncio.streams"),
    "socket in pure": ("config.settings", "import socket"),
    "ssl in pure": ("service.methods", "import ssl"),
    "aio_pika in the data plane": ("amqp.publisher", "from aio_pika import Message"),
    "aiormq in use": ("mesh.mesh", "import aiormq.exceptions"),
    "httpx in use": ("compat.rmq_transport", "import httpx"),
    "httpx beside its home": ("broker.session", "import httpx"),
    "starlette below its home": ("mesh.mesh", "from starlette.requests import Request"),
}

INNOCENTS = {
    "down": ("transport.transport", "from nuropb_rmq.broker.session import Session"),
    "down, relative": (
        "transport.transport",
        "from .. import exceptions\nfrom ..amqp import frames",
    ),
    "in its folder": ("amqp.router", "from . import frames"),
    "the root gathers": ("", "from .mesh.mesh import Mesh\nfrom nuropb_rmq.exceptions import *"),
    "testing within itself": ("testing", "from .node import RabbitMQNode\nimport httpx"),
    "testing raises": ("testing.node", "from ..exceptions import NuropbException\nimport asyncio"),
    "config builds a TLS context": ("config.address", "import ssl"),
    "pure may compute": ("protocol.writer", "import json, struct\nimport orjson"),
    "the control plane": (
        "broker.session",
        "import aio_pika\nfrom aiormq.abc import AbstractChannel",
    ),
    "management over HTTP": ("broker.management", "import asyncio, ssl\nimport httpx"),
}


@pytest.mark.parametrize(("module", "source"), OFFENDERS.values(), ids=OFFENDERS)
def test_an_offender_is_found(module: str, source: str) -> None:
    found = violations({**ALL, module: source})
    assert len(found) == 1
    assert found[0].startswith(f"{module}:")


def test_a_circle_within_a_folder_is_found() -> None:
    circle = {"amqp.router": "from .channel import f", "amqp.channel": "from .router import g"}
    (found,) = violations({**ALL, **circle})
    assert "in a circle" in found


@pytest.mark.parametrize(("module", "source"), INNOCENTS.values(), ids=INNOCENTS)
def test_an_innocent_is_not(module: str, source: str) -> None:
    assert violations({**ALL, module: source}) == []
