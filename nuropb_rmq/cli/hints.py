"""Errors about a service or method that is not there: they name the one that was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nuropb_rmq

from ..nearest import nearest
from .conventions import FAILED, CommandError

if TYPE_CHECKING:
    from nuropb_rmq import Mesh, TransportConfig

_LISTED = 10


async def no_service(
    config: TransportConfig, service: str, management_url: str | None
) -> CommandError:
    """Return the error for a service that has no queue."""
    hint = await _hint(config, service, management_url)
    return CommandError(f"there is no service {service!r} at {config.broker}: {hint}", FAILED)


async def no_dead_letters(
    config: TransportConfig, service: str, management_url: str | None
) -> CommandError:
    """Return the error for a service that has no dead-letter queue."""
    hint = await _hint(config, service, management_url)
    if hint.startswith("did you mean"):
        return await no_service(config, service, management_url)
    return CommandError(
        f"there is no queue {config.dl_queue_name!r} at {config.broker}: nuropb-rmq "
        f"configure {service}, or the start of a Mesh, makes it ({hint})",
        FAILED,
    )


async def _hint(config: TransportConfig, service: str, management_url: str | None) -> str:
    from .who import names  # noqa: PLC0415 - it loads an HTTP client

    try:
        known = await names(config, management_url)
    except nuropb_rmq.NuropbException:
        return "is its name right?"
    meant = nearest(service, known)
    if meant and meant != service:
        return f"did you mean {meant}?"
    listed = ", ".join(known[:_LISTED]) + (", …" if len(known) > _LISTED else "")
    return f"the services here: {listed}" if known else "there is no service at all"


async def check_method(mesh: Mesh, service: str, method: str, timeout: float) -> None:
    """Raise CommandError when a service describes itself, and without this method.

    Raises NuropbNotDeliveredError when there is no such service.
    """
    try:
        described = await mesh.describe_service(service, timeout=timeout)
    except nuropb_rmq.NuropbNotDeliveredError:
        raise
    except nuropb_rmq.NuropbException:
        return  # nuropb's services cannot always
    methods = [str(name) for name in described["methods"]]
    if method not in methods and method != "nuropb_describe":
        meant = nearest(method, methods)
        known = f"it has {', '.join(sorted(methods))}" if methods else "it has none"
        hint = f"did you mean {meant}?" if meant else known
        raise CommandError(f"{service} has no method {method!r}: {hint}", FAILED)
