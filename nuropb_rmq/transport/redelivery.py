"""Join a message that is delivered again to the handler that still runs for it here.

When a channel ends, the broker delivers its messages again, although their handlers go on. The new
delivery is then settled by the outcome of the running handler.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..amqp import frames
from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..exceptions import AMQPProtocolError
from .delivery import Delivery

DELIVERY_COUNT: Final = "x-delivery-count"
"""Header of a quorum queue: the number of times that the message was returned to the queue."""
_COUNTS: Final = (DELIVERY_COUNT, "x-acquired-count")
"""Headers that a quorum queue sets when it delivers a message again."""


class InHand(dict[Delivery, None]):
    """Deliveries that were begun and are not settled; those of ended channels come first.

    A dict is fast, for every message passes here, and keeps this order.
    """

    def join(self, consumer: Consumer, content: Content) -> bool:
        """Join a redelivered message to its handler; return False when none runs here.

        Only deliveries of ended channels can come again. They are compared by their whole content:
        a correlation id is chosen by its sender and may not be unique.
        """
        for work in self:
            if not work.stale:
                return False
            if same_message(work.content, content):
                del self[work]
                self[work] = None  # it now has an open channel: to the end
                work.delivered_again(consumer, content)
                text = "delivery %d: its message is being handled here already"
                work.log.debug(text, content.tag, about=work)
                return True
        return False


def same_message(one: Content, other: Content) -> bool:
    """Return whether two deliveries are equal but for the headers that count deliveries."""
    return (
        one.body == other.body
        and one.body_size == other.body_size
        and one.route == other.route
        and (
            one.raw_properties == other.raw_properties
            or _uncounted(one.raw_properties) == _uncounted(other.raw_properties)
        )
    )


def _uncounted(raw: bytes) -> object:
    """Return properties and headers without the counts; unreadable ones compare unequal."""
    try:
        properties = frames.decode_properties(raw)
        headers = frames.decode_table(properties.headers or b"")
    except AMQPProtocolError:
        return object()
    for name in _COUNTS:
        headers.pop(name, None)
    return replace(properties, headers=None), headers
