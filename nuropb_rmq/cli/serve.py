"""`serve`: an object, as a service, in this process."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from types import FunctionType
from typing import Any, Final

from ..broker.state import State
from ..exceptions import NuropbConfigurationError, NuropbTransportError
from ..mesh.mesh import Mesh
from ..nearest import nearest
from ..safe_logging import ServiceLog
from ..telemetry.reports import report
from ..transport.stacks import raised_at
from .conventions import (
    FAILED,
    INTERRUPTED,
    CommandError,
    Serve,
    configured_by,
    import_from_here,
    needed,
)

logger = logging.getLogger("nuropb_rmq.cli")

_IDLE_ENDS: Final = 0.5
"""Seconds in which a thread without a call ends, once its pool is closed; mostly microseconds."""


def serve(options: Serve) -> int:
    """Serve what the options say, until a signal; return the exit status. Raises CommandError."""
    parent = _parent(options) if options.worker else None
    mesh = _mesh(options)
    if options.metrics is not None:
        _serve_metrics(mesh, *options.metrics)
    if options.report is not None:
        report(mesh, every=options.report)
    try:
        asyncio.run(_run(mesh, options.grace, parent))
        status = 0
    except NuropbTransportError as e:
        raise CommandError(configured_by(str(e)), FAILED) from e
    except NuropbConfigurationError as e:
        raise CommandError(str(e)) from e
    except KeyboardInterrupt:
        status = INTERRUPTED
    _leave_threads(status)
    return status


def _serve_metrics(mesh: Mesh, host: str, port: int) -> None:
    try:
        from ..telemetry import prometheus  # noqa: PLC0415 - an extra

        prometheus.collect(mesh)
        server = prometheus.serve_metrics(port, host)
    except (ModuleNotFoundError, NuropbConfigurationError) as e:
        raise CommandError(f"--metrics: {e}") from e
    logger.info("metrics at %s, port %d", host, server.port)


def _parent(options: Serve) -> socket.socket:
    """Return the socket to the parent; take the broker's address from it."""
    parent = socket.socket(fileno=os.dup(0))
    with parent.makefile("r", encoding="utf-8") as lines:
        options.url = lines.readline().rstrip("\n") or None
    return parent


async def _run(mesh: Mesh, grace: float, parent: socket.socket | None) -> None:
    before = State.STOPPED

    def log_ready(state: State, _: NuropbTransportError | None) -> None:
        nonlocal before
        is_start, before = state.up and not before.up, state
        if is_start:
            names = (mesh.service_name, mesh.instance_id)
            broker = mesh.transport.config.broker
            ServiceLog(logger, *names).info("serving %s at %s", mesh.service_name, broker)
            if parent is not None:
                parent.send(b"ready\n")

    mesh.on_state_change(log_ready)
    serving = asyncio.ensure_future(mesh.serve_forever(grace=grace))
    if parent is None:
        await serving
        return
    parent.setblocking(False)
    gone = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(parent, 1))
    await asyncio.wait((serving, gone), return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        logger.warning("the process that started this worker is gone: stopping")
        await mesh.stop(grace=grace)
    gone.cancel()
    await serving


def _leave_threads(status: int) -> None:
    """End the process past methods that still run in threads: Python would wait for them."""
    left = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and not thread.daemon
    ]
    deadline = time.monotonic() + _IDLE_ENDS
    with suppress(KeyboardInterrupt):  # which ends the waiting
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
    running = sum(thread.is_alive() for thread in left)
    if running:
        logger.warning("methods still run in threads, %d: they end with this process", running)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _mesh(options: Serve) -> Mesh:
    target = made(load(options.target), options.target)
    if isinstance(target, Mesh):
        given = (options.url, options.name, options.instance_id, options.health)
        if any(given) or options.start_timeout is not None or not options.configure:
            raise CommandError(
                f"{options.target} is a Mesh, which has its settings: leave out --url, --name, "
                "--instance-id, --no-configure, --start-timeout and --health"
            )
        mesh = target
    else:
        mesh = _served(target, options)
    if options.workers > 1 and mesh.transport.config.broker.in_memory:
        raise CommandError("a broker in memory has one process: leave out --workers")
    return mesh


def _served(target: object, options: Serve) -> Mesh:
    try:
        return Mesh(
            needed(options.url),
            service=target,
            service_name=options.name,
            instance_id=options.instance_id,
            configure=options.configure,
            start_timeout=options.start_timeout,
            health=options.health,
        )
    except NuropbConfigurationError as e:
        raise CommandError(f"{options.target}: {e}") from e


def load(target: str) -> Any:
    """Return what MODULE:NAME stands for. Raises CommandError."""
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise CommandError(f"expected MODULE:NAME, like orders:Orders, got {target!r}")
    if module_name.endswith(".py"):
        module_name = module_name.removesuffix(".py").replace(os.sep, ".")
        raise CommandError(f"expected a module, got a file: did you mean {module_name}:{name}?")
    folder = import_from_here()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name is not None and (module_name == e.name or module_name.startswith(f"{e.name}.")):
            raise CommandError(f"there is no module {e.name!r} in {folder}, nor installed") from e
        raise _failed(f"{module_name} cannot be imported", e) from e
    except Exception as e:
        raise _failed(f"{module_name} cannot be imported", e) from e
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            meant = nearest(part, [each for each in dir(found) if not each.startswith("_")])
            hint = f": did you mean {meant!r}?" if meant else ""
            raise CommandError(f"{module_name} has no {name!r}{hint}") from None
    return found


def made(found: Any, target: str) -> Any:
    """Return an object, or one of a class; MODULE:NAME named it. Raises CommandError."""
    if isinstance(found, FunctionType):
        raise CommandError(f"{target} is a function: give a class, an object, or a Mesh")
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as e:
        advice = "make an object in the module, and give its name"
        raise _failed(f"{target} cannot be made without arguments ({advice})", e) from e


def _failed(what: str, error: Exception) -> CommandError:
    """Return an error that shows where the program's own code failed."""
    place = raised_at(error)
    where = f" ({place})" if place else ""
    return CommandError(f"{what}: {type(error).__name__}: {error}{where}")
