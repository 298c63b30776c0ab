"""The state of a transport, and whoever is told of its changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nuropb_rmq import (
    NuropbConfigurationError,
    NuropbValidationError,
    State,
    Transport,
    TransportConfig,
)
from nuropb_rmq.broker.state import Lifecycle
from nuropb_rmq.mesh.mesh import Mesh


def told(seen: list[State]) -> Callable[[State, object], None]:
    return lambda state, _: seen.append(state)


async def _notes(*_: Any) -> None:
    """An async callback."""


class _Async:
    async def __call__(self, *_: Any) -> None:
        """An async callback."""


@pytest.mark.parametrize("callback", [_notes, partial(_notes, 1), _Async(), None, "text"])
def test_what_is_no_callback_is_refused(callback: Any) -> None:
    with pytest.raises(NuropbConfigurationError, match=r"^callback: must"):
        Lifecycle().on_change(callback)


async def test_a_callback_that_turns_out_to_be_async(caplog: pytest.LogCaptureFixture) -> None:
    """It is closed, which asyncio would warn of, and the log says why nothing came of it."""
    life, seen = Lifecycle(), list[State]()
    life.on_change(lambda *_: _notes())  # type: ignore[arg-type]
    life.on_change(told(seen))
    with caplog.at_level(logging.ERROR):
        life.set(State.CONNECTING, None)
    assert seen == [State.CONNECTING]
    assert "must not be async" in caplog.text


async def test_to_unsubscribe_twice_is_harmless() -> None:
    life, seen = Lifecycle(), list[State]()
    callback = told(seen)
    first, second = life.on_change(callback), life.on_change(callback)
    first()
    first()
    life.set(State.CONNECTING, None)
    assert seen == [State.CONNECTING]
    second()
    life.set(State.READY, None)
    assert seen == [State.CONNECTING]


@pytest.mark.parametrize("grace", [None, "5", -1, float("nan"), False])
async def test_a_grace_period_is_a_number_of_seconds(grace: Any) -> None:
    url = "amqp://localhost:1/"
    for each in (
        Transport(TransportConfig(amqp_url=url, service_name="c", client_only=True)),
        Mesh(url),
    ):
        with pytest.raises(NuropbValidationError, match=r"^grace: "):
            await each.stop(grace=grace)
        await each.stop(grace=0)
