"""Settings, the broker's address and TLS, and access tokens; checked when they are made."""

from .address import AmqpUrl as AmqpUrl
from .address import Broker as Broker
from .address import TLSConfig as TLSConfig
from .outage import Outage as Outage
from .settings import CLASSIC as CLASSIC
from .settings import QUORUM as QUORUM
from .settings import TransportConfig as TransportConfig
