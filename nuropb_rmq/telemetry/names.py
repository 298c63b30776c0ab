"""Names of methods and topics, bounded: a peer's names must not make series without end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

OTHER: Final = "_OTHER"
"""Stands for names that are not known, as OpenTelemetry's conventions have it."""
MOST: Final = 200
LONGEST: Final = 200
"""Characters of a name that is admitted."""


class Names:
    """Names that may be told apart: those known from the start, and the first ones admitted.

    Of what is not known `of()` tells nothing, so a caller admits a name once it has proved real: a
    method that was called with success, a topic that this program publishes.
    """

    __slots__ = ("_most", "_names")

    def __init__(self, known: Iterable[str] = (), *, most: int = MOST) -> None:
        self._names = set(known)
        self._most = max(most, len(self._names))

    def of(self, name: str) -> str:
        """Return the name, or _OTHER when it is not among them."""
        return name if name in self._names else OTHER

    def admit(self, name: str) -> str:
        """Take a name in while there is room; return what of() returns then.

        Not one that is overlong, or that cannot be shown, or encoded (a lone surrogate).
        """
        shown = len(name) <= LONGEST and name.isprintable()
        if shown and name not in self._names and len(self._names) < self._most:
            self._names.add(name)
        return self.of(name)
