"""Exceptions are copied and pickled, as pools of processes do, with all that they carry."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from typing import Any

import pytest
from aiormq.exceptions import ChannelAccessRefused

from nuropb_rmq import exceptions
from nuropb_rmq.exceptions import (
    ConnectionLostError,
    InstanceInUseError,
    NuropbConfigurationError,
    NuropbException,
    NuropbSuccess,
    NuropbTimeoutError,
)
from nuropb_rmq.protocol import remote_errors

KINDS = {
    name: kind
    for module in (exceptions, remote_errors)
    for name, kind in vars(module).items()
    if inspect.isclass(kind) and issubclass(kind, NuropbException)
}


def made(kind: type[NuropbException]) -> NuropbException:
    """One with all that it can carry."""
    if kind is NuropbConfigurationError:
        return NuropbConfigurationError("field", "is wrong")
    if kind is ConnectionLostError:
        return ConnectionLostError("lost", 320, "CONNECTION_FORCED")
    if kind is InstanceInUseError:
        return InstanceInUseError("taken", ValueError("cause"))
    if kind is NuropbSuccess:
        return NuropbSuccess(1, "well done", {"tag": "request"}, [{"topic": "a"}])
    return kind("what happened", {"tag": "request"}, ValueError("cause"))


def state(error: NuropbException) -> dict[str, Any]:
    return {name: repr(value) for name, value in vars(error).items()}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_is_carried(name: str) -> None:
    error = made(KINDS[name])
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert state(again) == state(error)


def test_what_cannot_be_carried_is_left_out() -> None:
    """Of others' exceptions some cannot be pickled, and some are, and cannot be read again."""
    error = NuropbTimeoutError("late", {"params": threading.Lock()}, ChannelAccessRefused("no"))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "late"
    assert again.payload is None
    assert again.exception is None or str(again.exception) == str(error.exception)


def test_a_programs_own_subclass() -> None:
    error = Own("more", 7)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.number) == ("own: more", 7)


class Own(NuropbException):
    """With an __init__ that takes something else."""

    def __init__(self, more: str, number: int) -> None:
        super().__init__(f"own: {more}")
        self.number = number
