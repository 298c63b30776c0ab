"""The coroutine core: sending, requests and their answers, and the messages of a service."""

from .transport import Transport as Transport
