"""Call a service, and publish an event."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any, Final

import typer

import nuropb_rmq

from .arguments import duration, mapping, value
from .conventions import FAILED, CommandError
from .hints import NO_INSTANCE, check_method, no_service, quoted
from .verbs import At, BrokerTimeout, ManagementUrl, Name, Timeout, verb

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Its name.", show_default=False)]
Method = Annotated[str, typer.Argument(metavar="METHOD", help="The method.", show_default=False)]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        help="A parameter; VALUE is JSON, or else text. @FILE.json has all of them, @- is standard "
        "input. May be repeated.",
    ),
]
Context = Annotated[
    list[str] | None,
    typer.Option("--context", metavar="NAME=VALUE", help="Of the call's context, like -p."),
]
Encrypted = Annotated[
    bool | None,
    typer.Option(
        "--encrypted/--plain",
        help="Encrypt the call, or never; else as the method's description requires.",
        show_default=False,
    ),
]
Ttl = Annotated[
    float | None,
    typer.Option(
        metavar="TIME",
        parser=duration,
        help="Its expiration, like 90s, 10m or 2h.",
        show_default=False,
    ),
]
_WANTS_TEXT: Final = re.compile(r"params\.(\w+): expected a string")
_DESCRIBED_WITHIN: Final = 5.0
"""Seconds that a service has to describe itself, when that only makes an error clearer."""
_LEAST_TO_SEND: Final = 0.01
"""Seconds for the broker where the description has taken the time."""


def add_to(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "request")(request)
    verb(app, "command")(command)
    verb(app, "publish")(publish)


async def request(
    at: At,
    service: Service,
    method: Method,
    *,
    param: Params = None,
    context: Context = None,
    name: Name = "client",
    timeout: Timeout = 30.0,
    encrypted: Encrypted = None,
    management_url: ManagementUrl = None,
) -> None:
    """Call a method, and print its result as JSON.

    nuropb-rmq request orders get_total -p order_id=A-1
    """
    params, about = mapping("--param", param), mapping("--context", context)
    async with at.mesh(timeout, name) as mesh:
        try:
            result = await mesh.request(
                service, method, params, context=about, timeout=timeout, encrypted=encrypted
            )
        except nuropb_rmq.NuropbNotDeliveredError as e:
            raise await no_service(mesh.transport.config, service, management_url) from e
        except nuropb_rmq.NuropbTimeoutError as e:
            raise CommandError(
                f"{service}.{method}: no answer within {timeout:g} s (--timeout): "
                f"{_why_no_answer(mesh, e)}",
                FAILED,
            ) from e
        except nuropb_rmq.NuropbRemoteError as e:
            await check_method(mesh, service, method, _DESCRIBED_WITHIN)
            raise CommandError(f"{service}.{method}: {e}{_of_quotes(e, params)}", FAILED) from e
    if at.json:
        at.out.data(result)
    else:
        at.out.value(result)


def _why_no_answer(mesh: nuropb_rmq.Mesh, error: nuropb_rmq.NuropbTimeoutError) -> str:
    if mesh.state is not nuropb_rmq.State.READY or mesh.stats().reconnects:
        not_sent = isinstance(error, nuropb_rmq.NuropbNotSentError)
        done = "it was not sent" if not_sent else "it may have been done"
        return f"{mesh.error or 'the connection was lost meanwhile'}; {done}"
    return NO_INSTANCE


def _of_quotes(error: nuropb_rmq.NuropbRemoteError, params: dict[str, Any]) -> str:
    """Return how to write a text that looks like JSON, where that was perhaps meant."""
    found = _WANTS_TEXT.search(str(error))
    value = params.get(found[1]) if found else None
    if isinstance(value, str) or value is None or found is None:
        return ""
    return quoted(found[1])


async def command(
    at: At,
    service: Service,
    method: Method,
    *,
    param: Params = None,
    context: Context = None,
    ttl: Ttl = None,
    name: Name = "client",
    timeout: BrokerTimeout = 30.0,
    encrypted: Encrypted = None,
    management_url: ManagementUrl = None,
) -> None:
    """Call a method without an answer; return when the broker has it.

    nuropb-rmq command orders ship -p order_id=A-1 --ttl 2h

    A method that the service does not describe is refused, and so is a parameter that is no text
    where its description wants text. With --plain nothing is asked.
    """
    params, about = mapping("--param", param), mapping("--context", context)
    async with at.mesh(timeout, name) as mesh:
        began = time.monotonic()
        try:
            if encrypted is not False:
                await check_method(mesh, service, method, timeout, params)
            await mesh.command(
                *(service, method, params),
                context=about,
                ttl=ttl,
                timeout=max(timeout - (time.monotonic() - began), _LEAST_TO_SEND),
                encrypted=encrypted,
            )
        except nuropb_rmq.NuropbNotDeliveredError as e:
            raise await no_service(mesh.transport.config, service, management_url) from e
        except nuropb_rmq.NuropbTimeoutError as e:
            if mesh.error is not None or encrypted is False:
                raise CommandError(f"{service}.{method}: {mesh.error or e}", FAILED) from e
            raise CommandError(
                f"{service}.{method}: not sent within {timeout:g} s (--timeout): {NO_INSTANCE}; "
                "--plain sends it without asking the service first",
                FAILED,
            ) from e
    _sent(at, {"service": service, "method": method}, f"{service}.{method}: the broker has it")


async def publish(
    at: At,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Like orders.created.")],
    event: Annotated[
        str,
        typer.Argument(
            metavar="[VALUE]",
            help="JSON, or else text; @FILE.json or - (standard input) have JSON. [default: null]",
            show_default=False,
        ),
    ] = "null",
    *,
    context: Context = None,
    ttl: Ttl = None,
    name: Name = "client",
    timeout: BrokerTimeout = 30.0,
) -> None:
    """Publish an event; return when the broker has it. Nobody has to listen.

    nuropb-rmq publish orders.created '{"order_id": "A-1"}'
    """
    body, about = value("VALUE", event), mapping("--context", context)
    async with at.mesh(timeout, name) as mesh:
        await mesh.publish_event(topic, body, context=about, ttl=ttl, timeout=timeout)
    _sent(at, {"topic": topic}, f"{topic}: the broker has it")


def _sent(at: At, data: dict[str, Any], text: str) -> None:
    if at.json:
        at.out.data({**data, "sent": True})
    else:
        at.out.note(text)
