"""`dlq`: the dead letters of one service."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

import nuropb_rmq

from ..nearest import nearest
from .arguments import age, duration
from .conventions import FAILED, CommandError, words
from .hints import no_dead_letters
from .verbs import At, ManagementUrl, verb

if TYPE_CHECKING:
    from nuropb_rmq import DeadLetterFilter, DeadLetters

Service = Annotated[
    str, typer.Argument(metavar="SERVICE", help="Whose dead letters.", show_default=False)
]
Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="At most N.", show_default=False)
]
Payload = Annotated[
    bool,
    typer.Option(
        "--payload", help="With payloads, which may be secret; `show` and --json: headers, too."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, and do nothing.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask; for scripts.")]
DeliveryLimit = Annotated[
    bool,
    typer.Option(
        "--allow-delivery-limit",
        help="Look at a quorum queue of RabbitMQ 4.x, too, that has a delivery limit: it drops "
        "letters whose looker was killed too often.",
    ),
]
Foreign = Annotated[
    bool, typer.Option("--foreign", help="Letters of other services that are in the queue, too.")
]


def _text(help_: str, *names: str, known: Sequence[str] = ()) -> Any:
    option = typer.Option(
        *names, metavar="TEXT", help=help_, show_default=False, autocompletion=words(known)
    )
    return Annotated[str | None, option]


def _age(help_: str) -> Any:
    option = typer.Option(metavar="TIME", parser=age, help=help_, show_default=False)
    return Annotated[float | None, option]


_REASONS: Final = ("rejected", "expired", "maxlen", "delivery_limit")

_KINDS: Final = ("request", "command", "event", "response")

# Options of every verb → its argument of DeadLetterFilter.
_FILTERS: Final[dict[str, tuple[str, Any]]] = {
    "method": ("method", _text("Letters of this method.")),
    "error": ("error", _text("Of this class of exception, as `groups` shows it.")),
    "reason": ("reason", _text(f"{', '.join(_REASONS[:-1])} or {_REASONS[-1]}.", known=_REASONS)),
    "type_": ("type", _text(f"{', '.join(_KINDS[:-1])} or {_KINDS[-1]}.", "--type", known=_KINDS)),
    "topic": ("topic", _text("Events of this topic, with * and #.")),
    "correlation_id": ("correlation_id", _text("Of this message.")),
    "trace_id": ("trace_id", _text("Of this trace.")),
    "failure_id": ("failure_id", _text("Of this failure.")),
    "older_than": ("older_than", _age("Failed so long ago, at least: 90s, 10m, 2h, 3d.")),
    "newer_than": ("younger_than", _age("Failed so long ago, at most.")),
}


class _Dlq(typer.core.TyperGroup):
    """The verbs; `dlq SERVICE` is `dlq groups SERVICE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default verb before the name of a service."""
        first = args[0] if args else "-"
        if not (first.startswith("-") or first in self.commands or nearest(first, self.commands)):
            args = ["groups", *args]
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    dlq = typer.Typer(cls=_Dlq, no_args_is_help=True, context_settings=app.info.context_settings)
    verb(dlq, "groups")(_filtered(groups))
    verb(dlq, "list")(_filtered(list_))
    verb(dlq, "show")(show)
    verb(dlq, "replay")(_filtered(replay))
    verb(dlq, "purge")(_filtered(purge))
    app.add_typer(
        dlq,
        name="dlq",
        help="Look into the dead letters of a service, send them back, drop them. "
        "`dlq SERVICE` is `dlq groups SERVICE`.",
    )


def _filtered(
    function: Callable[..., Awaitable[int | None]],
) -> Callable[..., Awaitable[int | None]]:
    """Give a verb the options of a filter, in place of its parameter `matching`."""

    async def with_options(at: At, **options: Any) -> int | None:
        chosen = {field: options.pop(option) for option, (field, _) in _FILTERS.items()}
        return await function(at, matching=_filter(chosen), **options)

    kinds = get_type_hints(function, include_extras=True, localns={"DeadLetterFilter": object})
    own = inspect.signature(function).parameters.values()
    parameters = [each.replace(annotation=kinds[each.name]) for each in own]
    parameters = [each for each in parameters if each.name != "matching"]
    for name, (_, kind) in _FILTERS.items():
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, keyword, default=None, annotation=kind))
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    with_options.__name__, with_options.__doc__ = function.__name__, function.__doc__
    return with_options


def _filter(chosen: dict[str, Any]) -> DeadLetterFilter:
    """Return a filter. Raises CommandError, with the name of an option."""
    reason = chosen["reason"]
    if reason is not None and reason not in _REASONS:
        raise CommandError(f"--reason: expected one of {', '.join(_REASONS)}, got {reason!r}")
    try:
        return nuropb_rmq.DeadLetterFilter(**chosen)
    except nuropb_rmq.NuropbConfigurationError as e:
        option = next(name for name, (field, _) in _FILTERS.items() if field == e.field)
        text = str(e).removeprefix(e.field)
        raise CommandError(f"--{option.rstrip('_').replace('_', '-')}{text}") from e


@asynccontextmanager
async def _letters(
    at: At, service: str, management_url: str | None, allow: bool
) -> AsyncIterator[DeadLetters]:
    config = nuropb_rmq.TransportConfig(amqp_url=at.broker, service_name=service)
    letters = nuropb_rmq.DeadLetters(config, api_url=management_url, allow_delivery_limit=allow)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(letters)
        except nuropb_rmq.ServiceNotConfigured as e:
            if "NOT_FOUND" not in str(e):
                raise
            raise await no_dead_letters(config, service, management_url) from e
        yield letters


async def groups(
    at: At,
    service: Service,
    matching: DeadLetterFilter,
    *,
    limit: Limit = None,
    allow_delivery_limit: DeliveryLimit = False,
    management_url: ManagementUrl = None,
) -> int:
    """Count dead letters by what failed and how: one line for each cause.

    nuropb-rmq dlq groups orders --newer-than 2h
    """
    from . import letters  # noqa: PLC0415 - rich takes a while to load

    async with _letters(at, service, management_url, allow_delivery_limit) as found:
        with letters.progress_of(at.out, found, "looking"):
            counted = await found.groups(matching)
        stopped = found.progress.stopped
    filtered = matching != nuropb_rmq.DeadLetterFilter()
    letters.print_groups(at, service, counted, limit=limit, filtered=filtered)
    return letters.status_of(at, stopped)


async def list_(
    at: At,
    service: Service,
    matching: DeadLetterFilter,
    *,
    limit: Limit = 100,
    payload: Payload = False,
    allow_delivery_limit: DeliveryLimit = False,
    management_url: ManagementUrl = None,
) -> int | None:
    """List dead letters, the oldest first.

    nuropb-rmq dlq list orders --error ConnectionError --limit 10
    """
    from . import letters  # noqa: PLC0415 - rich takes a while to load

    async with _letters(at, service, management_url, allow_delivery_limit) as found:
        with letters.progress_of(at.out, found, "looking"):
            async with aclosing(found.list(matching, limit=limit)) as listed:
                kept = [letters.Shown(each, payload=payload) async for each in listed]
        progress = found.progress
    letters.print_list(at, service, kept, limit=limit)
    return letters.status_of(at, progress.stopped)


async def show(
    at: At,
    service: Service,
    identity: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Failure id or correlation id of a letter, or the beginning of it.",
            show_default=False,
        ),
    ],
    *,
    payload: Payload = False,
    allow_delivery_limit: DeliveryLimit = False,
    management_url: ManagementUrl = None,
) -> None:
    """Show all that is known of one dead letter, with its traceback.

    nuropb-rmq dlq show orders 0f4b1c --payload
    """
    from . import letters  # noqa: PLC0415 - rich takes a while to load

    async with _letters(at, service, management_url, allow_delivery_limit) as found:
        with letters.progress_of(at.out, found, "looking"):
            async with aclosing(found.list()) as listed:
                kept = [
                    letters.Shown(each, payload=payload)
                    async for each in listed
                    if letters.is_called(each, identity)
                ]
    if not kept:
        raise CommandError(
            f"{service} has no dead letter whose failure id or correlation id begins with "
            f"{identity!r}: see nuropb-rmq dlq list {service}",
            FAILED,
        )
    letters.print_whole(at, service, kept)


async def replay(
    at: At,
    service: Service,
    matching: DeadLetterFilter,
    *,
    limit: Limit = None,
    requests: Annotated[
        bool, typer.Option("--requests", help="Requests, too, though their callers have given up.")
    ] = False,
    foreign: Foreign = False,
    expiration: Annotated[
        float | None,
        typer.Option(
            metavar="TIME",
            parser=duration,
            help="Time in which they must be handled, like 2h; any time without it.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    allow_delivery_limit: DeliveryLimit = False,
    management_url: ManagementUrl = None,
) -> int | None:
    """Send dead letters back to the queue of their service.

    nuropb-rmq dlq replay orders --error ConnectionError --limit 10

    It says how many, and asks, before it acts. None is lost; if it is killed, or a connection is
    lost, at most 64 are handled twice.
    """
    from .settling import Work  # noqa: PLC0415 - rich takes a while to load

    async with _letters(at, service, management_url, allow_delivery_limit) as found:
        work = Work(at, service, found, verb="replay", done="replayed")
        again = partial(found.replay, matching, requests=requests, foreign=foreign)
        return await work.run(
            lambda: again(dry_run=True, limit=limit),
            lambda most: again(expiration=expiration, limit=limit if most is None else most),
            dry_run=dry_run,
            yes=yes,
        )


async def purge(
    at: At,
    service: Service,
    matching: DeadLetterFilter,
    *,
    limit: Limit = None,
    foreign: Foreign = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    allow_delivery_limit: DeliveryLimit = False,
    management_url: ManagementUrl = None,
) -> int | None:
    """Drop dead letters: they are gone.

    nuropb-rmq dlq purge orders --older-than 30d

    It says how many, and asks, before it acts.
    """
    from .settling import Work  # noqa: PLC0415 - rich takes a while to load

    async with _letters(at, service, management_url, allow_delivery_limit) as found:
        work = Work(at, service, found, verb="purge", done="dropped")
        drop = partial(found.purge, matching, foreign=foreign)
        return await work.run(
            lambda: drop(dry_run=True, limit=limit),
            lambda most: drop(limit=limit if most is None else most),
            dry_run=dry_run,
            yes=yes,
        )
