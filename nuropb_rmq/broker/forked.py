"""Keep forked children from using their parent's sockets, and the objects that use them.

A child that writes to its parent's socket, or closes its TLS connection, would disturb the
parent's session. So both are ended in the child, before any code of the program runs there.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Inherited(Protocol):
    """An object that must end in a forked child."""

    def disown(self) -> None:
        """End, in a forked child. Must neither raise nor call the program's code."""


_inherited: WeakSet[Inherited] = WeakSet()


def ends_in_children(thing: Inherited) -> None:
    """Call `thing.disown()` in every child that is forked while `thing` exists."""
    _inherited.add(thing)


def _disown() -> None:
    for thing in tuple(_inherited):
        thing.disown()
    _inherited.clear()


def cut_off(descriptor: int) -> None:
    """Redirect a file descriptor to the null device, in this process; its owner may still close it.

    Closing it here is no solution: its owner would then write to the next file with this number.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nowhere, descriptor, inheritable=False)
    finally:
        os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
