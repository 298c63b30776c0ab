"""A message that is delivered again while its handler runs here: one handler, one outcome.

The broker delivers a message again when the channel ends that it was delivered on, however its
handler is doing. That delivery joins the handler, and is settled by its outcome.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from ..amqp import frames
from ..amqp.consumer import Consumer
from ..amqp.frames import Content
from ..exceptions import AMQPProtocolError
from .delivery import Delivery

logger = logging.getLogger("nuropb_rmq.transport")

DELIVERY_COUNT: Final = "x-delivery-count"
"""Header of a quorum queue: how often the message came back unhandled."""
_COUNTS: Final = (DELIVERY_COUNT, "x-acquired-count")
"""Headers that a quorum queue sets when it delivers a message again."""


class InHand(dict[Delivery, None]):
    """Deliveries that were begun and are not settled; first those whose channel has ended.

    It is a dict for its order, and because every message passes it.
    """

    def join(self, consumer: Consumer, content: Content) -> bool:
        """Let a delivery join the handler of its message; False when there is none here.

        `content` was delivered before. A message in hand cannot be delivered again unless its
        channel has ended; and it is taken for the same message only when nothing differs, for
        correlation ids are its author's to choose.
        """
        for work in self:
            if not work.stale:
                return False
            if same_message(work.content, content):
                del self[work]
                self[work] = None  # behind those whose channel has ended
                work.delivered_again(consumer, content)
                logger.debug("delivery %d joins the handler of its message", content.tag)
                return True
        return False


def same_message(one: Content, other: Content) -> bool:
    """Whether two deliveries can be of one message: all is equal but what the broker counts."""
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
    """Properties and headers without the broker's counts; what cannot be read equals nothing."""
    try:
        properties = frames.decode_properties(raw)
        headers = frames.decode_table(properties.headers or b"")
    except AMQPProtocolError:
        return object()
    for name in _COUNTS:
        headers.pop(name, None)
    return replace(properties, headers=None), headers
