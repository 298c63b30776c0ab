"""The old peer of the demo, suppliers: whether it can run here, and its start."""

from __future__ import annotations

from .programs import ROOT, Program, Programs

__all__ = ["start", "why_not"]

PYTHON = ROOT / ".venv-peer" / "bin" / "python"
NEWEST_PYTHON = (3, 11)
DENIES_SINCE = 4
"""RabbitMQ's major version; the demo's own node is told to deny it since then."""


def why_not(python: tuple[int, int], rabbitmq: str) -> str | None:
    """Why nuropb 0.1.8 cannot run on this Python and broker; None when it can."""
    if python > NEWEST_PYTHON:
        return f"nuropb 0.1.8 needs Python 3.11 or older; this is {python[0]}.{python[1]}"
    if int(rabbitmq.partition(".")[0]) >= DENIES_SINCE:
        return f"this RabbitMQ {rabbitmq} denies the response queue that nuropb 0.1.8 declares"
    if not PYTHON.exists():
        return "nuropb 0.1.8 is not installed: scripts/setup --peer does that"
    return None


async def start(programs: Programs, url: str) -> Program:
    """Start it, with the Python that has nuropb; it reports when it is ready."""
    return await programs.start("suppliers", "suppliers", url, python=str(PYTHON))
