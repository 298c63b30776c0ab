"""Call a token provider, which is a program's own function: it may fail, or never return."""

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
from ..waiting import shielded

SHARE: Final = 0.5
"""Share of an attempt's time that the provider may take."""
SHORTEST_LIFE: Final = 1.0
"""Seconds that a token must be valid for: with less it would expire before it is used."""


@dataclass(frozen=True, slots=True, repr=False)
class _Outcome:
    """The result of a call of the provider, a token perhaps, or its error.

    repr() is masked, for asyncio's debug mode logs the repr of results.
    """

    result: Any
    error: BaseException | None

    def value(self) -> object:
        """Return the provider's result, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.result

    def __repr__(self) -> str:
        return "<result of the token provider>"


class TokenSource:
    """Calls a token provider, for at most `within` seconds each time.

    An async function runs on the event loop, any other in a thread.
    """

    def __init__(self, provider: TokenProvider, within: float) -> None:
        self._provider = provider
        self._within = within
        # A call that has not returned yet; further calls wait for it.
        self._in_thread: asyncio.Future[_Outcome] | None = None

    async def ask(self) -> AccessToken:
        """Return a token that is valid now.

        Raises TokenProviderError, whose text quotes nothing of the provider's own error.
        """
        try:
            async with asyncio.timeout(self._within) as deadline:
                token = await self._call()
        except (Exception, SystemExit) as e:
            if deadline.expired():
                problem = f"returned no token within {self._within:g} s"
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
        life = token.expires_in
        if life is not None and life < SHORTEST_LIFE:
            problem = f"must return a token valid for {SHORTEST_LIFE:g} s or more, not {life:g}"
            raise TokenProviderError(f"token_provider: {problem}")
        return token

    async def _call(self) -> object:
        called: object = self._provider
        if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(
            getattr(called, "__call__", None)  # noqa: B004 - an object's own may be async
        ):
            # In a task of its own, because the provider may cancel its task, or uncancel it.
            running = asyncio.ensure_future(_awaited(self._provider))
            try:
                return (await shielded(running)).value()
            except asyncio.CancelledError:
                running.cancel()  # and no wait for it: it may not obey
                raise
        # If a call hangs, later ones wait for it: threads must not pile up.
        if self._in_thread is None or self._in_thread.done():
            self._in_thread = _in_thread(self._provider)
        outcome = await shielded(self._in_thread)
        self._in_thread = None
        result = outcome.value()
        return await result if inspect.isawaitable(result) else result


async def _awaited(provider: TokenProvider) -> _Outcome:
    """Call an async provider; its errors do not end the task, nor the event loop (SystemExit)."""
    try:
        return _Outcome(await provider(), None)  # type: ignore[misc]
    except (Exception, SystemExit) as e:  # noqa: BLE001 - value() raises it again
        return _Outcome(None, e)


def _in_thread(call: Callable[[], object]) -> asyncio.Future[_Outcome]:
    """Run a call in a daemon thread, which does not keep the process from ending.

    A process waits at its end for the threads of a pool, however long they hang.
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
        except BaseException as e:  # noqa: BLE001 - value() raises it again
            outcome = _Outcome(None, e)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="nuropb-token-provider", daemon=True).start()
    return future
