"""Errors about a service or method that is not there: they name the one that was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import nuropb_rmq

from ..nearest import nearest
from .conventions import FAILED, CommandError

if TYPE_CHECKING:
    from nuropb_rmq import Mesh, TransportConfig

NO_INSTANCE: Final = "does an instance of it run? See nuropb-rmq services"
_LISTED = 10


async def no_service(
    config: TransportConfig, service: str, management_url: str | None
) -> CommandError:
    """Return the error for a service that gets no calls: it has no queue, or none that is bound."""
    known = await _known(config, management_url)
    if known is not None and service in known:
        text = f"service {service!r} at {config.broker} has a queue that is not bound, so that no "
        return CommandError(f"{text}call reaches it: run nuropb-rmq doctor {service}", FAILED)
    hint = _hint(service, known)
    return CommandError(f"there is no service {service!r} at {config.broker}: {hint}", FAILED)


async def description(
    mesh: Mesh, service: str, timeout: float, management_url: str | None = None
) -> Mapping[str, Any]:
    """Return a service's description. Raises CommandError when it has none within `timeout`."""
    try:
        return await mesh.describe_service(service, timeout=timeout)
    except nuropb_rmq.NuropbNotDeliveredError as e:
        raise await no_service(mesh.transport.config, service, management_url) from e
    except nuropb_rmq.NuropbTimeoutError as e:
        why = mesh.error or NO_INSTANCE
        text = f"service {service!r} did not describe itself within {timeout:g} s (--timeout): "
        raise CommandError(f"{text}{why}", FAILED) from e
    except nuropb_rmq.NuropbMessageError as e:
        raise CommandError(f"{service} cannot be described: {e}", FAILED) from e


async def no_dead_letters(
    config: TransportConfig, service: str, management_url: str | None
) -> CommandError:
    """Return the error for a service that has no dead-letter queue."""
    hint = _hint(service, await _known(config, management_url))
    if hint.startswith("did you mean"):
        return await no_service(config, service, management_url)
    return CommandError(
        f"there is no queue {config.dl_queue_name!r} at {config.broker}: nuropb-rmq "
        f"configure {service}, or the start of a Mesh, makes it ({hint})",
        FAILED,
    )


async def _known(config: TransportConfig, management_url: str | None) -> list[str] | None:
    """Return the services that have queues; None when nobody tells."""
    from .who import names  # noqa: PLC0415 - it loads an HTTP client

    try:
        return await names(config, management_url)
    except nuropb_rmq.NuropbException:
        return None


def _hint(service: str, known: list[str] | None) -> str:
    if known is None:
        return "is its name right?"
    meant = nearest(service, known)
    if meant and meant != service:
        return f"did you mean {meant}?"
    listed = ", ".join(known[:_LISTED]) + (", …" if len(known) > _LISTED else "")
    return f"the services here: {listed}" if known else "there is no service at all"


def quoted(name: str) -> str:
    """Return how to write a parameter that is text, and looks like JSON."""
    return f"""; text is written with quotes: -p '{name}="…"'"""


async def check_method(
    mesh: Mesh, service: str, method: str, timeout: float, params: Mapping[str, Any] | None = None
) -> None:
    """Raise CommandError when a service describes itself, and not this method with these params.

    Raises NuropbNotDeliveredError when there is no such service, and NuropbTimeoutError.
    """
    from ..mesh.compatibility import misfit  # noqa: PLC0415 - a mesh has loaded it
    from ..mesh.described import methods_of  # noqa: PLC0415 - as above

    try:
        described = await mesh.describe_service(service, timeout=timeout)
    except (nuropb_rmq.NuropbNotDeliveredError, nuropb_rmq.NuropbTimeoutError):
        raise
    except nuropb_rmq.NuropbException:
        return  # nuropb's services cannot always
    methods = [str(name) for name in described["methods"]]
    if method not in methods and method != "nuropb_describe":
        meant = nearest(method, methods)
        known = f"it has {', '.join(sorted(methods))}" if methods else "it has none"
        hint = f"did you mean {meant}?" if meant else known
        raise CommandError(f"{service} has no method {method!r}: {hint}", FAILED)
    found = misfit(params or {}, methods_of(described).get(method, {}))
    if found is not None:
        name, why = found
        advice = quoted(name) if "a string is expected" in why else ""
        raise CommandError(
            f"{service}.{method} is not sent: parameter {name}: got {why}{advice}", FAILED
        )
