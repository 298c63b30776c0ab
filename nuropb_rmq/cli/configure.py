"""`configure`: make what is missing on the broker."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

import nuropb_rmq

from .conventions import FAILED, CommandError, words
from .subject import Target, config_of
from .verbs import At, ManagementUrl, verb

if TYPE_CHECKING:
    from ..broker.topology import Binding
    from ..doctor.plan import Plan

_TYPES: Final = ("classic", "quorum")


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "configure")(configure)


async def configure(
    at: At,
    target: Target = "",
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    queue_type: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="classic or quorum: make the queue of SERVICE, too. MODULE:NAME has its own.",
            autocompletion=words(_TYPES),
        ),
    ] = "",
    retry_delays: Annotated[
        str,
        typer.Option(metavar="SECONDS,…", help="Delays of SERVICE's retries, a queue for each."),
    ] = "",
    event_binding: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC", help="Bind SERVICE's queue to it. May be repeated."),
    ] = None,
    unbind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXCHANGE:KEY", help="Take out this binding of its queue. May be repeated."
        ),
    ] = None,
    management_url: ManagementUrl = None,
) -> None:
    """Make what is missing: virtual host, exchanges, dead-letter queue, bindings.

    nuropb-rmq configure orders:Orders --dry-run

    With MODULE:NAME, or with --queue-type, the queues of the service, too: messages wait in them
    for its first start. Queues and exchanges that are there stay as they are; the dead-letter queue
    loses bindings by which an earlier version gave it letters that are not its service's.
    """
    from ..doctor.facts import Subject  # noqa: PLC0415 - loads the library

    config = _with_options(config_of(at, target), target, queue_type, retry_delays, event_binding)
    with_queue = ":" in target or bool(queue_type)
    bindings = _bindings(config, unbind or [])
    subject = Subject(config=config, target=target, api_url=management_url or None)
    plan = await _plan(subject, with_queue, needed=dry_run)
    if not dry_run:
        await _make(config, management_url or None, with_queue, bindings)
    _tell(at, plan, unbind or [], dry_run)


def _with_options(
    config: nuropb_rmq.TransportConfig,
    target: str,
    queue_type: str,
    retry_delays: str,
    topics: list[str] | None,
) -> nuropb_rmq.TransportConfig:
    given: dict[str, Any] = {
        "queue_type": queue_type,
        "retry_delays": _delays(retry_delays),
        "event_bindings": topics,
    }
    changes = {name: value for name, value in given.items() if value}
    if not changes:
        return config
    named = ", ".join(f"--{name.replace('_', '-').removesuffix('s')}" for name in changes)
    if not target or ":" in target:
        raise CommandError(f"{named}: for a SERVICE; MODULE:NAME has its own settings")
    if queue_type and queue_type not in _TYPES:
        raise CommandError(f"--queue-type: expected {' or '.join(_TYPES)}, got {queue_type!r}")
    if topics and not queue_type:
        raise CommandError("--event-binding: give --queue-type, too: it is the queue that is bound")
    return dataclasses.replace(config, **changes)


def _delays(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")] if text else []
    except ValueError:
        raise CommandError(f"--retry-delays: expected seconds, as 1,30, got {text!r}") from None


def _bindings(config: nuropb_rmq.TransportConfig, unbind: list[str]) -> list[Binding]:
    from ..broker.topology import Binding  # noqa: PLC0415 - loads the library

    found = []
    for each in unbind:
        for exchange in (config.rpc_exchange, config.events_exchange):
            if each.startswith(f"{exchange}:") and not config.client_only:
                key = each.removeprefix(f"{exchange}:")
                found.append(Binding(config.service_queue_name, exchange, key))
                break
        else:
            raise CommandError(
                f"--unbind: expected {config.rpc_exchange}:KEY or {config.events_exchange}:KEY, "
                f"and a service, got {each!r}"
            )
    return found


async def _plan(subject: Any, with_queue: bool, *, needed: bool) -> Plan | None:
    """Return what is to be done; None when that cannot be seen, unless it is needed."""
    from ..doctor.facts import Unseen  # noqa: PLC0415 - loads the library
    from ..doctor.plan import plan  # noqa: PLC0415

    try:
        return await plan(subject, with_queue=with_queue)
    except Unseen as e:
        if needed:
            raise CommandError(
                f"what is missing cannot be seen: {e}; give --management-url", FAILED
            ) from e
        return None


async def _make(
    config: nuropb_rmq.TransportConfig,
    management_url: str | None,
    with_queue: bool,
    unbind: list[Binding],
) -> None:
    from ..broker.provision import configure_service_queue, take_out  # noqa: PLC0415 - as above

    await nuropb_rmq.configure(config, api_url=management_url)
    if with_queue:
        await configure_service_queue(config)
    if unbind:
        await take_out(config, unbind)


def _tell(at: At, plan: Plan | None, unbound: list[str], dry_run: bool) -> None:
    if at.json:
        unknown = dict.fromkeys(("missing", "removed", "unused"))
        told = unknown if plan is None else dataclasses.asdict(plan)
        at.out.data({"made": not dry_run, **told, "unbound": unbound})
        return
    missing, removed = ((), ()) if plan is None else (plan.missing, plan.removed)
    verb, taken = ("would make", "would take out") if dry_run else ("made", "took out")
    for each in missing:
        at.out.line(f"{verb} {each}")
    for each in removed:
        at.out.line(f"{taken} {each}")
    for binding in unbound:
        at.out.line(f"{taken} binding {binding}")
    for each in () if plan is None else plan.unused:
        at.out.line(f"{each} is for a delay that the service does not have: delete it when empty")
    if plan is None:
        at.out.line("all that is needed is there now")
    elif not (missing or removed or unbound):
        at.out.line("nothing is missing")
