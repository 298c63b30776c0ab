"""One delivery of the service queue: decode → handle → decide → reply → settle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from threading import get_ident
from time import monotonic
from typing import Any, Final

from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..amqp.settlement import CALL_AGAIN, REJECT, Settlement
from ..config.settings import TransportConfig
from ..exceptions import (
    EncryptionError,
    MalformedMessageError,
    NuropbCallAgain,
    NuropbCallAgainReject,
    NuropbException,
    NuropbHandlingError,
    NuropbSuccess,
    NuropbTransportError,
)
from ..protocol import payloads, writer
from ..protocol.acknowledgement import DONE, Answer, Outcome, decide
from ..protocol.constants import REQUEST, RESPONSE
from ..protocol.handled import enter
from ..protocol.message import Completion, Handler, Message, context_of, describe
from ..protocol.reader import Head
from ..safe_logging import report
from . import stalls
from .answers import Answers
from .changes import Changes
from .delivery import IN_TIME, WAITED, Delivery, Pace, Settler
from .failures import Failures
from .handler_deadlines import HandlerDeadlines
from .observer import Observer, Observers
from .packer import Outbound
from .redelivery import InHand
from .routes import Routes
from .sealing import Sealing, whole_body
from .suspects import Suspects
from .task_runner import Runner

logger = logging.getLogger("nuropb_rmq.transport")

CANCEL_WITHIN = 2.0
"""Seconds that handlers have to end in, once they are cancelled."""

_OUTCOME: Final = Answer.OUTCOME
_UNHANDLED: Final = "a delivery could not be handled; it goes to the dead letters"


class Dispatcher:
    """The receiver of the service queue. Handlers run all at once, as a Runner runs them.

    They are not cancelled when a channel dies: the reply is sent, and the message is settled when
    it was delivered again meanwhile; else the ack, which would mean nothing on another channel, is
    dropped.
    """

    def __init__(
        self,
        config: TransportConfig,
        handler: Handler,
        outbound: Outbound,
        sealing: Sealing,
        observers: Observers,
        *,
        shutting_down: Callable[[], bool],
        settler: Settler | None = None,
    ) -> None:
        self._config = config
        self._handler = handler
        self._settler = settler
        self._outbound = outbound
        self._sealing = sealing
        self._observers = observers
        self._changes = Changes()
        self._answers = Answers(config, outbound, sealing)
        self._max_depth = config.max_json_depth
        self._routes = Routes(config)
        self._runner = Runner(
            self._dispatch, name="nuropb-handler", on_wait=self._waits, on_end=self._changes.wake
        )
        self._deadlines = HandlerDeadlines(config.handler_timeout)
        self._failures = Failures(
            config.service_name, outbound.topology.instance_id, texts=config.log_error_text
        )
        self._in_hand = InHand()
        self._suspects = Suspects(config, self._changes, begin=self._begin, idle=self.drained)
        self._taking = True
        # Handlers are cancelled by us: at the end of stop(), or by asyncio.run() as it ends.
        self._cancelling = False
        self._shutting_down = shutting_down
        self._stop_watching = stalls.watch()
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()

    # -- deliveries -------------------------------------------------------------------------

    def receive(self, consumer: Consumer, content: Content) -> Awaitable[None] | None:
        """Begin to handle a delivery; the awaitable ends when there is room for another."""
        if not self._taking:
            return None  # the end of the channel gives it back
        if self._suspects.active:
            return self._suspects.hold(consumer, content)
        work = Delivery(self, consumer, content, self._settler)  # _begin(), in place
        self._in_hand[work] = None
        self._runner.run(work)
        limit = self._config.prefetch_count
        if limit and len(self._runner) >= limit:
            return self._changes.until(lambda: len(self._runner) < limit)
        return None

    def _begin(self, consumer: Consumer, content: Content) -> None:
        work = Delivery(self, consumer, content, self._settler)
        self._in_hand[work] = None
        self._runner.run(work)

    def take_again(self, consumer: Consumer, content: Content) -> bool:
        """Take a message that was delivered before, when it is in hand here, or is a suspect."""
        if self._in_hand.join(consumer, content):
            return True
        return self._taking and self._suspects.set_aside(consumer, content)

    def stop_taking(self) -> None:
        """Begin with no further delivery; the consumer is cancelled, and nothing more comes."""
        self._taking = False
        self._suspects.give_back()

    async def drained(self) -> None:
        """Wait until every delivery that was begun is settled, and every handler has ended."""
        await self._changes.until(lambda: not self._in_hand and not self._runner)

    async def cancel(self) -> None:
        """Cancel the handlers that still run; their messages go back to the queue."""
        self._taking = False
        self._cancelling = True
        self._stop_watching()
        await self._suspects.cancel()
        self._deadlines.clear()
        stubborn = await self._runner.cancel(CANCEL_WITHIN)
        if stubborn:
            logger.error("%d handlers ignore their cancellation; they are left", stubborn)
        self._failures.close()

    def settled(self, work: Delivery, settlement: Settlement | None) -> None:
        """A delivery has come to its end."""
        del self._in_hand[work]
        self._changes.wake()
        if settlement is not None:
            message = work.message
            message.delivery = None  # a circle would wait for the garbage collector
            if self._observers.active:
                self._observers.tell(Observer.settled, message, settlement)

    # -- one delivery, top to bottom --------------------------------------------------------

    def gives_up(self, work: Delivery) -> bool:
        """Whether its handler is cancelled by us; any other CancelledError is its own failure.

        task.cancelling() does not tell: a TaskGroup whose child has failed leaves it above 0 before
        Python 3.13, and other code of the program may cancel a task that it knows.
        Why: docs/decisions/003-who-cancelled-a-handler.md
        """
        return work.pace is Pace.OVERDUE or self._cancelling or self._shutting_down()

    async def _dispatch(self, work: Delivery) -> None:
        try:
            if work.stale:
                work.settle(None)
                return
            head = work.head = Head(work.content)
            message = work.message = Message(head, {}, work)
            if monotonic() - work.arrived > WAITED and work.expired():
                work.settle(REJECT)  # as the broker does with what expires in its queue
                return
            enter(work)
            try:
                body = self._body(work, head)
                if head.encrypted:
                    body = await self._sealing.unseal(body, head.correlation_id)
                    work.decrypted = True
                message.payload = writer.read_payload(
                    head,
                    body,
                    max_depth=self._max_depth,
                    decrypted=head.encrypted,
                )
                self._routes.check(head, message.payload)
            except (MalformedMessageError, EncryptionError) as e:
                self._refuse(work, e)
                return
            if self._observers.active:
                self._observers.tell(Observer.received, message)
                work.began = monotonic()
            outcome, messages = await self._handle(work, message)
            if not work.concluded:
                self._conclude(work, outcome, messages)
        except (Exception, asyncio.CancelledError) as e:
            if isinstance(e, asyncio.CancelledError) and self.gives_up(work):
                if not work.concluded:  # stop() gives all of them back, in one go
                    work.settle(None if self._cancelling else Settlement.REQUEUE)
                raise
            report(logger, logging.ERROR, e, _UNHANDLED)
            work.settle(REJECT)
        finally:
            if work.decrypted:  # and no answer was encrypted
                self._sealing.forget_received(work.head.correlation_id)

    def _body(self, work: Delivery, head: Head) -> bytes:
        """What may be opened. Raises MalformedMessageError."""
        if head.problem is not None:
            raise head.problem
        if head.kind is RESPONSE:
            raise MalformedMessageError("a response on a service queue")
        return whole_body(work.content)

    async def _handle(
        self, work: Delivery, message: Message
    ) -> tuple[Outcome, Sequence[Mapping[str, Any]]]:
        """Run the handler; whatever it does is an outcome."""
        work.pace = IN_TIME
        if work.task is not None:  # it has waited before: the message was unsealed elsewhere
            self._deadlines.add(work)
        try:
            value = await self._handler(message)
        except NuropbSuccess as success:
            return self._succeeded(work, success)
        except NuropbCallAgain:
            return Outcome.CALL_AGAIN, ()
        except BaseException as raised:
            if work.pace is Pace.OVERDUE:
                late = f"not done within {self._config.handler_timeout:g} s (handler_timeout)"
                return self._failed(work, NuropbHandlingError(late))
            if self.gives_up(work):  # whatever it raised then, the message goes back
                raise asyncio.CancelledError from raised
            return self._failed(work, raised)
        finally:
            if work.task is not None:
                self._deadlines.remove(work)
        if isinstance(value, Completion):
            return value.outcome, value.messages
        return DONE, self._result(work, value)

    def _result(self, work: Delivery, value: Any) -> Sequence[Mapping[str, Any]]:
        head = work.head
        if head.kind is not REQUEST:
            return ()
        return (payloads.answer(head, context_of(work.message), value),)

    def _waits(self, work: Delivery, task: asyncio.Task[None]) -> None:
        """It waits for something. A handler that never does needs no deadline: it could not act."""
        work.task = task
        if work.pace is IN_TIME:
            self._deadlines.add(work)

    def _succeeded(
        self, work: Delivery, success: NuropbSuccess
    ) -> tuple[Outcome, Sequence[Mapping[str, Any]]]:
        message = work.message
        try:
            events = [
                payloads.event_added(
                    each,
                    # They go out in plain: what came encrypted does not go with them.
                    context={} if message.encrypted else context_of(message),
                    correlation_id=message.correlation_id,
                    trace_id=message.trace_id,
                )
                for each in success.events
            ]
        except (KeyError, TypeError):
            problem = "NuropbSuccess: each of its events is a mapping with topic and payload"
            return self._failed(work, NuropbHandlingError(problem))
        return DONE, [*self._result(work, success.result), *events]

    def _failed(
        self, work: Delivery, error: BaseException
    ) -> tuple[Outcome, Sequence[Mapping[str, Any]]]:
        self._failures.failed(work.message, error)
        return Outcome.FAILED, [self._error_response(work, describe(error))]

    def _error_response(self, work: Delivery, error: dict[str, Any]) -> dict[str, Any]:
        return payloads.answer(work.head, context_of(work.message), None, error)

    def complete(
        self, work: Delivery, outcome: Outcome, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        """End a delivery at once, while its handler goes on; see Message.complete."""
        if get_ident() != self._thread and not self._runs_here():
            raise NuropbTransportError(
                "complete(): called outside of the event loop's thread; use "
                "loop.call_soon_threadsafe(message.complete, outcome, messages)"
            )
        try:
            self._conclude(work, outcome, messages)
        except Exception as e:  # noqa: BLE001 - as in _dispatch: the caller is anybody
            report(logger, logging.ERROR, e, _UNHANDLED)
            work.settle(REJECT)

    def _conclude(
        self, work: Delivery, outcome: Outcome, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        head = work.head
        work.concluded = True
        if self._observers.active and work.began:
            seconds = monotonic() - work.began
            self._observers.tell(Observer.handled, work.message, outcome, seconds)
        decision = decide(head.kind, outcome, head.call_again_count)
        work.settlement = decision.settlement
        if decision.settlement is CALL_AGAIN:
            on_done = work.expect_call_again()
            try:
                self._outbound.call_again(head, on_done, held=monotonic() - work.arrived)
            except NuropbTransportError as e:
                on_done(e)
            return
        if decision.answer is not _OUTCOME:
            if decision.answer is Answer.NOTHING:
                messages = [each for each in messages if each.get("tag") == "event"]
            else:
                error = NuropbCallAgainReject("the handler asked for a second call-again")
                messages = [self._error_response(work, error.to_dict())]
        try:
            self._answers.publish(work, messages)
        except NuropbException as e:
            if outcome is Outcome.FAILED or head.kind is not REQUEST:
                raise
            # The result cannot be sent: that is a failure, and the requester is told so.
            _, messages = self._failed(work, e)
            work.settlement = REJECT
            self._answers.publish(work, messages)
        work.published()

    def _runs_here(self) -> bool:
        """Return whether the loop has gone on in this thread."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def undelivered(self, work: Delivery, what: str, error: NuropbException) -> bool:
        """An answer or event could not be delivered; see Answers.undelivered."""
        return self._answers.undelivered(work, what, error)

    def _refuse(self, work: Delivery, error: NuropbException) -> None:
        """A message that cannot be read, or believed: dead-lettered once, answered if possible.

        The answer is plain when the message could not be decrypted: no key is known for it.
        """
        head = work.head
        self._failures.unreadable(head.correlation_id, head.trace_id, error)
        work.settlement = REJECT
        self._answers.publish(work, [payloads.answer(head, {}, None, error.to_dict())])
        work.published()
