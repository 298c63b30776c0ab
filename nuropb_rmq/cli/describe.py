"""`services` and `describe`: who is there, and what they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

import nuropb_rmq

from .hints import description
from .verbs import At, ManagementUrl, Name, Timeout, verb


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "services")(services)
    verb(app, "describe")(describe)


async def services(at: At, *, management_url: ManagementUrl = None) -> None:
    """List the services of a virtual host, as their queues tell: by the management API.

    nuropb-rmq services

    Counts are up to 5 seconds old. Services with queues of other names are not seen.
    """
    from . import who  # noqa: PLC0415 - it loads an HTTP client

    config = nuropb_rmq.TransportConfig(amqp_url=at.broker, service_name="client", client_only=True)
    known = sorted(await who.services(config, management_url), key=lambda each: each.name)
    if at.json:
        at.out.data([asdict(each) for each in known])
        return
    if not known:
        at.out.line(f"no services at {config.broker}")
        return
    numbers = ("instances", "waiting", "in hand", "dead letters")
    rows = [
        (each.name, each.instances, each.waiting, each.in_hand, each.dead_letters, each.type)
        for each in known
    ]
    at.out.table(("service", *numbers, "queue"), rows, right=numbers)
    for each in known:
        if not each.instances:
            at.out.note(f"{each.name}: no instance was there, up to 5 s ago", style="yellow")


async def describe(
    at: At,
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="Its name.", show_default=False)
    ],
    *,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="Print an AsyncAPI 3.0 document, which is JSON.")
    ] = False,
    name: Name = "client",
    timeout: Timeout = 10.0,
    management_url: ManagementUrl = None,
) -> None:
    """Print what a running service offers: methods, parameters, events.

    nuropb-rmq describe orders --asyncapi > orders.json

    Events are known by the management API, for a service does not tell them.
    """
    from . import who  # noqa: PLC0415 - it loads an HTTP client

    async with at.mesh(timeout, name) as mesh:
        config = mesh.transport.config
        described = await description(mesh, service, timeout, management_url)
    try:
        topics = await who.topics(config, service, management_url)
    except nuropb_rmq.NuropbException as e:
        at.out.note(f"its events are not known: {e}", style="yellow")
        topics = None
    if asyncapi:
        from .asyncapi import document  # noqa: PLC0415 - only then

        found = document(config, service, described, topics or ())
        at.out.document(found)
    elif at.json:
        at.out.data({**described, "events": topics})
    else:
        _print(at, service, described, topics)


def _print(at: At, service: str, described: Mapping[str, Any], topics: list[str] | None) -> None:
    from ..mesh.described import methods_of  # noqa: PLC0415 - a mesh has loaded it
    from .signature import Signatures  # noqa: PLC0415 - as above

    signatures = Signatures()
    version = described.get("service_version")
    at.out.line(service if version is None else f"{service} {version}", style="bold")
    _print_text(at, described.get("description"), "")
    for name, method in sorted(methods_of(described).items()):
        at.out.line()
        at.out.line(signatures.of(name, method), style="cyan")
        if method.get("requires_encryption"):
            at.out.line("    encrypted: the service requires it", style="yellow")
        _print_text(at, method.get("description"), "    ")
    for number, (name, fields) in enumerate(signatures.classes()):
        if not number:
            at.out.line()
        at.out.line(f"{name}: {fields}")
    if topics:
        at.out.line()
        at.out.line(f"events: {', '.join(topics)}")


def _print_text(at: At, text: object, indent: str) -> None:
    if isinstance(text, str) and text.strip():
        for line in text.strip().split("\n"):
            at.out.line(f"{indent}{line}" if line.strip() else "")
