"""The error that ends a channel, with the reply codes of AMQP 0-9-1, section 1.2."""

from __future__ import annotations

from typing import Final

ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406

_NAMES: Final = {
    ACCESS_REFUSED: "ACCESS_REFUSED",
    NOT_FOUND: "NOT_FOUND",
    RESOURCE_LOCKED: "RESOURCE_LOCKED",
    PRECONDITION_FAILED: "PRECONDITION_FAILED",
}


class ChannelError(Exception):
    """A request that ends its channel, with the code and text of RabbitMQ's Channel.Close."""

    def __init__(self, code: int, problem: str) -> None:
        self.code = code
        self.text = f"{_NAMES[code]} - {problem}"
        super().__init__(self.text)
