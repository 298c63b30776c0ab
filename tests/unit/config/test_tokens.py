"""Access tokens, and asking for them: providers that fail, hang, or give something else."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from nuropb_rmq import AccessToken, NuropbConfigurationError, TokenProviderError, TransportConfig
from nuropb_rmq.broker.management import ManagementAPI
from nuropb_rmq.broker.token_source import TokenSource

SECRET = "hunter2-and-more"
TOKEN = AccessToken(SECRET, 60)


# -- tokens ---------------------------------------------------------------------------------


def test_a_token_is_masked() -> None:
    assert SECRET not in f"{TOKEN} {TOKEN!r}"
    config = TransportConfig(
        amqp_url="amqp://h", service_name="orders", token_provider=partial(AccessToken, SECRET, 1)
    )
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("token", "expires_in", "field"),
    [
        ("", 1, "token"),
        (b"bytes", 1, "token"),
        (None, 1, "token"),
        ("\ud800" + SECRET, 1, "token"),
        (SECRET, "3600", "expires_in"),
        (SECRET, True, "expires_in"),
        (SECRET, float("nan"), "expires_in"),
        (SECRET, 10**400, "expires_in"),
    ],
)
def test_what_is_no_token(token: Any, expires_in: Any, field: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=rf"AccessToken\.{field}: ") as caught:
        AccessToken(token, expires_in)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_what_is_no_provider() -> None:
    given: Any = TOKEN
    with pytest.raises(NuropbConfigurationError, match="token_provider: must be a function"):
        TransportConfig(amqp_url="amqp://h", service_name="orders", token_provider=given)


async def test_the_management_api_needs_a_user_or_both() -> None:
    url = "http://127.0.0.1:1"
    await ManagementAPI(url, username="robin", token_provider=lambda: TOKEN).aclose()
    with pytest.raises(NuropbConfigurationError, match="username, password"):
        ManagementAPI(url, token_provider=lambda: TOKEN)
    with pytest.raises(NuropbConfigurationError, match="username, password"):
        ManagementAPI(url, username="robin")


# -- providers ------------------------------------------------------------------------------


async def given() -> AccessToken:
    """An async provider."""
    return TOKEN


def threaded() -> AccessToken:
    """A synchronous one, which must not hold up the event loop."""
    assert threading.current_thread() is not threading.main_thread()
    return TOKEN


class Callee:
    """An object that is called as one."""

    async def __call__(self) -> AccessToken:
        return TOKEN


@pytest.mark.parametrize(
    "provider",
    [given, partial(given), Callee(), threaded, lambda: asyncio.sleep(0, TOKEN)],
    ids=["async", "partial", "object", "sync", "lambda"],
)
async def test_each_kind_of_provider(provider: Any) -> None:
    assert await TokenSource(provider, 5).ask() is TOKEN


def fail(error: type[BaseException]) -> AccessToken:
    raise error(SECRET)


async def fail_later(error: type[BaseException]) -> AccessToken:
    raise error(SECRET)


@pytest.mark.parametrize("how", [fail, fail_later])
@pytest.mark.parametrize(
    "error", [LookupError, StopIteration, TimeoutError, SystemExit, asyncio.CancelledError]
)
async def test_a_provider_that_fails(
    how: Callable[[type[BaseException]], Any], error: type[BaseException]
) -> None:
    with pytest.raises(TokenProviderError, match=r"^token_provider: (failed|was cancelled)") as at:
        await TokenSource(partial(how, error), 5).ask()
    assert SECRET not in f"{at.value} {at.value!r}"
    assert at.value.exception is at.value.__cause__ is not None


@pytest.mark.parametrize("wrong", [SECRET, None, AccessToken])
async def test_a_provider_that_gives_something_else(wrong: Any) -> None:
    with pytest.raises(TokenProviderError, match="must return an AccessToken, not"):
        await TokenSource(lambda: wrong, 5).ask()


@pytest.mark.parametrize("life", [0.5, 0, -3])
async def test_a_token_that_is_as_good_as_expired(life: float) -> None:
    with pytest.raises(TokenProviderError, match=f"valid for 1 s or more, not {life:g}"):
        await TokenSource(lambda: AccessToken(SECRET, life), 5).ask()


async def test_a_provider_that_hangs() -> None:
    released, calls = threading.Event(), 0

    def hang() -> AccessToken:
        nonlocal calls
        calls += 1
        released.wait(60)
        return TOKEN

    asker = TokenSource(hang, 0.1)
    for _ in range(3):
        with pytest.raises(TokenProviderError, match=r"returned no token within 0\.1 s"):
            await asker.ask()
    assert calls == 1  # threads that hang do not pile up
    released.set()
    assert await TokenSource.ask(asker) is TOKEN
    with pytest.raises(TokenProviderError, match=r"returned no token within 0\.1 s"):
        await TokenSource(asyncio.Event().wait, 0.1).ask()  # type: ignore[arg-type]


async def test_a_provider_that_does_not_obey_its_cancellation() -> None:
    released = asyncio.Event()

    async def deaf() -> AccessToken:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()
        return TOKEN

    with pytest.raises(TokenProviderError, match=r"returned no token within 0\.05 s"):
        await TokenSource(deaf, 0.05).ask()
    released.set()


async def test_asking_can_be_cancelled() -> None:
    asking = asyncio.create_task(TokenSource(asyncio.Event().wait, 60).ask())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


def _raises() -> AccessToken:
    raise RuntimeError("hush-hush")


def _gives_text() -> Any:
    return "hush-hush"


@pytest.mark.parametrize("provider", [_raises, _gives_text])
def test_asyncios_debug_mode_prints_nothing_of_it(
    provider: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It prints what it calls, arguments and all, when that takes long: here, all that it calls."""

    async def ask() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0
        with pytest.raises(TokenProviderError):
            await TokenSource(provider, 5.0).ask()

    with caplog.at_level(logging.DEBUG, "asyncio"):
        asyncio.run(ask(), debug=True)
    assert "Executing" in caplog.text
    assert "hush" not in caplog.text
