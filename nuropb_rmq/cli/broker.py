"""`broker`: a throwaway RabbitMQ in the foreground."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from .conventions import NEWER, words
from .verbs import Json, ended, log_to_stderr

_HIGHEST_PORT: Final = 65_535

Port = Annotated[
    int | None,
    typer.Option(metavar="PORT", min=1, max=_HIGHEST_PORT, help="For AMQP. Else a free one."),
]
Version = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION",
        help=f"{NEWER}: the one that scripts/broker-{NEWER} has fetched. "
        "Else the one that is installed.",
        autocompletion=words((NEWER,)),
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("broker")(broker)


def broker(*, port: Port = None, version: Version = None, json: Json = False) -> None:
    """Run a RabbitMQ of your own in the foreground, until Ctrl-C; then nothing of it is left.

    It listens on 127.0.0.1 only, with the user guest, and keeps nothing. It needs RabbitMQ to be
    installed, and touches no broker that runs already.
    """
    from . import foreground  # noqa: PLC0415 - the help loads no event loop

    log_to_stderr("warning")
    raise typer.Exit(ended(lambda: foreground.run(port, version, json=json)))
