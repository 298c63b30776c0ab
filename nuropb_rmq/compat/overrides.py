"""Run the steps of a session that a subclass of RMQTransport may override.

The session calls the method of that name. If the override calls the base's method, awaited or not,
the step is taken. If not, the step is left out, and its result must exist already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any, Final, TypeVar

from ..broker.session import Run
from ..exceptions import NuropbTransportError

logger = logging.getLogger("nuropb_rmq.compat")

T = TypeVar("T")

STEPS: Final = (
    "open_channel",
    "declare_response_queue",
    "declare_service_queue",
    "close_channel",
)
_NEEDED: Final = "open_channel"
_NEVER_CALLED: Final = (
    "on_connection_open",
    "on_connection_open_error",
    "on_connection_closed",
    "on_channel_open",
    "on_channel_closed",
    "on_service_queue_declareok",
    "on_response_queue_declareok",
    "on_bindok",
    "on_basic_qos_ok",
    "on_consumer_cancelled",
    "on_message_returned",
    "on_service_message",
    "on_service_message_complete",
    "on_response_message",
    "on_response_message_complete",
)
"""Methods of nuropb's transport for pika's callbacks."""


def warn_of_callbacks(owner: object) -> None:
    """Log the methods of a subclass that are not called any more."""
    names = [name for name in _NEVER_CALLED if getattr(owner, name, None) is not None]
    if names:
        logger.warning(
            "%s has methods that are not called any more: %s; see docs/guides/migration.md",
            type(owner).__name__,
            ", ".join(names),
        )


def override(method: T, base: object) -> T | None:
    """Return a method of an instance if it overrides the base's, else None."""
    own, original = (getattr(function, "__func__", function) for function in (method, base))
    return None if own is original else method


class Once:
    """Awaitable that calls and awaits `run`, the first time that it is awaited."""

    __slots__ = ("_run", "taken")

    def __init__(self, run: Run) -> None:
        self._run = run
        self.taken = False

    def __await__(self) -> Generator[Any, None, None]:
        if not self.taken:
            self.taken = True
            yield from self._run().__await__()


class Step(Once):
    """Result of the base's method: awaiting it takes the step."""

    __slots__ = ("called", "name", "owner")

    def __init__(self, owner: object, name: str, run: Run) -> None:
        super().__init__(run)
        self.owner = owner
        self.name = name
        # True once the override has called the base's method.
        self.called = False


_current: ContextVar[Step | None] = ContextVar("nuropb_rmq_step", default=None)


def current(owner: object, name: str) -> Step:
    """Return the step that the session takes now. Raises NuropbTransportError if it is another.

    Steps belong to their task: two connections may be set up at the same time.
    """
    step = _current.get()
    if step is None or step.owner is not owner or step.name != name:
        raise NuropbTransportError(
            f"{name}() is only for the transport itself, as it connects: "
            "call start() or stop(), or override it"
        )
    step.called = True
    return step


async def take(owner: object, name: str, run: Run, method: Callable[..., object]) -> None:
    """Take a step by a subclass's method. Raises NuropbTransportError.

    The method runs in a task of its own, so that cancellations in the program's code do not count
    as a cancellation of the connection's supervisor.
    """
    step = Step(owner, name, run)
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - narrows for mypy
    before = task.cancelling()
    try:
        await asyncio.ensure_future(_call(step, method))
    except NuropbTransportError:
        raise
    except (Exception, asyncio.CancelledError) as e:
        if task.cancelling() > before:
            raise
        raise NuropbTransportError(f"{name}(), which is overridden, failed: {e!r}", None, e) from e
    if name == _NEEDED and not step.taken:
        raise NuropbTransportError(f"{name}() is overridden and did not call super().{name}()")


async def _call(step: Step, method: Callable[..., object]) -> None:
    _current.set(step)
    returned = method(None) if step.name == "declare_service_queue" else method()
    if isawaitable(returned):
        await returned
    if step.called or step.taken:
        await step
