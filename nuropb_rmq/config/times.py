"""Times that callers pass, checked: seconds in our own classes, milliseconds in nuropb's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from ..exceptions import NuropbConfigurationError, NuropbValidationError
from ..protocol.constants import MAX_SECONDS

_OLDEST: Final = 100 * 366 * 86_400
_NUMBERS = (int, float)  # isinstance with `int | float` makes the union anew each time


def seconds(name: str, value: object) -> float:
    """Check a time in seconds. Raises NuropbValidationError, naming it `name`."""
    return _time(name, value, "seconds", 1)


def grace_period(grace: float) -> float:
    """Check a grace period in seconds, which may be 0. Raises NuropbValidationError."""
    is_zero = isinstance(grace, int | float) and not isinstance(grace, bool) and grace == 0
    return 0.0 if is_zero else seconds("grace", grace)


def age(name: str, value: object) -> float:
    """Check an age in seconds, of any length. Raises NuropbValidationError, naming it `name`."""
    if isinstance(value, _NUMBERS) and not isinstance(value, bool) and 0 < value <= _OLDEST:
        return float(value)
    raise NuropbValidationError(
        f"{name}: expected a number of seconds above 0, at most {_OLDEST} (100 years), "
        f"got {_text(value)}"
    )


def from_milliseconds(name: str, value: object) -> float:
    """Convert a time in milliseconds to seconds. Raises NuropbValidationError, naming it `name`."""
    return _time(name, value, "milliseconds", 1000)


def _time(name: str, value: object, unit: str, in_a_second: int) -> float:
    longest = MAX_SECONDS * in_a_second
    if isinstance(value, _NUMBERS) and not isinstance(value, bool) and 0 < value <= longest:
        return value / in_a_second
    raise NuropbValidationError(
        f"{name}: expected a number of {unit} above 0, at most {longest} (49 days), "
        f"got {_text(value)}"
    )


def _text(value: object) -> str:
    # repr() raises from 4300 digits on.
    return "a longer one" if isinstance(value, int) and value > 2**64 else repr(value)


MOST_DELAYS: Final = 12
LONGEST_DELAY: Final = 30 * 86_400
"""Seconds."""


def delays(name: str, values: Any) -> tuple[float, ...]:
    """Check the delays of retries, in seconds; return them in order, each once.

    Raises NuropbConfigurationError, naming the setting `name`.
    """
    is_list = isinstance(values, Iterable) and not isinstance(values, str)
    checked: set[float] = set()
    for value in values if is_list else (values,):
        number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
        if not number or not 0.001 <= value <= LONGEST_DELAY:
            raise NuropbConfigurationError(
                name,
                "expected seconds, each from 0.001 to 2592000 (30 days), got "
                f"{value if number else type(value).__name__}",
            )
        if not math.isclose(value * 1000, round(value * 1000), rel_tol=1e-9):
            raise NuropbConfigurationError(name, f"expected whole milliseconds, got {value} s")
        checked.add(round(value * 1000) / 1000)
    if len(checked) > MOST_DELAYS:
        raise NuropbConfigurationError(
            name, f"expected {MOST_DELAYS} delays at most, for each has a queue; got {len(checked)}"
        )
    return tuple(sorted(checked))
