"""The service that `doctor` and `configure` look at: by its name, or by MODULE:NAME."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

import nuropb_rmq

from .conventions import CommandError
from .verbs import At

Target = Annotated[
    str,
    typer.Argument(
        metavar="[SERVICE|MODULE:NAME]",
        help="A service by its name; or its program, as for serve, whose settings and handlers are "
        "compared as well. [default: exchanges and the broker alone]",
        show_default=False,
    ),
]


def config_of(at: At, target: str) -> nuropb_rmq.TransportConfig:
    """Return the settings of a service, or of a client without one. Raises CommandError."""
    if ":" not in target:
        config = nuropb_rmq.TransportConfig(
            amqp_url=at.broker, service_name=target or "client", client_only=not target
        )
    else:
        config = _of_program(at, target)
    if config.broker.in_memory:
        raise CommandError("a broker in memory ends with its process: there is nothing to look at")
    return config


def _of_program(at: At, target: str) -> nuropb_rmq.TransportConfig:
    from .serve import load, made  # noqa: PLC0415 - loads the library

    found = made(load(target), target)
    if not isinstance(found, nuropb_rmq.Mesh):
        return nuropb_rmq.Mesh(at.broker, service=found).transport.config
    config = found.transport.config
    return dataclasses.replace(config, amqp_url=at.url) if at.url else config
