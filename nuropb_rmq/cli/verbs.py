"""Verbs of the command: the options and errors that all of them share.

A verb is an `async def verb(at: At, …)`; its own parameters are typer's. The library is loaded when
a verb runs, so `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec, get_type_hints

import typer

import nuropb_rmq

from ..printable import printable
from . import streams
from .conventions import (
    FAILED,
    INTERRUPTED,
    MANAGEMENT_VARIABLE,
    URL_VARIABLE,
    WRONG,
    CommandError,
    configured_by,
    import_from_here,
    needed,
    words,
)

if TYPE_CHECKING:
    from nuropb_rmq import Mesh

    from .output import Output

P = ParamSpec("P")

_LEAST_TO_CONNECT: Final = 3.0
BROKEN_PIPE: Final = 128 + 13
"""Exit status of what a reader has left, as shells have it for SIGPIPE."""

Url = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="The broker: amqp://user:password@host/vhost, amqps://…?cafile=ca.pem, or "
        f"memory://NAME. Rather set {URL_VARIABLE}: others on this machine see arguments.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar=MANAGEMENT_VARIABLE,
        show_envvar=False,
        help="The management API, with a user of its own or without, like "
        "http://user:password@host:15672. Else it is looked for on the broker's first host, at its "
        "port + 10000.",
        show_default=False,
    ),
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.01, max=86_400, help="Time for the answer.")
]
Name = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The name of this program on the mesh. Its queue for answers, nuropb-NAME-…-rq, has "
        "to fit the permissions of the user.",
    ),
]
BrokerTimeout = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.01, max=86_400, help="Time for the broker.")
]
_LEVELS: Final = ("debug", "info", "warning", "error")
LogLevel = Annotated[
    str,
    typer.Option(
        metavar="LEVEL",
        help="Log to standard error: debug, info, warning or error.",
        autocompletion=words(_LEVELS),
    ),
]


@dataclasses.dataclass(frozen=True)
class At:
    """The broker that a verb works at, and how it prints."""

    url: str = ""
    json: bool = False

    @cached_property
    def out(self) -> Output:
        """Standard output, and standard error for what is not the result."""
        from .output import Output  # noqa: PLC0415 - rich takes a while to load

        return Output(json=self.json)

    @property
    def broker(self) -> str:
        """The broker's URL. Raises CommandError when there is none."""
        return needed(self.url)

    @asynccontextmanager
    async def mesh(self, within: float, name: str) -> AsyncIterator[Mesh]:
        """Open a mesh that only calls, and makes nothing on the broker but its queue for answers.

        within: seconds that the whole is to take; a broker that hangs gets no more to let us in.
        name: its service_name. Raises CommandError when that queue is not permitted.
        """
        config = nuropb_rmq.TransportConfig(
            amqp_url=self.broker, service_name=name, client_only=True
        )
        most = min(config.connect_timeout, max(within, _LEAST_TO_CONNECT))
        config = dataclasses.replace(config, connect_timeout=most)
        try:
            async with nuropb_rmq.Mesh(config, configure=False) as mesh:
                yield mesh
        except nuropb_rmq.BrokerAuthenticationError as e:
            if f"queue 'nuropb-{name}-" not in str(e):
                raise
            raise CommandError(f"{e}; or is it permitted by another name (--name)?", FAILED) from e


Verb = Callable[Concatenate[At, P], Awaitable[int | None]]


def verb(app: typer.Typer, name: str, *, epilog: str | None = None) -> Callable[[Verb[P]], Verb[P]]:
    """Add a verb to an application; it gets the shared options, and its errors become lines.

    A verb returns its exit status; None is 0.
    """

    def add(function: Verb[P]) -> Verb[P]:
        def command(*arguments: Any, url: str, json: bool, log_level: str, **options: Any) -> None:
            log_to_stderr(log_level)

            import asyncio  # noqa: PLC0415 - as above: --help needs no event loop

            async def main() -> int | None:
                return await function(At(url, json), *arguments, **options)

            raise typer.Exit(ended(lambda: asyncio.run(main())))

        own = get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        parameters = [
            each.replace(annotation=own[each.name])
            for each in list(signature.parameters.values())[1:]
        ]
        keyword, shared = inspect.Parameter.KEYWORD_ONLY, []
        for option, kind, default in (
            ("url", Url, ""),
            ("json", Json, False),
            ("log_level", LogLevel, "error"),
        ):
            shared.append(inspect.Parameter(option, keyword, default=default, annotation=kind))
        command.__signature__ = inspect.Signature([*parameters, *shared])  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in (*parameters, *shared)}
        command.__name__, command.__doc__ = function.__name__, _unwrapped(function)
        app.command(name, epilog=epilog)(command)
        return function

    return add


def _unwrapped(function: Callable[..., object]) -> str:
    """Return a docstring with each paragraph on a line: the help is as wide as the terminal."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def ended(body: Callable[[], int | None]) -> int:
    """Run a verb to its end; return its exit status. What a user can mend is one line."""
    status = text = None
    try:
        status = body() or 0
        sys.stdout.flush()
    except CommandError as e:
        text, status = str(e), e.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        streams.give_up_output()
        return BROKEN_PIPE
    except nuropb_rmq.NuropbConfigurationError as e:
        text, status = str(e), WRONG
    except nuropb_rmq.ServiceNotConfigured as e:
        text, status = configured_by(str(e)), FAILED
    except nuropb_rmq.NuropbException as e:  # before OSError: a timeout is one, too
        text, status = str(e) or type(e).__name__, FAILED
    except OSError as e:
        if e.errno not in streams.FULL:
            raise
        text, status = streams.full(e), FAILED
    if text:
        sys.stderr.write(f"nuropb-rmq: {printable(text)}\n")  # a peer may have written it
    return status


def log_to_stderr(level: str) -> None:
    """Set up logging. Raises typer.BadParameter for an unknown level."""
    if level not in _LEVELS:
        raise typer.BadParameter(f"expected one of {', '.join(_LEVELS)}", param_hint="--log-level")
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s %(process)d: %(message)s",
    )


def log_as_configured(path: str) -> None:
    """Set up logging by a file for dictConfig(). Raises typer.BadParameter."""
    import json  # noqa: PLC0415 - the help needs none of these
    import logging.config  # noqa: PLC0415

    import_from_here()  # a formatter may be one of the program's own
    try:
        with open(path, "rb") as file:
            logging.config.dictConfig({"disable_existing_loggers": False, **json.load(file)})
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as e:
        cause = f" ({e.__cause__})" if e.__cause__ else ""
        raise typer.BadParameter(f"{path}: {e}{cause}", param_hint="--log-config") from e
