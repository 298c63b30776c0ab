"""The command `nuropb-rmq`, and `python -m nuropb_rmq`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from ..health_probe import main as health
from .conventions import WRONG


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--"]:  # no option comes before the verb
        given = given[1:]
    if given[:1] == ["health"]:  # a probe loads nothing that it does not need
        return health(given[1:])
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        sys.stderr.write(f"nuropb-rmq needs {names}: pip install 'nuropb-rmq-aio[cli]'\n")
        return WRONG
    from .app import run  # noqa: PLC0415

    return run(given)
