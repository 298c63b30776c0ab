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
from ..amqp.settlement import CALL_AGAIN, REJECT, REQUEUE, Settlement
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
    RetryLater,
)
from ..protocol import payloads, writer
from ..protocol.acknowledgement import Answer, Outcome, decide
from ..protocol.constants import REQUEST, RESPONSE
from ..protocol.handled import enter
from ..protocol.message import Handler, Message
from ..protocol.reader import Head, whole_body
from ..safe_logging import report
from ..waiting import Changes, runs_here
from . import stalls
from .answers import Answers
from .delivery import IN_TIME, WAITED, Delivery, Pace, Settler
from .endings import Endings
from .failures import Failures
from .handler_deadlines import HandlerDeadlines
from .letters import Letters
from .observer import Observer, Observers
from .outage import Outages
from .packer import Outbound
from .redelivery import InHand
from .retries import Retries
from .routes import Routes
from .sealing import Sealing
from .suspects import Suspects
from .task_runner import Runner
from .tracing import current

CANCEL_WITHIN = 2.0
"""Seconds that handlers have to end in, once they are cancelled."""

_OUTCOME: Final = Answer.OUTCOME
_UNHANDLED: Final = "a delivery could not be handled; it goes to the dead letters"


class Dispatcher:
    """Receiver of the service queue. Handlers run concurrently, in a Runner.

    A handler is not cancelled when its channel dies. Its reply is sent; the message is settled if
    it has come again meanwhile, else not: an ack is only valid on the channel of its delivery.
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
        on_outage: Callable[[], None],
        settler: Settler | None = None,
    ) -> None:
        self._config = config
        self._handler = handler
        self._settler = settler
        self._outbound, self.log = outbound, outbound.log
        self._sealing = sealing
        self._observers = observers
        counts = self._counts = observers.counts
        self._handled, self._settled = counts.handled, counts.settled
        self._changes = Changes()
        self._letters = Letters(config, outbound)
        self._retries = Retries(config, outbound)
        self._answers = Answers(config, outbound, sealing, self._letters)
        self.undelivered = self._answers.undelivered
        self._max_depth = config.max_json_depth
        self._routes = Routes(config)
        self._runner = Runner(
            self._dispatch, name="nuropb-handler", on_wait=self._waits, on_end=self._changes.wake
        )
        self._deadlines = HandlerDeadlines(config.handler_timeout, config.watchdog)
        names = config.service_name, outbound.topology.instance_id
        self._failures = Failures(*names, texts=config.log_error_text)
        self._in_hand = InHand()
        parts = (config, self.log, self._changes)
        self._suspects = Suspects(*parts, begin=self._begin, idle=self.drained)
        self.outages: Outages | None = None
        if config.outage is not None:
            self.outages = Outages(config, begin=self._run, on_change=on_outage, log=self.log)
        on_failure = None if self.outages is None else self.outages.failed
        self._endings = Endings(self._failures, self._retries, on_failure)
        # False from stop_taking() on: no further delivery is begun.
        self._taking = True
        # True once cancel() cancels the handlers.
        self._cancelling = False
        # Tells whether asyncio.run() is cancelling our tasks as it ends.
        self._shutting_down = shutting_down
        self._stop_watching = stalls.watch(config.watchdog, unwatched=config.broker.in_memory)
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()

    # -- deliveries -------------------------------------------------------------------------

    def receive(self, consumer: Consumer, content: Content) -> Awaitable[None] | None:
        """Begin to handle a delivery; await the result, if any, before the next delivery."""
        if not self._taking:
            return None  # the end of the channel requeues it
        if self._suspects.active:
            return self._suspects.hold(consumer, content)
        if self.outages is not None and self.outages.active:
            self.outages.hold(consumer, content)
            return None
        work = Delivery(self, consumer, content, self._settler)  # as _run(), without a call
        self._counts.received += 1
        self._in_hand[work] = None
        self._runner.run(work)
        limit = self._config.prefetch_count
        if limit and len(self._runner) >= limit:
            return self._changes.until(lambda: len(self._runner) < limit)
        return None

    def _begin(self, consumer: Consumer, content: Content) -> None:
        if self.outages is not None and self.outages.active:
            self.outages.hold(consumer, content)
        else:
            self._run(consumer, content, monotonic())

    def _run(self, consumer: Consumer, content: Content, arrived: float) -> Delivery:
        work = Delivery(self, consumer, content, self._settler)
        work.arrived = arrived
        self._counts.received += 1
        self._in_hand[work] = None
        self._runner.run(work)
        return work

    def take_again(self, consumer: Consumer, content: Content) -> bool:
        """Take a redelivered message that is in hand here, or is a suspect; else return False."""
        self._counts.redelivered += 1
        if self._in_hand.join(consumer, content):
            return True
        return self._taking and self._suspects.set_aside(consumer, content)

    def stop_taking(self) -> None:
        """Begin no further delivery, and requeue those set aside."""
        self._taking = False
        self._suspects.give_back()
        if self.outages is not None:
            self.outages.stop_taking()

    @property
    def running(self) -> int:
        """Number of handlers that run."""
        return len(self._runner)

    @property
    def unsettled(self) -> int:
        """Number of deliveries that are not settled, those that wait in an outage included."""
        return len(self._in_hand) + (self.outages.waiting if self.outages else 0)

    async def drained(self) -> None:
        """Wait until every delivery that was begun is settled, and every handler has ended.

        Those that wait in an outage count as begun.
        """
        await self._changes.until(lambda: not (self._runner or self.unsettled))

    async def cancel(self) -> None:
        """Cancel the handlers that still run; their messages go back to the queue.

        Returns after CANCEL_WITHIN seconds at the latest.
        """
        self.stop_taking()
        self._cancelling = True
        self._stop_watching()
        await self._suspects.cancel()
        self._deadlines.clear()
        stubborn = await self._runner.cancel(CANCEL_WITHIN)
        if stubborn:
            self.log.error("%d handlers ignored their cancellation and go on running", stubborn)
        self._failures.close()

    def settled(self, work: Delivery, settlement: Settlement | None) -> None:
        """Note the end of a delivery; see Owner."""
        del self._in_hand[work]
        self._changes.wake()
        if self.outages is not None:
            self.outages.settled(work)
        self._settled[settlement] += 1
        if settlement is not None:
            message = work.message
            message.delivery = None  # a circle would wait for the garbage collector
            if self._observers.active:
                self._observers.tell(Observer.settled, message, settlement)
        if work.span is not None:
            work.span.settled(settlement, work.error)

    # -- one delivery, top to bottom --------------------------------------------------------

    def cancelled_by_us(self, work: Delivery) -> bool:
        """Return whether we cancel its handler; any other CancelledError is a handler's failure.

        task.cancelling() cannot tell: before Python 3.13 a TaskGroup whose child has failed leaves
        it above 0, and the program itself may cancel the task.
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
                work.settle(REJECT)  # as the broker does with messages that expire in its queue
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
                work.span = self._observers.processing(message)
                work.began = monotonic()
            elif self._observers.recording is not None:
                work.began = monotonic()
            outcome, messages = await self._handle(work, message)
            if not work.concluded:
                self._conclude(work, outcome, messages)
        except (Exception, asyncio.CancelledError) as e:
            if isinstance(e, asyncio.CancelledError) and self.cancelled_by_us(work):
                if not work.concluded:  # stop() requeues all of them at once
                    work.settle(None if self._cancelling else Settlement.REQUEUE)
                raise
            report(self.log, logging.ERROR, e, _UNHANDLED, about=work)
            work.settle(REJECT)
        finally:
            if work.decrypted:  # its key has encrypted no answer
                work.decrypted = False
                self._sealing.forget_received(work.head.correlation_id)

    def _body(self, work: Delivery, head: Head) -> bytes:
        """Return the body. Raises MalformedMessageError for a message that may not be handled."""
        if head.problem is not None:
            raise head.problem
        if head.kind is RESPONSE:
            raise MalformedMessageError("a response on a service queue")
        return whole_body(work.content)

    async def _handle(
        self, work: Delivery, message: Message
    ) -> tuple[Outcome, Sequence[Mapping[str, Any]]]:
        """Run the handler, and return its outcome and messages; raises only CancelledError."""
        work.pace = IN_TIME
        if work.task is not None:  # unsealing has waited, so _waits() came before IN_TIME
            self._deadlines.add(work)
        try:
            value = await self._handler(message)
        except (NuropbSuccess, NuropbCallAgain, RetryLater) as ending:
            return self._endings.asked_for(work, ending)
        except BaseException as raised:
            if work.pace is Pace.OVERDUE:
                text = f"not done within {self._config.handler_timeout:g} s (handler_timeout)"
                return self._endings.failed(work, NuropbHandlingError(text))
            if self.cancelled_by_us(work):  # whatever it raised meanwhile: requeue
                raise asyncio.CancelledError from raised
            return self._endings.failed(work, raised)
        finally:
            if work.task is not None:
                self._deadlines.remove(work)
        return self._endings.returned(work, value)

    def _waits(self, work: Delivery, task: asyncio.Task[None]) -> None:
        """Start the deadline of a handler that waits; one that never waits cannot be cancelled."""
        work.task = task
        if work.pace is IN_TIME:
            self._deadlines.add(work)

    def complete(
        self, work: Delivery, outcome: Outcome, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        """End a delivery while its handler goes on; see Message.complete."""
        if get_ident() != self._thread and not runs_here(self._loop):
            raise NuropbTransportError(
                "complete() must be called in the event loop's thread; use "
                "loop.call_soon_threadsafe(message.complete, outcome, messages)"
            )
        if outcome is Outcome.RETRY:
            raise NuropbTransportError("complete() knows no RETRY: raise RetryLater in the handler")
        with current(work.span):
            try:
                self._conclude(work, outcome, messages)
            except Exception as e:  # noqa: BLE001 - as in _dispatch: not the caller's fault
                report(self.log, logging.ERROR, e, _UNHANDLED, about=work)
                work.settle(REJECT)

    def _conclude(
        self, work: Delivery, outcome: Outcome, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        head = work.head
        work.concluded = True
        self._handled[outcome] += 1
        if work.began:
            self._observers.handled(work.message, outcome, work.began, work.span, work.error)
        decision = decide(head.kind, outcome, head.call_again_count)
        work.settlement = decision.settlement
        goes_back = self.outages is not None and self.outages.concluded(work, outcome)
        if goes_back:
            work.settlement = REQUEUE
        if work.postponed is not None:
            if work.stale:  # the broker delivers it again, at once
                work.settle(None)
            else:
                self._retries.send(work, work.postponed)
            return
        if goes_back or decision.settlement is CALL_AGAIN:
            self._retries.put_back(work)
            return
        if decision.answer is not _OUTCOME:
            if decision.answer is Answer.NOTHING:
                messages = [payload for payload in messages if payload.get("tag") == "event"]
            else:
                error = NuropbCallAgainReject("the handler asked for a second call-again")
                messages = [self._endings.error_response(work, error.to_dict())]
                work.error = error
        try:
            self._answers.publish(work, messages)
        except NuropbException as e:
            if outcome is Outcome.FAILED or head.kind is not REQUEST:
                raise
            # The result cannot be sent: the requester gets that error instead.
            _, messages = self._endings.failed(work, e)
            work.settlement = REJECT
            self._answers.publish(work, messages)
        if work.error is not None:
            self._letters.end(work)
        work.published()

    def not_retried(self, work: Delivery, error: NuropbException) -> None:
        """Let a message fail that was to come back later, and cannot."""
        head, text = work.head, "%s %s cannot come back later: %s"
        self.log.warning(text, head.kind.value, head.correlation_id, error, about=work)
        if work.settlement is REQUEUE:
            self._retries.put_back(work)
            return
        work.postponed = None
        try:
            if head.encrypted and head.kind is REQUEST:
                self._sealing.owe_again(work.content.body, head.correlation_id)
                work.decrypted = True
            with current(work.span):
                self._conclude(work, *self._endings.failed(work, work.error or error))
        except Exception as e:  # noqa: BLE001 - as in _dispatch
            report(self.log, logging.ERROR, e, _UNHANDLED, about=work)
            work.settle(REJECT)

    def _refuse(self, work: Delivery, error: NuropbException) -> None:
        """Dead-letter a message that is unreadable or not allowed, and answer it if possible.

        The answer is in plain text when the message could not be decrypted: there is no key.
        """
        head = work.head
        self._counts.refused += 1
        self._failures.unreadable(head, error)
        work.settlement, work.error = REJECT, error
        self._answers.publish(work, [payloads.answer(head, {}, None, error.to_dict())])
        self._letters.send(work)
        work.published()
