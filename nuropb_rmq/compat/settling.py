"""The channel that acknowledge_service_message is given: it settles one delivery, once."""

from __future__ import annotations

import logging

from ..amqp.settlement import Settlement
from ..exceptions import NuropbTransportError
from ..transport.delivery import Delivery

logger = logging.getLogger("nuropb_rmq.compat")


class SettlingChannel:
    """Has pika's three ways to settle, for one delivery.

    They return nothing, as pika's do: when the channel is gone, the broker delivers again.
    """

    __slots__ = ("_work", "settled")

    def __init__(self, work: Delivery) -> None:
        self._work = work
        self.settled = False

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """It was handled. Raises NuropbTransportError for another tag, or several."""
        self._settle(delivery_tag, multiple, Settlement.ACK)

    def basic_nack(
        self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True
    ) -> None:
        """Give it back, or (without `requeue`) to the dead letters. Raises as basic_ack."""
        settlement = Settlement.REQUEUE if requeue else Settlement.REJECT
        self._settle(delivery_tag, multiple, settlement)

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None:
        """Give it back, or (without `requeue`) to the dead letters. Raises as basic_ack."""
        self.basic_nack(delivery_tag, False, requeue)

    def _settle(self, delivery_tag: int, multiple: bool, settlement: Settlement) -> None:
        own = self._work.content.tag
        if multiple or delivery_tag != own:
            raise NuropbTransportError(
                f"this channel settles delivery {own} only, not {delivery_tag}"
                f"{' and those before it' if multiple else ''}"
            )
        if self.settled:
            logger.warning("delivery %d was settled before; ignored", own)
            return
        self.settled = True
        self._work.write(settlement)
