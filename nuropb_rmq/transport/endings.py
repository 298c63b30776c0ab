"""The end of a handler, as the outcome of its message and the messages that go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..exceptions import NuropbCallAgain, NuropbHandlingError, NuropbSuccess, RetryLater
from ..protocol import payloads
from ..protocol.acknowledgement import DONE, Outcome
from ..protocol.constants import REQUEST
from ..protocol.message import Completion, context_of, describe
from .delivery import Delivery
from .failures import Failures
from .retries import Retries
from .stacks import start_at_handler

OnFailure = Callable[[Delivery, BaseException], None]
"""Called with each delivery whose handler has failed, before it is concluded."""
Ending = tuple[Outcome, Sequence[Mapping[str, Any]]]


class Endings:
    """Decides the outcome of a message by what its handler has returned or raised."""

    def __init__(
        self, failures: Failures, retries: Retries, on_failure: OnFailure | None = None
    ) -> None:
        self._failures = failures
        self._retries = retries
        self._on_failure = on_failure

    def returned(self, work: Delivery, value: Any) -> Ending:
        """Return the end of a handler that has returned."""
        if isinstance(value, Completion):
            return value.outcome, value.messages
        head = work.head
        if head.kind is not REQUEST:
            return DONE, ()
        return DONE, (payloads.answer(head, context_of(work.message), value),)

    def asked_for(
        self, work: Delivery, ending: NuropbSuccess | NuropbCallAgain | RetryLater
    ) -> Ending:
        """Return the end of a handler that has asked for it by an exception."""
        if isinstance(ending, NuropbSuccess):
            return self._succeeded(work, ending)
        if isinstance(ending, NuropbCallAgain):
            return Outcome.CALL_AGAIN, ()
        error = ending.__cause__ or ending
        start_at_handler(error)
        postponed = work.postponed = self._retries.plan(work, ending, error)
        if postponed is None:
            return self.failed(work, error)
        self._failures.comes_back(work.message, error, postponed.delay)
        self._failed(work, error)
        return Outcome.RETRY, ()

    def failed(self, work: Delivery, error: BaseException) -> Ending:
        """Return the end of a handler that has failed; log it."""
        start_at_handler(error)
        self._failures.failed(work.message, error)
        self._failed(work, error)
        return Outcome.FAILED, [self.error_response(work, describe(error))]

    def _failed(self, work: Delivery, error: BaseException) -> None:
        work.error = error
        if self._on_failure is not None:
            self._on_failure(work, error)

    def error_response(self, work: Delivery, error: dict[str, Any]) -> dict[str, Any]:
        """Return the response that says so."""
        return payloads.answer(work.head, context_of(work.message), None, error)

    def _succeeded(self, work: Delivery, success: NuropbSuccess) -> Ending:
        message = work.message
        try:
            events = [
                payloads.event_added(
                    event,
                    # Events are plain text: the context of an encrypted message must not leak.
                    context={} if message.encrypted else context_of(message),
                    correlation_id=message.correlation_id,
                    trace_id=message.trace_id,
                )
                for event in success.events
            ]
        except (KeyError, TypeError):
            text = "NuropbSuccess: each event must be a mapping with topic and payload"
            return self.failed(work, NuropbHandlingError(text))
        outcome, answer = self.returned(work, success.result)
        return outcome, [*answer, *events]
