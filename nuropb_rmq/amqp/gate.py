"""Requests wait here while there is no consumer of their responses."""

from __future__ import annotations

from ..exceptions import NuropbException, OutboxFullError
from .outbox import Outbox
from .outgoing import Outgoing
from .publisher import Publisher


class Gate:
    """Keeps requests back while there is no consumer of their responses; bounded as the outbox."""

    def __init__(self, publisher: Publisher, *, max_messages: int, max_bytes: int) -> None:
        self._publisher = publisher
        self._open = False
        self._held = Outbox(max_messages=max_messages, max_bytes=max_bytes)
        self._closed: NuropbException | None = None

    def publish(self, message: Outgoing) -> None:
        """Publish a request, now or when the gate opens.

        Raises what Publisher.publish raises; OutboxFullError, too, when too much is held.
        """
        if self._open:
            self._publisher.publish(message)
        elif self._closed is not None:
            raise self._closed
        elif self._publisher.overfull:
            raise OutboxFullError("too many messages wait for the connection (outbox_messages)")
        else:
            self._held.check_room(message)
            self._held.add(message)

    def discard(self, message: Outgoing, error: NuropbException) -> None:
        """Settle a message, of whatever kind, that nobody waits for any more."""
        if self._held.remove(message):
            message.finish(error)
        else:
            self._publisher.discard(message, error)

    def set(self, is_open: bool) -> None:
        """Open, and publish what is held, in its order; or shut."""
        self._open = is_open
        while self._held and self._open:
            message = self._held.pop()
            if len(message.body) > self._publisher.largest:  # learned while it was held
                message.finish(self._publisher.too_large(len(message.body)))
                continue
            try:
                self._publisher.publish(message, admitted=True)
            except NuropbException as e:
                message.finish(e)

    def close(self, error: NuropbException) -> None:
        """Settle all that is held; nothing more is published."""
        self._open = False
        self._closed = error
        while self._held:
            self._held.pop().finish(error)
