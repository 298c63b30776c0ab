"""Log records of handlers that fail and of messages that are refused.

A handler's failure is an ERROR with its traceback. A sender's mistake (unknown method, wrong
parameters, not authorized, unreadable) is one WARNING line, whether the library or the handler
refuses it, and equal ones are summed up, so that no sender can fill a service's log.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from ..config.outage import REFUSALS
from ..exceptions import NuropbRemoteError
from ..printable import printable
from ..protocol.constants import MessageType
from ..protocol.handled import IncomingMessage
from ..protocol.message import describe
from ..protocol.reader import Head
from ..safe_logging import Blame, Loggable, ServiceLog, blamed, origin
from .repeats import Repeats
from .stacks import raised_at

logger = logging.getLogger("nuropb_rmq.transport")

_LONGEST_TEXT: Final = 300
_LONGEST_NAME: Final = 100


class Failed(IncomingMessage, Loggable, Protocol):
    """A message whose handling is logged."""


class Failures:
    """Logger of the failed and refused messages of one service instance.

    `texts`: log the texts of errors. Those of encrypted messages and of authorize_func are never
    logged, since they may quote secrets.
    """

    def __init__(self, service_name: str, instance_id: str, *, texts: bool) -> None:
        self._service = service_name
        self._instance = instance_id
        self._texts = texts
        self._log = ServiceLog(logger, service_name, instance_id)
        self._repeats = Repeats(self._log)

    def failed(self, message: Failed, error: BaseException) -> None:
        """Log that handling the message ended with this error."""
        blame = blamed(error)
        # Another service's refusal is this handler's failure: it sent the wrong parameters.
        refusal = isinstance(error, REFUSALS) and not isinstance(error, NuropbRemoteError)
        if blame is not Blame.HANDLER or refusal:
            self._refused(message, error, blame)
            return
        text = (
            f"{self._named(message)} failed with {type(error).__qualname__} ({self._ids(message)})"
        )
        if self._texts and not message.encrypted:
            self._log.error("%s", text, exc_info=error, about=message)
        else:
            self._log.error("%s\n%s", text, origin(error), about=message)

    def comes_back(self, message: Failed, error: BaseException, delay: float) -> None:
        """Log that the message failed with this error, and is handled again later."""
        named = f"{self._named(message)} failed with {type(error).__name__}"
        text = named
        if self._texts and not message.encrypted:
            text += f": {printable(describe(error)['description'], _LONGEST_TEXT)}"
        again = f"attempt {message.attempts}, again in {delay:g} s"
        self._repeats.warning(named, f"{text}; {again} ({self._ids(message)})", message)

    def unreadable(self, head: Head, error: BaseException) -> None:
        """Log that a message was dead-lettered without being handled."""
        named = f"{self._service}: a message that cannot be handled is dead-lettered"
        ids = self._ids_of(head.correlation_id, head.trace_id)
        key = f"{named}: {type(error).__name__}"
        text = f"{named}: {printable(str(error), _LONGEST_TEXT)} ({ids})"
        self._repeats.warning(key, text, head)

    def close(self) -> None:
        """Log the counts of warnings that were not shown."""
        self._repeats.sum_up()

    def _refused(self, message: Failed, error: BaseException, blame: Blame) -> None:
        named = f"{self._named(message)} refused: {type(error).__name__}"
        text = named
        if blame is not Blame.AUTHORIZER and self._texts and not message.encrypted:
            text += f": {printable(str(error), _LONGEST_TEXT)}"
        if blame is not Blame.SENDER:
            by = "the handler" if blame is Blame.HANDLER else "authorize_func"
            place = raised_at(error)  # authorize_func's text may quote the token
            text += f", raised by {by} at {place}" if place else ""
        self._repeats.warning(named, f"{text} ({self._ids(message)})", message)

    def _named(self, message: Failed) -> str:
        kind, payload = message.kind, message.payload
        if kind is MessageType.EVENT:
            return f"{self._service}: event {printable(str(payload.get('topic')), _LONGEST_NAME)}"
        return f"{self._service}.{printable(str(payload.get('method')), _LONGEST_NAME)}"

    def _ids(self, message: Failed) -> str:
        return f"{message.kind.value} {self._ids_of(message.correlation_id, message.trace_id)}"

    def _ids_of(self, correlation_id: str, trace_id: str | None) -> str:
        trace = "none" if trace_id is None else printable(trace_id, _LONGEST_NAME)
        return (
            f"{printable(correlation_id, _LONGEST_NAME)}, trace {trace}, instance {self._instance}"
        )
