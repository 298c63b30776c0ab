"""Verbs for whoever writes services: serve one, and write the typed interface of one."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from .. import health_probe
from .conventions import Serve
from .verbs import At, LogLevel, Name, Timeout, Url, ended, log_as_configured, log_to_stderr, verb

_EXIT: Final = (
    "Exit status: 0 stopped by a signal; 1 the broker is not there, or refuses; 2 wrong "
    "arguments; 130 ended by a second Ctrl-C."
)
_HIGHEST_PORT: Final = 65_535
_LONGEST: Final = 86_400


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("serve", epilog=_EXIT)(serve)
    verb(app, "stubs")(stubs)
    # Only for the list of verbs, and completion: cli.main() gives its arguments to health_probe.
    app.command("health", help="Ask the services of this machine whether they are ready.")(_health)


def serve(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="A class that is made without arguments, an object, or a Mesh.",
            show_default=False,
        ),
    ],
    *,
    url: Url = "",
    name: Annotated[
        str | None,
        typer.Option(metavar="SERVICE", help="The service's name, else its _service_name."),
    ] = None,
    instance_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Unique among its instances.")
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that serve it.")] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a file of this folder changes.")
    ] = False,
    no_configure: Annotated[
        bool,
        typer.Option(
            "--no-configure",
            help="Make no exchanges and no dead-letter queue: `nuropb-rmq configure` has made "
            "them. As configure=False of a Mesh.",
        ),
    ] = False,
    start_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            max=_LONGEST,
            help="Wait so long for a broker that is still starting.",
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, max=_LONGEST, help="Time to finish."),
    ] = 10.0,
    health: Annotated[
        bool,
        typer.Option(
            "--health", help="Answer `nuropb-rmq health` at a Unix socket; each worker at its own."
        ),
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDR:]PORT",
            help="Serve metrics for Prometheus there, on loopback without ADDR. The second of "
            "several workers has the next port, and so on.",
        ),
    ] = None,
    report: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=_LONGEST,
            help="Publish its own figures so often, as an event: for `nuropb-rmq top`.",
        ),
    ] = None,
    log_level: LogLevel = "info",
    log_config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json",
            help="Set up logging by this file, for logging.config.dictConfig(): JSON lines, say. "
            "Then --log-level sets nothing.",
        ),
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Serve an object until SIGTERM or SIGINT.

    Then it takes nothing new, finishes what is in hand within --grace seconds, and exits with
    status 0. A second Ctrl-C exits at once.
    """
    log_to_stderr(log_level)
    if log_config is not None:
        log_as_configured(log_config)
    options = Serve(
        target=target,
        url=url or None,
        name=name,
        instance_id=instance_id,
        workers=workers,
        reload=reload,
        configure=not no_configure,
        start_timeout=start_timeout,
        grace=grace,
        health=health,
        metrics=None if metrics is None else _address(metrics),
        report=report,
        log_level=log_level,
        log_config=log_config,
        worker=worker,
    )
    raise typer.Exit(ended(lambda: _serve(options)))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if port.isdecimal() and int(port) <= _HIGHEST_PORT:
        return host.strip("[]") or "127.0.0.1", int(port)
    raise typer.BadParameter(
        f"expected PORT or ADDR:PORT, like 9464, got {text!r}.", param_hint="--metrics"
    )


def _serve(options: Serve) -> int:
    # Loaded now: the parent of workers needs no more than it must.
    if not options.worker and (options.workers > 1 or options.reload):
        from . import workers  # noqa: PLC0415

        return workers.supervise(options)
    from . import serve  # noqa: PLC0415

    return serve.serve(options)


def _health(
    *,
    ready: Annotated[bool, typer.Option("--ready", help="Is it ready for messages?")] = True,
    live: Annotated[bool, typer.Option("--live", help="Is it alive?")] = False,
    service: Annotated[str, typer.Option(help="Ask only its instances.")] = "",
    instance: Annotated[str, typer.Option(help="Ask only this one.")] = "",
    dir: Annotated[str, typer.Option(help="Where their sockets are.")] = "",  # noqa: A002
    timeout: Annotated[float, typer.Option(help="Seconds to answer.")] = 1.0,
) -> None:
    """Be completed by shells; cli.main() never comes here."""
    raise typer.Exit(health_probe.main([]))


async def stubs(
    at: At,
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="The service's name.", show_default=False)
    ],
    *,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="NAME", help="Of the Protocol, else made of the service's."
        ),
    ] = None,
    blocking: Annotated[
        bool,
        typer.Option("--blocking", help="For nuropb_rmq.blocking: `def`, not `async def`."),
    ] = False,
    name: Name = "client",
    timeout: Timeout = 10.0,
) -> None:
    """Write the source of a Protocol with the methods of a running service.

    For Mesh.client(), so that editors and type checkers see its calls:
    nuropb-rmq stubs orders > orders_client.py

    Types are as exact as the service's description: nuropb's services tell simple ones only.
    """
    from .stubs import write_stubs  # noqa: PLC0415

    await write_stubs(at, service, class_name, blocking=blocking, name=name, timeout=timeout)
