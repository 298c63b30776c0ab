"""Handlers that fail and messages that are refused, as an operator reads them in the log.

A handler's failure is an ERROR with its traceback. A message that its sender got wrong (unknown
method, parameters that do not fit, not authorized, unreadable) is one WARNING line, and equal ones
are summed up: nobody may fill a service's log from outside.
"""

from __future__ import annotations

import logging
import traceback
from typing import Final

from ..printable import printable
from ..protocol.constants import MessageType
from ..protocol.handled import Told
from ..safe_logging import Blame, blamed, origin
from .repeats import Repeats

logger = logging.getLogger("nuropb_rmq.transport")

_LONGEST_TEXT: Final = 300
_LONGEST_NAME: Final = 100


class Failures:
    """Logs what went wrong with the messages of one instance of a service.

    `texts`: whether the texts of errors are logged; those of messages that came encrypted and of
    authorize_func never are: they may quote what is secret.
    """

    def __init__(self, service_name: str, instance_id: str, *, texts: bool) -> None:
        self._service = service_name
        self._instance = instance_id
        self._texts = texts
        self._repeats = Repeats(logger)

    def failed(self, message: Told, error: BaseException) -> None:
        """Log that handling the message ended with this error."""
        blame = blamed(error)
        if blame is not Blame.HANDLER:
            self._refused(message, error, blame)
            return
        text = (
            f"{self._named(message)} failed with {type(error).__qualname__} ({self._ids(message)})"
        )
        if self._texts and not message.encrypted:
            logger.error("%s", text, exc_info=error)
        else:
            logger.error("%s\n%s", text, origin(error))

    def unreadable(self, correlation_id: str, trace_id: str | None, error: BaseException) -> None:
        """Log that a message was dead-lettered unread."""
        named = f"{self._service}: a message that cannot be handled is dead-lettered"
        ids = self._ids_of(correlation_id, trace_id)
        key = f"{named}: {type(error).__name__}"
        self._repeats.warning(key, f"{named}: {printable(str(error), _LONGEST_TEXT)} ({ids})")

    def close(self) -> None:
        """Log the sums of what was not shown."""
        self._repeats.sum_up()

    def _refused(self, message: Told, error: BaseException, blame: Blame) -> None:
        named = f"{self._named(message)} refused: {type(error).__name__}"
        text = named
        if blame is Blame.AUTHORIZER:
            text += _where(error)
        elif self._texts and not message.encrypted:
            text += f": {printable(str(error), _LONGEST_TEXT)}"
        self._repeats.warning(named, f"{text} ({self._ids(message)})")

    def _named(self, message: Told) -> str:
        kind, payload = message.kind, message.payload
        if kind is MessageType.EVENT:
            return f"{self._service}: event {printable(str(payload.get('topic')), _LONGEST_NAME)}"
        return f"{self._service}.{printable(str(payload.get('method')), _LONGEST_NAME)}"

    def _ids(self, message: Told) -> str:
        return f"{message.kind.value} {self._ids_of(message.correlation_id, message.trace_id)}"

    def _ids_of(self, correlation_id: str, trace_id: str | None) -> str:
        trace = "none" if trace_id is None else printable(trace_id, _LONGEST_NAME)
        return (
            f"{printable(correlation_id, _LONGEST_NAME)}, trace {trace}, instance {self._instance}"
        )


def _where(error: BaseException) -> str:
    """The place at which authorize_func raised; its text may quote the token."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        f", raised by authorize_func at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    )
