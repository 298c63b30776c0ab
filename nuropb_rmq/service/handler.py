"""Run the method or the event handlers for a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from ..exceptions import (
    EncryptionRequiredError,
    NuropbAuthorizationError,
    NuropbHandlingError,
    NuropbSuccess,
    NuropbValidationError,
    RetryLater,
)
from ..nearest import nearest
from ..printable import shorten
from ..protocol import handled, payloads
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import MessageType
from ..protocol.handled import IncomingMessage
from ..protocol.message import Completion
from ..safe_logging import Blame, blame
from .decorators import EventWithToken, NuropbContextManager, check_event
from .marks import ABSENT, Marks, admitted
from .methods import DESCRIBE, EventHandler, Method, Published
from .nuropb_decorators import translated
from .retry import Retry
from .thread_pool import Threads
from .turns import check_time
from .type_hints import Mismatch

_TOPICS_REMEMBERED: Final = 1024
_LONGEST_NAME: Final = 100

Context = Mapping[str, Any]


class Serving:
    """The handler of a service's transport: calls the methods of a service object.

    `threads` run synchronous methods; None: the event loop does. `passes_token_on`: all events
    that a method adds carry its caller's token, not only those added with_token. `retry` is for
    methods and handlers that have none of their own; only `handler` knows of retries.
    """

    def __init__(
        self,
        published: Published,
        *,
        threads: Threads | None,
        passes_token_on: bool = False,
        retry: Retry | None = None,
    ) -> None:
        self._published = published
        self._retry = retry
        self.handler: Callable[[IncomingMessage], Awaitable[Any]] = self.handle
        """handle(), or _handle_again(): a service without a Retry pays nothing for it."""
        if retry is not None or published.retries:
            self.handler = self._handle_again
        self._methods = published.methods
        self._threads = threads
        self._checks = published.checks
        self._passes_token_on = passes_token_on
        # Made when it is asked for: JSON Schemas of large models take milliseconds.
        self._description: dict[str, Any] | None = None
        self._handlers = lru_cache(_TOPICS_REMEMBERED)(published.handlers)

    async def handle(self, message: IncomingMessage) -> Any:
        """Run the method or handlers for a message; return the result, or raise the error.

        KeyboardInterrupt and SystemExit of a method become NuropbHandlingError.
        """
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
                    f"{self._published.service_name}.{name} requires encryption, and the call was "
                    "not encrypted: it has not been run"
                )
                raise blame(refused, Blame.SENDER)
            if not method.direct:
                return await self._call(method, message)
            params = payload["params"]
            taken = _checked(method, params, "params") if self._checks else params
            try:
                return await method.call(**taken)
            except Exception as e:  # noqa: BLE001 - _success() raises errors again
                success = _success(e)
            return self._completed(method.marks, message, success.result, success.events)
        except (KeyboardInterrupt, SystemExit) as e:
            # A method must not end the process, nor leave its caller without an answer.
            raise NuropbHandlingError(f"{type(e).__name__}: {e}", None, e) from e

    # -- retries ----------------------------------------------------------------------------

    async def _handle_again(self, message: IncomingMessage) -> Any:
        """Run the method or handlers as handle() does, and again as its Retry says.

        Raises RetryLater for a message that is to come back.
        """
        retry = self._retry_of(message)
        tries = 0 if retry is None else retry.immediate
        while True:
            try:
                return await self.handle(message)
            except RetryLater as later:
                if retry is None or retry.after(message.attempts) is not None:
                    raise
                raise (later.__cause__ or later) from None
            except Exception as e:
                if retry is None or not retry.covers(e):
                    raise
                if tries:
                    tries -= 1
                    continue
                after = retry.after(message.attempts)
                if after is None or (message.kind is MessageType.REQUEST and not retry.requests):
                    raise
                raise RetryLater(f"{type(e).__name__}", after=after) from e

    def _retry_of(self, message: IncomingMessage) -> Retry | None:
        """Return the Retry of a message's method, or of the first of its event's handlers."""
        payload = message.payload
        of_its_own: list[Retry | None] = []
        if message.kind is MessageType.EVENT:
            of_its_own = [handler.marks.retry for handler in self._handlers_of(payload["topic"])]
        elif (method := self._methods.get(payload["method"])) is not None:
            of_its_own = [method.marks.retry]
        return next((retry for retry in of_its_own if retry is not ABSENT), self._retry)

    # -- requests and commands --------------------------------------------------------------

    async def _call(self, method: Method, message: IncomingMessage) -> Any:
        context: Context = message.payload.get("context") or {}
        marks = method.marks
        ctx = None if marks.context_parameter is None else _context_for(marks, context)
        events: Sequence[Mapping[str, Any]] = ()
        try:
            result = await self._run(method, ctx, context, message.payload["params"])
        except Exception as e:  # noqa: BLE001 - _success() raises errors again
            success = _success(e)
            result, events = success.result, success.events
        return self._completed(marks, message, result, [*_added(ctx), *events])

    def _describe(self, name: str) -> dict[str, Any]:
        if name == DESCRIBE:
            if self._description is None:
                self._description = self._published.describe()
            return self._description
        near = nearest(name, self._methods)
        hint = f"{DESCRIBE} lists its methods" if near is None else f"did you mean {near}?"
        unknown = NuropbHandlingError(
            f"Unknown method {shorten(name, _LONGEST_NAME)!r}: service "
            f"{self._published.service_name!r} does not publish it; {hint}"
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

        return await self._in_turn(method, run)

    async def _in_turn(self, what: Method | EventHandler, run: Callable[[], Any]) -> Any:
        if what.turns is None:
            return await self._on_loop_or_thread(what, run)
        async with what.turns.next():
            check_time()
            return await self._on_loop_or_thread(what, run)

    async def _on_loop_or_thread(self, what: Method | EventHandler, run: Callable[[], Any]) -> Any:
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

    async def _event(self, message: IncomingMessage) -> Any:
        """Call every handler of the event's topic, then raise their errors."""
        topic = message.payload["topic"]
        handlers = self._handlers_of(topic)
        if not handlers:
            unknown = NuropbHandlingError(
                f"no handler for events on {shorten(topic, _LONGEST_NAME)!r}: mark one with "
                "@mesh_event, or define _handle_event_; if one was removed, unbind its topic from "
                "the service's queue, which keeps the binding"
            )
            raise blame(unknown, Blame.SENDER)
        to_publish: list[dict[str, Any]] = []
        failed: list[BaseException] = []
        for handler in handlers:
            try:
                to_publish += await self._call_handler(handler, message)
            except BaseException as e:
                if handled.given_up():
                    raise
                failed.append(e)
        if failed:
            raise _one_of(failed, len(handlers))
        return Completion(Outcome.DONE, to_publish)

    def _handlers_of(self, topic: str) -> Sequence[EventHandler]:
        return self._handlers(topic) or self._published.fallback()

    async def _call_handler(
        self, handler: EventHandler, message: IncomingMessage
    ) -> list[dict[str, Any]]:
        """Call one handler with the event; return the events that it adds."""
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
            await self._in_turn(handler, run)
        except Exception as e:  # noqa: BLE001 - _success() raises errors again
            events = _success(e).events
        events = [*_added(ctx), *events]
        return self._event_payloads(marks, message, context, events)

    # -- results and events -------------------------------------------------------------------

    def _completed(
        self,
        marks: Marks,
        message: IncomingMessage,
        result: Any,
        events: Sequence[Mapping[str, Any]],
    ) -> Any:
        """Return a method's result, as a Completion if it has added events."""
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
        message: IncomingMessage,
        context: Context,
        events: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Make the payloads of the events that a method has added.

        Every subscriber gets them, unencrypted: so they do not carry the context of an encrypted
        message, nor the caller's token, unless the event was added with_token.
        """
        for event in events:
            check_event(event)
        with_token = {} if message.encrypted else context
        without = with_token
        if not self._passes_token_on and marks.token_key in with_token:
            without = {name: value for name, value in context.items() if name != marks.token_key}
        return [
            payloads.event_added(
                event,
                context=with_token if isinstance(event, EventWithToken) else without,
                correlation_id=message.correlation_id,
                trace_id=message.trace_id,
            )
            for event in events
        ]


async def _asks_first(marks: Marks, ctx: object, context: Context) -> bool:
    """Return whether to call authorize_func where the method runs; call an async one here."""
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
    """Mark the errors of authorize_func as its own: their texts may quote the token."""
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
    """Make the context of one call, of the class that the method's decorator uses."""
    if marks.context_class is None:
        return context
    ctx = marks.context_class(context, marks.suppress_exceptions)
    if isinstance(ctx, NuropbContextManager):
        ctx.handles(handled.current())
    return ctx


