"""Replay and purge: count, ask, act, and tell how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import nuropb_rmq

from ..dead_letters.replaying import NOT_OWN, REQUEST
from .conventions import FAILED, PARTLY, CommandError, counted
from .letters import progress_of
from .output import can_answer
from .verbs import At

if TYPE_CHECKING:
    from nuropb_rmq import DeadLetterResult, DeadLetters

# The options that change what stays.
_FIXES: Final = {NOT_OWN: " (--foreign)", REQUEST: " (--requests)"}

Count = Callable[[], Awaitable["DeadLetterResult"]]
Act = Callable[[int | None], Awaitable["DeadLetterResult"]]
"""Acts on so many letters at most, or on all that match."""


class Work:
    """One run over the dead letters of a service."""

    def __init__(self, at: At, service: str, letters: DeadLetters, *, verb: str, done: str) -> None:
        """`verb` is what it does to letters, `done` what was done to them."""
        self._at = at
        self._service = service
        self._letters = letters
        self._verb = verb
        self._done = done

    async def run(self, count: Count, act: Act, *, dry_run: bool, yes: bool) -> int:
        """Count, ask unless `yes`, act; return the exit status."""
        if not (dry_run or yes or can_answer()):
            raise CommandError(
                f"{self._verb} asks before it acts, and here is no terminal: add --yes, or "
                "--dry-run to see what it would do; nothing was done"
            )
        most: int | None = None
        if dry_run or not yes:
            with progress_of(self._at.out, self._letters, "counting"):
                would = await count()
            if dry_run:
                self._print(would)
                return PARTLY if would.stopped else 0
            if not would.done:
                self._print(would)
                return PARTLY if would.left or would.stopped else 0
            self._say_what_stays(would)
            question = f"{self._verb} {counted(would.done, 'dead letter')} of {self._service}?"
            if not await self._at.out.agreed(question):
                self._at.out.note("nothing was done")
                return FAILED
            most = would.done  # as agreed, however many have come meanwhile
        result = await self._act(act, most)
        self._print(result)
        return PARTLY if result.left or result.stopped else 0

    async def _act(self, act: Act, most: int | None) -> DeadLetterResult:
        try:
            with progress_of(self._at.out, self._letters, self._verb):
                return await act(most)
        except (asyncio.CancelledError, nuropb_rmq.NuropbTransportError):
            progress = self._letters.progress
            self._at.out.note(
                f"{self._service}: {counted(progress.done, 'dead letter')} {self._done}, "
                f"{progress.looked_at} of {progress.waiting} looked at; all others are where they "
                "were"
            )
            raise

    def _print(self, result: DeadLetterResult) -> None:
        """Print a result: what was done, or would be, and what stays."""
        at = self._at
        if at.json:
            at.out.data({"service": self._service, "queue": self._letters.queue, **asdict(result)})
            return
        if not (result.waiting or result.done or result.left):
            at.out.line(f"{self._service}: no dead letters")
        elif result.dry_run:
            at.out.line(
                f"{self._service}: {counted(result.done, 'dead letter')} would be {self._done}"
            )
        else:
            at.out.line(f"{self._service}: {counted(result.done, 'dead letter')} {self._done}")
        self._say_what_stays(result)

    def _say_what_stays(self, result: DeadLetterResult) -> None:
        for reason, number in sorted(result.left.items()):
            stays = "stays" if number == 1 else "stay"
            fix = _FIXES.get(reason, "")
            self._at.out.note(
                f"{counted(number, 'dead letter')} {stays}: {reason}{fix}", style="yellow"
            )
        if result.stopped is not None:
            self._at.out.note(
                f"looked at {result.looked_at} of {result.waiting}: {result.stopped}",
                style="yellow",
            )
