"""The verbs, together."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final, cast

import typer

from .._version import __version__
from ..printable import printable
from . import broker, calls, configure, describe, dlq, doctor, listen, services, streams, top
from .conventions import FAILED, INTERRUPTED, WRONG
from .verbs import BROKEN_PIPE

EXIT_STATUS: Final = (
    "Exit status: 0 done; 1 the broker or a service refuses, or is not there; 2 wrong arguments; "
    "3 done in part, or something was found; 130 ended by Ctrl-C."
)

_OPTIONS_OF_VERBS: Final = ("--url", "--json", "--log-level", "--timeout", "--management-url")

app = typer.Typer(
    name="nuropb-rmq",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback is for a bug report: whole, and plain
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_STATUS,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nuropb-rmq {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Services and messages over RabbitMQ: call, listen, look into dead letters, find faults."""


services.add_to(app)
describe.add_to(app)
calls.add_to(app)
listen.add_to(app)
dlq.add_to(app)
top.add_to(app)
configure.add_to(app)
doctor.add_to(app)
broker.add_to(app)


# Typer has a click of its own, whose classes have no public name: this finds their base.
_UsageError: Final = cast(type[Exception], typer.BadParameter.__base__)


def run(arguments: list[str]) -> int:
    """Run the command; return its exit status. A wrong argument is one line, as any error."""
    streams.prepare()
    try:
        status = app(arguments, prog_name="nuropb-rmq", standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        return INTERRUPTED
    except _UsageError as e:
        return _usage(e)
    except SystemExit as e:
        if not isinstance(e.__context__, BrokenPipeError):  # it has completed a word
            raise
        streams.give_up_output()
        return BROKEN_PIPE
    except OSError as e:
        if e.errno not in streams.FULL:
            raise
        sys.stderr.write(f"nuropb-rmq: {streams.full(e)}\n")
        return FAILED
    return status if isinstance(status, int) else 0


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return WRONG
    verb = error.ctx.command_path if error.ctx is not None else "nuropb-rmq"
    text = error.format_message().rstrip(".")
    text += "" if text.endswith("?") else "."
    is_group = error.ctx is None or hasattr(error.ctx.command, "commands")
    if is_group and getattr(error, "option_name", None) in _OPTIONS_OF_VERBS:
        text += f" It stands after the verb: {verb} VERB {error.option_name}."
    sys.stderr.write(f"nuropb-rmq: {printable(text)} See {verb} --help\n")
    return WRONG
