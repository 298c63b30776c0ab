"""`async with` for objects with start() and stop()."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Managed:
    """Base of objects that `async with` starts, and stops however its block ends."""

    async def start(self) -> None:
        """Start; for subclasses."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop; for subclasses."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
