"""NuroPb on the wire: payloads, messages, encryption, and the outcomes of messages."""

from .constants import *  # noqa: F403 - all of them were in this module once
from .constants import (
    COMMAND as COMMAND,
)
from .constants import (
    CONTENT_TYPE as CONTENT_TYPE,
)
from .constants import (
    DEFAULT_DL_EXCHANGE as DEFAULT_DL_EXCHANGE,
)
from .constants import (
    DEFAULT_EVENTS_EXCHANGE as DEFAULT_EVENTS_EXCHANGE,
)
from .constants import (
    DEFAULT_RPC_EXCHANGE as DEFAULT_RPC_EXCHANGE,
)
from .constants import (
    EVENT as EVENT,
)
from .constants import (
    HEADER_CALL_AGAIN_COUNT as HEADER_CALL_AGAIN_COUNT,
)
from .constants import (
    HEADER_CALL_AGAIN_EXCHANGE as HEADER_CALL_AGAIN_EXCHANGE,
)
from .constants import (
    HEADER_CALL_AGAIN_ROUTING_KEY as HEADER_CALL_AGAIN_ROUTING_KEY,
)
from .constants import (
    HEADER_ENCRYPTED as HEADER_ENCRYPTED,
)
from .constants import (
    HEADER_PROTOCOL as HEADER_PROTOCOL,
)
from .constants import (
    HEADER_TRACE_ID as HEADER_TRACE_ID,
)
from .constants import (
    HEADER_TYPE as HEADER_TYPE,
)
from .constants import (
    HEADER_VERSION as HEADER_VERSION,
)
from .constants import (
    KINDS as KINDS,
)
from .constants import (
    MAX_EXPIRATION as MAX_EXPIRATION,
)
from .constants import (
    MAX_SECONDS as MAX_SECONDS,
)
from .constants import (
    REQUEST as REQUEST,
)
from .constants import (
    RESPONSE as RESPONSE,
)
from .constants import (
    new_id as new_id,
)
