"""`async with` for what has start() and stop()."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Managed:
    """Is started when `async with` begins, and stopped at its end, whatever happens within."""

    async def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End."""
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
