"""The end of a failed message: a dead letter that says why, or none, for its requester knows.

The letter is a confirmed copy, published to the dead-letter exchange before the message itself is
acknowledged. Where it cannot be written at once, or the broker refuses it, the message is rejected,
as without a reason: a failing message never waits for the broker.
"""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from typing import Any, Final

from pamqp import encode

from ..amqp.settlement import ACK
from ..config.settings import TransportConfig
from ..exceptions import AMQPProtocolError, NuropbTransportError
from ..printable import shorten
from ..protocol import dead_letter
from ..protocol.constants import REQUEST, new_id
from ..protocol.message import describe
from ..protocol.put_back import history, pack_copy
from ..protocol.reader import Head
from ..safe_logging import Blame, blamed, origin
from .delivery import Delivery, Pace
from .packer import Outbound

_LONGEST_TEXT: Final = 4096
_LONGEST_TRACEBACK: Final = 8192
_LONGEST_NAME: Final = 255
_REST: Final = 256
"""Bytes of properties that are not counted one by one."""


class Letters:
    """Sender of the dead letters of one service instance.

    `texts`: the texts of errors go along. Those of encrypted messages and of authorize_func never
    do, since they may quote secrets.
    """

    def __init__(self, config: TransportConfig, outbound: Outbound) -> None:
        self._outbound = outbound
        self._queue = config.service_queue_name
        self._texts = config.log_error_text
        self._keeps_requests = config.dead_letter_requests

    def end(self, work: Delivery) -> None:
        """Let a message end whose handler has failed: before its last published()."""
        answered = work.head.kind is REQUEST and work.sent and work.pace is not Pace.OVERDUE
        if answered and not self._keeps_requests and work.settler is None:
            work.settlement = ACK  # unless the answer cannot be delivered; see Answers.undelivered
        else:
            self.send(work)

    def send(self, work: Delivery) -> None:
        """Send the letter, if that can be done at once; its confirm then settles the message."""
        room = self._outbound.headers_room
        error, content = work.error, work.content
        if not room or error is None or work.stale or work.settler is not None:
            return
        if len(content.body) != content.body_size:  # the broker has all of it
            return
        try:
            properties = self._pack(work, error, room)
        except AMQPProtocolError:  # unreadable properties, or no room for any reason
            return
        on_done = work.expect_letter()
        try:
            self._outbound.dead_letter(work.head, properties, on_done)
        except NuropbTransportError as e:  # closed
            on_done(e)

    def _pack(self, work: Delivery, error: BaseException, room: int) -> bytes:
        head = work.head
        payload = work.message.payload
        headers = {
            **history(head, error),
            dead_letter.HEADER_DEAD_LETTER_OF: self._queue,
            dead_letter.HEADER_FAILURE_ID: new_id(),
            dead_letter.HEADER_FAILED_INSTANCE: self._outbound.topology.instance_id,
            dead_letter.HEADER_FAILED_AT: datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        if head.first_failed_at is not None:
            headers[dead_letter.HEADER_FIRST_FAILED_AT] = head.first_failed_at
        method = payload.get("method", payload.get("topic"))
        if isinstance(method, str) and not head.encrypted:
            headers[dead_letter.HEADER_FAILED_METHOD] = shorten(method, _LONGEST_NAME)
        death = self._death(head)
        bare = pack_copy(head, headers, further=death)
        room -= len(bare) + _REST
        if self._texts and not head.encrypted and blamed(error) is not Blame.AUTHORIZER:
            headers[dead_letter.HEADER_ERROR_TEXT] = _cut(
                describe(error)["description"], min(room, _LONGEST_TEXT)
            )
            trace = "".join(traceback.format_exception(error))
            room -= _LONGEST_TEXT
        else:
            trace = origin(error)
        if room > 0 and blamed(error) is Blame.HANDLER:  # its end says where, and in what
            headers[dead_letter.HEADER_TRACEBACK] = _cut(
                trace, min(room, _LONGEST_TRACEBACK), from_end=True
            )
        return pack_copy(head, headers, further=death)

    def _death(self, head: Head) -> bytes:
        """Return the header x-death that the broker would write for a reject, packed."""
        content = head.content
        death: dict[str, Any] = {
            "count": 1,
            "exchange": content.exchange,
            "queue": self._queue,
            "reason": "rejected",
            "routing-keys": [content.routing_key],
            "time": datetime.now(UTC),
        }
        return encode.field_table({dead_letter.X_DEATH: [death]})[4:]


def _cut(text: str, size: int, *, from_end: bool = False) -> str:
    """Return at most `size` bytes of a text, in UTF-8."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= size:
        return encoded.decode()
    part = encoded[-size:] if from_end else encoded[: max(size, 0)]
    return part.decode("utf-8", "ignore")
