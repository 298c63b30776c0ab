"""The steps of a session that a subclass of RMQTransport may take over.

The session calls the method of that name. Where an override calls the base's, awaited or not, the
step is taken; where it does not, it is left out, and what it would have made must be there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any, Final

from ..broker.session import Run
from ..exceptions import NuropbTransportError

logger = logging.getLogger("nuropb_rmq.compat")

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
"""pika's callbacks, and what nuropb's transport does in them."""


def warn_of_callbacks(owner: object) -> None:
    """Tell once of the methods of a subclass that nobody calls any more."""
    never = [name for name in _NEVER_CALLED if getattr(owner, name, None) is not None]
    if never:
        logger.warning(
            "%s has methods that are not called any more: %s; see docs/migration.md",
            type(owner).__name__,
            ", ".join(never),
        )


class Step:
    """What the base's method returns: awaiting it takes the step, once."""

    __slots__ = ("_run", "asked", "name", "owner", "taken")

    def __init__(self, owner: object, name: str, run: Run) -> None:
        self._run = run
        self.owner = owner
        self.name = name
        self.asked = False
        self.taken = False

    def __await__(self) -> Generator[Any, None, None]:
        if not self.taken:
            self.taken = True
            yield from self._run().__await__()


_current: ContextVar[Step | None] = ContextVar("nuropb_rmq_step", default=None)


def current(owner: object, name: str) -> Step:
    """The step that the session is at. Raises NuropbTransportError when it is at another, or none.

    Steps belong to the task that takes them: two connections may be set up at the same time.
    """
    step = _current.get()
    if step is None or step.owner is not owner or step.name != name:
        raise NuropbTransportError(
            f"{name}() is called by the transport itself, whenever it connects: "
            "call start() or stop(), or override it"
        )
    step.asked = True
    return step


async def take(owner: object, name: str, run: Run, method: Callable[..., object]) -> None:
    """Take a step by the method that a subclass has for it.

    The method runs in a task of its own: it is a program's, and what it does to the cancellation
    of its task must not count as a cancellation of the connection's supervisor.
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
        raise NuropbTransportError(f"{name}() was overridden, and did not call the base's")


async def _call(step: Step, method: Callable[..., object]) -> None:
    _current.set(step)
    returned = method(None) if step.name == "declare_service_queue" else method()
    if isawaitable(returned):
        await returned
    if step.asked or step.taken:
        await step
