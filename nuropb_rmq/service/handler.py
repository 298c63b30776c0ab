"""Run the method or the event handlers that a message is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from ..exceptions import (
    EncryptionRequiredError,
    NuropbAuthorizationError,
    NuropbHandlingError,
    NuropbSuccess,
    NuropbValidationError,
)
from ..nearest import nearest
from ..protocol import handled, payloads
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import MessageType
from ..protocol.handled import Told
from ..protocol.message import Completion
from ..safe_logging import Blame, blame
from .decorators import EventWithToken, NuropbContextManager, check_event
from .marks import Marks, admitted
from .methods import DESCRIBE, EventHandler, Method, Published
from .nuropb_decorators import translated
from .thread_pool import Threads
from .type_hints import Mismatch

__all__ = ["Serving"]

_TOPICS_REMEMBERED: Final = 1024
_LONGEST_NAME: Final = 100

Context = Mapping[str, Any]


class Serving:
    """The handler of a service's transport.

    `threads`: where synchronous methods run; None: on the event loop. `passes_token_on`: whether
    the events that a method adds go with the token of its caller, whatever they say.
    """

    def __init__(
        self,
        published: Published,
        *,
        threads: Threads | None,
        passes_token_on: bool = False,
    ) -> None:
        self._published = published
        self._methods = published.methods
        self._threads = threads
        self._checks = published.checks
        self._passes_token_on = passes_token_on
        self._description = published.describe()
        self._handlers = lru_cache(_TOPICS_REMEMBERED)(published.handlers)

    async def handle(self, message: Told) -> Any:
        """Do what the message wants; raises whatever the method raises, as an Exception."""
        try:
            if message.kind is MessageType.EVENT:
                return await self._event(message)
            payload = message.payload
            name = payload["method"]
            method = self._methods.get(name)
            if method is None:
                return self._describe(name)
            if method.marks.requires_encryption and not message.encrypted:
                refused = EncryptionRequiredError(
                    f"{self._published.service_name}.{name} requires encryption, and was called "
                    "in plain: it has not been run"
                )
                raise blame(refused, Blame.SENDER)
            if not method.direct:
                return await self._call(method, message)
            params = payload["params"]
            taken = _checked(method, params, "params") if self._checks else params
            try:
                return await method.call(**taken)
            except Exception as e:  # noqa: BLE001 - what is no success is raised again
                success = _success(e)
            return self._completed(method.marks, message, success.result, success.events)
        except (KeyboardInterrupt, SystemExit) as e:
            # What a method does must not end the process, nor leave its caller without an answer.
            raise NuropbHandlingError(f"{type(e).__name__}: {e}", None, e) from e

    # -- requests and commands --------------------------------------------------------------

    async def _call(self, method: Method, message: Told) -> Any:
        context: Context = message.payload.get("context") or {}
        marks = method.marks
        ctx = None if marks.context_parameter is None else _context_for(marks, context)
        events: Sequence[Mapping[str, Any]] = ()
        try:
            result = await self._run(method, ctx, context, message.payload["params"])
        except Exception as e:  # noqa: BLE001 - what is no success is raised again
            success = _success(e)
            result, events = success.result, success.events
        return self._completed(marks, message, result, [*_added(ctx), *events])

    def _describe(self, name: str) -> dict[str, Any]:
        if name == DESCRIBE:
            return self._description
        shown = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
        near = nearest(name, self._methods)
        hint = f"{DESCRIBE} tells what it does" if near is None else f"did you mean {near}?"
        unknown = NuropbHandlingError(
            f"Unknown method {shown!r}: service {self._published.service_name!r} does not publish "
            f"it; {hint}"
        )
        raise blame(unknown, Blame.SENDER)

    async def _run(
        self, method: Method, ctx: Any, context: Context, params: Mapping[str, Any]
    ) -> Any:
        marks = method.marks
        ask_first = await _asks_first(marks, ctx, context)

        def run() -> Any:
            if ask_first:
                with _authorizing():
                    claims = marks.claims(context)
                _admit(claims, ctx)
            taken = _checked(method, params, "params") if self._checks else params
            return method.call(**taken) if ctx is None else method.call(ctx, **taken)

        return await self._where_it_belongs(method, run)

    async def _where_it_belongs(self, what: Method | EventHandler, run: Callable[[], Any]) -> Any:
        if what.is_async:
            return await run()
        if self._threads is not None and what.marks.in_thread:
            result = await self._threads.run(run)
        else:
            result = run()
        if hasattr(type(result), "__await__"):
            return await result
        return result

    # -- events -----------------------------------------------------------------------------

    async def _event(self, message: Told) -> Any:
        """Give the event to every handler of its topic; errors are raised when all had a turn."""
        topic = message.payload["topic"]
        handlers = self._handlers(topic) or self._published.fallback()
        if not handlers:
            unknown = NuropbHandlingError(
                f"no handler for events on {topic[:100]!r}: mark one with @mesh_event, or define "
                "_handle_event_; was one removed, then unbind its topic from the service's queue, "
                "which keeps the binding"
            )
            raise blame(unknown, Blame.SENDER)
        to_publish: list[dict[str, Any]] = []
        failed: list[BaseException] = []
        for handler in handlers:
            try:
                to_publish += await self._give(handler, message)
            except BaseException as e:
                if handled.given_up():
                    raise
                failed.append(e)
        if len(failed) > 1:
            raise BaseExceptionGroup(f"{len(failed)} of {len(handlers)} handlers failed", failed)
        if failed:
            raise failed[0]
        return Completion(Outcome.DONE, to_publish)

    async def _give(self, handler: EventHandler, message: Told) -> list[dict[str, Any]]:
        """Give one handler the event; returns the events that it wants to be published."""
        payload = message.payload
        context: Context = payload.get("context") or {}
        marks = handler.marks
        ctx = None if marks.context_parameter is None else _context_for(marks, context)
        first = () if ctx is None else (ctx,)
        ask_first = await _asks_first(marks, ctx, context)
        values = {
            "topic": payload["topic"],
            "event": payload["event"],
            "target": payload.get("target"),
            "context": context,
        }

        def run() -> Any:
            if ask_first:
                with _authorizing():
                    claims = marks.claims(context)
                _admit(claims, ctx)
            if handler.takes is None:
                return handler.call(*first, *values.values())
            taken: Mapping[str, Any] = {name: values[name] for name in handler.takes}
            if self._checks:
                taken = _checked(handler, taken, "")
            return handler.call(*first, **taken)

        events: Sequence[Mapping[str, Any]] = ()
        try:
            await self._where_it_belongs(handler, run)
        except Exception as e:  # noqa: BLE001 - what is no success is raised again
            events = _success(e).events
        events = [*_added(ctx), *events]
        return self._event_payloads(marks, message, context, events)

    # -- what becomes of them -----------------------------------------------------------------

    def _completed(
        self, marks: Marks, message: Told, result: Any, events: Sequence[Mapping[str, Any]]
    ) -> Any:
        """What a method's result and events are made into."""
        if not events:
            return result
        context: Context = message.payload.get("context") or {}
        answer = payloads.response(
            result,
            None,
            correlation_id=message.correlation_id,
            trace_id=message.trace_id,
            context=context,
        )
        published = self._event_payloads(marks, message, context, events)
        return Completion(Outcome.DONE, [answer, *published])

    def _event_payloads(
        self,
        marks: Marks,
        message: Told,
        context: Context,
        events: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """The events that a method has added, as they are published.

        Every subscriber gets them, in plain: the context of a message that came encrypted does not
        go with them, nor does the token of whoever called, unless the event says so.
        """
        for event in events:
            check_event(event)
        with_token = {} if message.encrypted else context
        without = with_token
        if not self._passes_token_on and marks.token_key in with_token:
            without = {name: each for name, each in context.items() if name != marks.token_key}
        return [
            payloads.event_added(
                each,
                context=with_token if isinstance(each, EventWithToken) else without,
                correlation_id=message.correlation_id,
                trace_id=message.trace_id,
            )
            for each in events
        ]


async def _asks_first(marks: Marks, ctx: object, context: Context) -> bool:
    """Whether authorize_func is to be asked where the method runs; an async one is asked here."""
    if marks.authorize is None or marks.authorizes_itself:
        return False
    if marks.authorizes_async:
        with _authorizing():
            claims = await marks.claims(context)
        _admit(claims, ctx)
        return False
    return True


@contextmanager
def _authorizing() -> Iterator[None]:
    """Note on whatever authorize_func raises that it did: its text may quote the token."""
    try:
        yield
    except Exception as e:
        if not isinstance(e, NuropbAuthorizationError):
            blame(e, Blame.AUTHORIZER)
        raise


def _admit(claims: Any, ctx: Any) -> None:
    admitted(claims)
    if ctx is not None and not isinstance(ctx, Mapping):
        ctx.user_claims = claims


def _context_for(marks: Marks, context: Context) -> Any:
    """The context of one call, in the form that the method's decorator knows."""
    if marks.context_class is None:
        return context
    ctx = marks.context_class(context, marks.suppress_exceptions)
    if isinstance(ctx, NuropbContextManager):
        ctx.handles(handled.current())
    return ctx


def _checked(
    what: Method | EventHandler, values: Mapping[str, Any], where: str
) -> Mapping[str, Any]:
    """The values as the method takes them. Raises NuropbValidationError naming the field."""
    try:
        return what.parameters.fields.checked(values)
    except Mismatch as e:
        raise blame(NuropbValidationError(e.told(where)), Blame.SENDER) from None


def _added(ctx: Any) -> Sequence[Mapping[str, Any]]:
    """The events that a method has added to its context."""
    return () if ctx is None or isinstance(ctx, Mapping) else ctx.events


def _success(error: Exception) -> NuropbSuccess:
    """The success that a method has raised; any other error is raised again."""
    known = translated(error)
    if isinstance(known, NuropbSuccess):
        return known
    if known is not error:
        raise known from error
    raise error
