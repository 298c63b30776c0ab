"""The coroutine core: sending, requests and their answers, and the messages of a service."""

from .transport import DEFAULT_GRACE as DEFAULT_GRACE
from .transport import STOPPED_WITHIN as STOPPED_WITHIN
from .transport import Transport as Transport
