"""What a forked child inherits and must not use: its parent's sockets, and what stands on them.

A child that writes to a socket of its parent, or closes a TLS connection in order, speaks in its
parent's place. So both are ended in the child, before any code of the program runs there.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Inherited(Protocol):
    """Something that is to end in a forked child."""

    def disown(self) -> None:
        """This process is a forked child; it must not raise, and calls nothing of the program's."""


_inherited: WeakSet[Inherited] = WeakSet()


def ends_in_children(thing: Inherited) -> None:
    """Call `thing.disown()` in every child that is forked while somebody holds `thing`."""
    _inherited.add(thing)


def _disown() -> None:
    for thing in tuple(_inherited):
        thing.disown()
    _inherited.clear()


def cut_off(descriptor: int) -> None:
    """Let a file descriptor lead nowhere, in this process alone; whoever has it may close it.

    Closing it here would not do: its number would be given to another file, which its holder
    would write to.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nowhere, descriptor, inheritable=False)
    finally:
        os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
