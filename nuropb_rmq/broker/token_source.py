"""Asks a token provider, which is a program's own function: it may fail, or never return."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ..config.tokens import AccessToken, TokenProvider
from ..exceptions import TokenProviderError
from ..shielded import shielded

SHARE: Final = 0.5
"""Share of an attempt's time that the provider may take."""
SHORTEST_LIFE: Final = 1.0
"""Seconds that a token must have to live: with less it could not be used before it ends."""


@dataclass(frozen=True, slots=True, repr=False)
class _Outcome:
    """The end of a call of the provider.

    Its repr tells nothing: asyncio's debug mode prints that of whatever it hands over, and this may
    be a token, or an error that quotes one.
    """

    given: Any
    error: BaseException | None

    def value(self) -> object:
        """Return or raise what the provider did."""
        if self.error is not None:
            raise self.error
        return self.given

    def __repr__(self) -> str:
        return "<what the token provider gave>"


class Asker:
    """Asks a token provider, for at most `within` seconds each time.

    An async function runs on the event loop, any other in a thread.
    """

    def __init__(self, provider: TokenProvider, within: float) -> None:
        self._provider = provider
        self._within = within
        self._in_thread: asyncio.Future[_Outcome] | None = None

    async def ask(self) -> AccessToken:
        """A token that is valid now.

        Raises TokenProviderError, whose text quotes nothing of what the provider raised.
        """
        try:
            async with asyncio.timeout(self._within) as deadline:
                token = await self._call()
        except (Exception, SystemExit) as e:
            if deadline.expired():
                problem = f"gave no token within {self._within:g} s"
            else:
                problem = f"failed: {type(e).__name__}"
            raise TokenProviderError(f"token_provider: {problem}", None, e) from e
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise TokenProviderError("token_provider: was cancelled", None, e) from e
        if not isinstance(token, AccessToken):
            problem = f"must return an AccessToken, not {type(token).__name__}"
            raise TokenProviderError(f"token_provider: {problem}")
        if token.expires_in is not None and token.expires_in < SHORTEST_LIFE:
            problem = f"gave a token that lives for {token.expires_in:g} s only"
            raise TokenProviderError(f"token_provider: {problem}")
        return token

    async def _call(self) -> object:
        called: object = self._provider
        if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(
            getattr(called, "__call__", None)  # noqa: B004 - an object's own may be async
        ):
            # In a task of its own: what it does to the cancellation of its task is not ours.
            return (await asyncio.ensure_future(_awaited(self._provider))).value()
        # A call that hangs is waited for by those who ask next: threads must not pile up.
        if self._in_thread is None or self._in_thread.done():
            self._in_thread = _in_thread(self._provider)
        outcome = await shielded(self._in_thread)
        self._in_thread = None
        given = outcome.value()
        return await given if inspect.isawaitable(given) else given


async def _awaited(provider: TokenProvider) -> _Outcome:
    """Ask an async provider; no error of it ends the task, nor the event loop (SystemExit)."""
    try:
        return _Outcome(await provider(), None)  # type: ignore[misc]
    except (Exception, SystemExit) as e:  # noqa: BLE001 - it is raised again where it is waited for
        return _Outcome(None, e)


def _in_thread(call: Callable[[], object]) -> asyncio.Future[_Outcome]:
    """What a call returns or raises, from a thread that keeps nobody from leaving.

    Threads of a pool are waited for at the end of a process, however long they hang.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Outcome] = loop.create_future()

    def settle(outcome: _Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    def run() -> None:
        outcome: _Outcome
        try:
            outcome = _Outcome(call(), None)
        except BaseException as e:  # noqa: BLE001 - it is raised again where somebody waits for it
            outcome = _Outcome(None, e)
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="nuropb-token-provider", daemon=True).start()
    return future
