"""Contexts that can be made the current ones, and those of what is not sampled."""

from __future__ import annotations

from contextvars import Token

from opentelemetry.context import Context, attach, detach

from ..amqp.settlement import Settlement
from ..protocol.acknowledgement import Outcome
from ..protocol.reader import Head
from .guard import Guard, guarded


class Scope:
    """A context that can be made the current one."""

    __slots__ = ("_tokens", "guard", "inner")

    def __init__(self, inner: Context, guard: Guard) -> None:
        self.inner = inner
        self.guard = guard
        # One for each enter(): what is done within it may enter again.
        self._tokens: list[Token[Context]] = []

    @guarded
    def enter(self) -> None:
        """Make it current in this context."""
        self._tokens.append(attach(self.inner))

    @guarded
    def leave(self) -> None:
        """Make current what was before the last enter()."""
        if self._tokens:
            detach(self._tokens.pop())


class Passing(Scope):
    """A call or a message in a trace that is not sampled: its context travels, and no more."""

    __slots__ = ()

    def answered(self, head: Head, error: str | None) -> None:
        """Do nothing."""

    def failed(self, error: BaseException) -> None:
        """Do nothing."""

    def handled(self, outcome: Outcome, error: BaseException | None) -> None:
        """Do nothing."""

    def settled(self, settlement: Settlement | None, error: BaseException | None) -> None:
        """Do nothing."""
