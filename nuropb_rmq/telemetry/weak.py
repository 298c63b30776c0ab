"""Removers that keep nothing alive."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakMethod


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls a bound method as long as its object is there.

    What the process keeps of a mesh must not hold the mesh, nor its callbacks: these may refer to
    it, and then it would never be collected.
    """
    reference = WeakMethod(method)

    def call() -> None:
        found = reference()
        if found is not None:
            found()

    return call
