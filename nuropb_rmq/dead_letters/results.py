"""Counts of a pass over a dead-letter queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .looking import Pass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterProgress:
    """The progress of a pass over the queue."""

    looked_at: int = 0
    waiting: int = 0
    """Letters in the queue when it began. Those that another looker holds are not among them."""
    done: int = 0
    """As in DeadLetterResult; of a list() or groups(), 0."""
    stopped: str | None = None
    """Why it ended before all were looked at; None: it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterResult:
    """Counts of a replay or a purge. Letters that the filter does not match are in no count."""

    looked_at: int
    waiting: int
    """Letters in the queue when it began."""
    done: int
    """Failures that were replayed, or letters that were dropped; of a dry run those that would be.
    """
    left: Mapping[str, int]
    """Letters that match and stay in the queue: reason → how many."""
    stopped: str | None
    """Why it ended before all were looked at; None: it did not."""
    dry_run: bool
    replay_id: str | None = None
    """The beginning of nuropb_replay_id in the replayed messages."""


@dataclass(slots=True)
class Tally:
    """The counts of a run."""

    done: int = 0
    left: Counter[str] = field(default_factory=Counter)


def result_of(
    going: Pass,
    tally: Tally,
    *,
    stopped: str | None = None,
    dry_run: bool = False,
    replay_id: str | None = None,
) -> DeadLetterResult:
    """Return the result of a pass."""
    return DeadLetterResult(
        looked_at=going.looked_at,
        waiting=going.waiting,
        done=tally.done,
        left=dict(tally.left),
        stopped=stopped or going.stopped,
        dry_run=dry_run,
        replay_id=replay_id,
    )
