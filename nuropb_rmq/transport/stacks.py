"""Stacks of handlers and threads as text, and origins of errors, in a program's own code.

They show files, lines and source, no values.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final

from ..service.thread_pool import frame_of_call
from .task_runner import body_of

_MOST_FRAMES: Final = 50
"""Of one stack; the innermost are shown."""
_MOST_THREADS: Final = 50
_OURS: Final = "nuropb_rmq."
_IMPORT_SYSTEM: Final = "<frozen importlib"


def of_task(task: asyncio.Task[Any]) -> str:
    """Return where a handler waits: its frames, and those of what it awaits, innermost last.

    The frames of the library that lead to the handler are left out. Of a handler in a thread, the
    stack of that thread.
    """
    frames = list(_awaited(task.get_coro()))
    running = next((found for found in map(frame_of_call, frames) if found is not None), None)
    if running is not None:
        frames = _outward(running)
        start = max(n for n, frame in enumerate(frames) if _is_ours(frame)) + 1
        return _text(frames[start:] or frames)
    theirs = next((n for n, frame in enumerate(frames) if not _is_ours(frame)), 0)
    return _text(frames[theirs:])


def of_threads(first: int) -> str:
    """Return the stacks of all threads; that of the thread with the identifier `first` first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = sys._current_frames()  # noqa: SLF001 - its documented name
    own = threading.get_ident()
    order = sorted((ident for ident in found if ident != own), key=lambda each: each != first)
    texts = [
        f"thread {names.get(ident, ident)}:\n{_text(_outward(found[ident]))}"
        for ident in order[:_MOST_THREADS]
    ]
    if len(order) > _MOST_THREADS:
        texts.append(f"and {len(order) - _MOST_THREADS} more threads")
    return "\n".join(texts)


def start_at_handler(error: BaseException) -> None:
    """Take the library's frames that lead to the handler out of the traceback of its error.

    An error that has no other frames keeps them.
    """
    each = error.__traceback__
    while each is not None and _is_ours(each.tb_frame):
        each = each.tb_next
    if each is not None:
        error.__traceback__ = each


def raised_at(error: BaseException) -> str | None:
    """Return FILE:LINE of the last line that an error has passed outside of this library."""
    places = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_ours(frame) and not frame.f_code.co_filename.startswith(_IMPORT_SYSTEM)
    ]
    return places[-1] if places else None


def _awaited(outermost: object) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it awaits, as far as Python shows them."""
    each = outermost
    while each is not None:
        if isinstance(each, CoroutineType):
            frame, inner = each.cr_frame, each.cr_await
        elif isinstance(each, GeneratorType):
            frame, inner = each.gi_frame, body_of(each) or each.gi_yieldfrom
        elif isinstance(each, AsyncGeneratorType):
            frame, inner = each.ag_frame, each.ag_await
        else:  # a future, or an iterator of its own
            return
        if frame is None:  # it has ended
            return
        yield frame
        each = inner


def _outward(innermost: FrameType) -> list[FrameType]:
    frames = [frame for frame, _ in traceback.walk_stack(innermost)]
    return frames[::-1]


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_OURS)


def _text(frames: Sequence[FrameType]) -> str:
    shown = frames[-_MOST_FRAMES:]
    lines = traceback.StackSummary.extract(iter((each, each.f_lineno) for each in shown)).format()
    return "".join(lines).rstrip("\n")
