"""The public names, their signatures, and the loggers are those of tests/data/public-api.txt."""

from __future__ import annotations

import difflib

import pytest

from tests.tools.public_api import COMMAND, PACKAGE, ROOT, SNAPSHOT, loggers, snapshot


def test_names_and_signatures_are_frozen() -> None:
    frozen, now = SNAPSHOT.read_text(encoding="utf-8"), snapshot()
    if frozen != now:
        changes = difflib.unified_diff(
            frozen.splitlines(), now.splitlines(), "frozen", "now", n=1, lineterm=""
        )
        pytest.fail(
            f"The public surface has changed. If that is meant, write {SNAPSHOT.relative_to(ROOT)} "
            f"anew with `{COMMAND}`, and tell users in CHANGELOG.md.\n" + "\n".join(changes),
            pytrace=False,
        )


def test_loggers_are_named_after_folders() -> None:
    """A user who silences `nuropb_rmq.broker` silences all of that folder, and nothing else."""
    named = list(loggers())
    assert named
    for module, logger in named:
        folder = f"{PACKAGE}.{module.partition('.')[0]}"
        assert f"{logger}.".startswith(f"{folder}."), f"{module}: {logger}"
