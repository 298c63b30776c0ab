"""Conventions of the command: its environment, exit statuses and errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

URL_VARIABLE: Final = "NUROPB_RMQ_URL"
"""The environment variable for the broker's address, where --url is not given."""
NEWER: Final = "4.3"
"""The RabbitMQ that scripts/broker-4.3 fetches."""
MANAGEMENT_VARIABLE: Final = "NUROPB_RMQ_MANAGEMENT_URL"
"""The environment variable for the management API, where --management-url is not given."""
FAILED: Final = 1
"""Exit status when the broker is not there, or refuses."""
WRONG: Final = 2
"""Exit status for wrong arguments."""
PARTLY: Final = 3
"""Exit status when a part was done, or something was found."""
INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit status when a second Ctrl-C ended it."""


def import_from_here() -> str:
    """Let Python find modules in the working folder; return the folder."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return folder


class CommandError(Exception):
    """The command cannot go on; its text is for the user."""

    def __init__(self, text: str, status: int = WRONG) -> None:
        super().__init__(text)
        self.status = status


@dataclass(kw_only=True)
class Serve:
    """The options of `serve`."""

    target: str
    url: str | None
    name: str | None
    instance_id: str | None
    workers: int
    reload: bool
    configure: bool
    """False: as configure=False of a Mesh."""
    start_timeout: float | None
    grace: float
    health: bool
    metrics: tuple[str, int] | None
    """Address and port on which metrics are served."""
    report: float | None
    """Seconds between the events that `top` shows; None: there are none."""
    log_level: str
    log_config: str | None
    """A file for logging.config; None: lines of text on standard error."""
    worker: bool
    """True in a process that a parent has started: its standard input is a socket to the parent."""


def words(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a function by which a shell completes one of these words."""

    def complete(incomplete: str) -> list[str]:  # typer knows the argument by its name
        return [word for word in known if word.startswith(incomplete)]

    return complete


def counted(number: int, what: str) -> str:
    """Return a number of things, in words."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def configured_by(text: str) -> str:
    """Return an error's text with the verb `configure` in place of the library's function."""
    return text.replace("run configure()", "run nuropb-rmq configure").replace(
        "or configure()", "or run nuropb-rmq configure"
    )


def needed(url: str | None) -> str:
    """Return the broker's address: this one, or that of the environment. Raises CommandError."""
    url = url or os.environ.get(URL_VARIABLE)
    if not url:
        raise CommandError(
            f"--url is missing: give it, or set {URL_VARIABLE}, for example "
            "amqp://guest:guest@localhost/"
        )
    return url