def _checked(
    what: Method | EventHandler, values: Mapping[str, Any], where: str
) -> Mapping[str, Any]:
    """Return the values, checked and converted; raises NuropbValidationError naming the field."""
    try:
        return what.parameters.fields.checked(values)
    except Mismatch as e:
        raise blame(NuropbValidationError(e.describe(where)), Blame.SENDER) from None


def _added(ctx: Any) -> Sequence[Mapping[str, Any]]:
    """Return the events that a method has added to its context."""
    return () if ctx is None or isinstance(ctx, Mapping) else ctx.events


def _one_of(failed: Sequence[BaseException], handlers: int) -> BaseException:
    """Return the error of an event, from those of its handlers; one that asks for it later wins."""
    if len(failed) == 1:
        return failed[0]
    text = f"{len(failed)} of {handlers} handlers failed"
    later = next((error for error in failed if isinstance(error, RetryLater)), None)
    if later is None:
        return BaseExceptionGroup(text, failed)
    causes = [error.__cause__ if isinstance(error, RetryLater) else error for error in failed]
    if known := [cause for cause in causes if cause is not None]:
        later.__cause__ = BaseExceptionGroup(text, known)
    return later


def _success(error: Exception) -> NuropbSuccess:
    """Return the NuropbSuccess that a method has raised; raise any other error again."""
    known = translated(error)
    if isinstance(known, NuropbSuccess):
        return known
    if known is not error:
        raise known from error
    raise error
