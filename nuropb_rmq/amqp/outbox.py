"""Messages that wait to be written, in order, bounded in number and bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from ..exceptions import OutboxFullError
from .outgoing import WAITING, Outgoing


class Outbox:
    """A queue out of which any message can be taken, in constant time."""

    __slots__ = ("_max_bytes", "_max_messages", "bytes", "waiting")

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        # Not a dict, whose next(iter()) steps over every entry deleted from its front. Public, for
        # each published message checks whether it is empty.
        self.waiting: OrderedDict[Outgoing, None] = OrderedDict()
        self.bytes = 0
        """Bytes of all messages here."""

    def __len__(self) -> int:
        return len(self.waiting)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self.waiting)

    @property
    def overfull(self) -> bool:
        """True when more waits than the bounds allow: some messages are admitted past them."""
        return len(self.waiting) > self._max_messages or self.bytes > self._max_bytes

    def check_room(self, message: Outgoing) -> None:
        """Raise OutboxFullError when adding the message would exceed a bound."""
        if len(self.waiting) >= self._max_messages:
            raise OutboxFullError(
                f"{len(self.waiting)} messages wait to be sent (outbox_messages); "
                "the broker is unreachable, blocked, or slower than its publishers"
            )
        if self.bytes + message.size > self._max_bytes:
            raise OutboxFullError(
                f"{self.bytes} bytes wait to be sent, {message.size} more exceed outbox_bytes"
            )

    def add(self, message: Outgoing) -> None:
        """Append a message; its expiration goes on."""
        self._enter(message)

    def add_first(self, messages: Sequence[Outgoing]) -> None:
        """Put messages before all others, in order."""
        for message in reversed(messages):
            self._enter(message)
            self.waiting.move_to_end(message, last=False)

    def _enter(self, message: Outgoing) -> None:
        message.stage = WAITING
        message.size = len(message.properties) + len(message.body)  # it may be a resend: ALONE
        message.wait()
        self.waiting[message] = None
        self.bytes += message.size

    def pop(self) -> Outgoing:
        """Take the first message out."""
        message, _ = self.waiting.popitem(last=False)
        self.bytes -= message.size
        return message

    def remove(self, message: Outgoing) -> bool:
        """Take a message out; return False when it is not here."""
        if message not in self.waiting:
            return False
        del self.waiting[message]
        self.bytes -= message.size
        return True
