"""Private attributes of the package: tests reach them here, and nowhere else.

tests/unit/test_private.py enforces it. When the package is restructured, this file changes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import quote

import opentelemetry.metrics._internal as otel_metrics
import opentelemetry.trace as otel_trace

from nuropb_rmq import RMQAPI, Encryptor, EventListener, Mesh, RMQTransport, Transport, blocking
from nuropb_rmq.amqp.channel import ChannelPort
from nuropb_rmq.amqp.deliveries import Deliveries
from nuropb_rmq.amqp.outbox import Outbox
from nuropb_rmq.amqp.publisher import Publisher
from nuropb_rmq.amqp.publisher_channel import PublisherChannel
from nuropb_rmq.amqp.router import FrameRouter
from nuropb_rmq.broker.management import ManagementAPI
from nuropb_rmq.broker.session import Session
from nuropb_rmq.broker.supervisor import Link
from nuropb_rmq.compat.callbacks import Callbacks
from nuropb_rmq.memory import host as memory_host
from nuropb_rmq.mesh.discovery import Description, Discovery
from nuropb_rmq.protocol.foreign_encryptor import ForeignEncryptor
from nuropb_rmq.testing import RabbitMQCluster, RabbitMQNode
from nuropb_rmq.transport.deadlines import Deadlines
from nuropb_rmq.transport.delivery import Delivery
from nuropb_rmq.transport.dispatcher import Dispatcher
from nuropb_rmq.transport.packer import Outbound
from nuropb_rmq.transport.pending_requests import Replies
from nuropb_rmq.transport.sender import Confirmation
from nuropb_rmq.transport.task_runner import Runner


class Connection:
    """One connection of a transport, from inside."""

    def __init__(self, link: Link) -> None:
        self.link = link

    @property
    def up(self) -> bool:
        """Return whether it is connected and set up."""
        return self.link.state.up

    @property
    def runs(self) -> bool:
        """Return whether its task is under way."""
        task = self.link._task
        return task is not None and not task.done()

    @property
    def tries(self) -> int:
        """Number of sessions that ended soon after they began, since the last that did not."""
        return self.link._tries

    def pause(self, *, tries: int, lived: float) -> float:
        """The seconds to the next session, after one that lived so long behind so many tries."""
        self.link._tries = tries
        return self.link._pause(lived)

    @property
    def session(self) -> Session:
        """The session that is set up."""
        assert self.link._session is not None
        return self.link._session

    @property
    def router(self) -> FrameRouter:
        """The frame router of that session."""
        router = self.session._router
        assert isinstance(router, FrameRouter)
        return router

    @property
    def ports(self) -> list[ChannelPort]:
        """The channels of that session, in the order of its setup."""
        return self.session._ports

    @property
    def broker_port(self) -> int:
        """The TCP port that it is connected to."""
        socket = self.router._out_transport
        assert socket is not None
        return int(socket.get_extra_info("peername")[1])


def cut(listener: EventListener) -> None:
    """End the connection of a listener at once."""
    assert listener._connection is not None
    listener._connection.router.abort("cut by the test")


def connections_of(transport: Transport) -> list[Connection]:
    """The connections of a transport: the publishing one first, the consuming one last."""
    return [Connection(each) for each in transport._links]


class Insides:
    """The private state of a frame router."""

    def __init__(self, router: FrameRouter) -> None:
        self._router = router

    @property
    def buffer(self) -> bytearray:
        """The bytes that have arrived of an incomplete frame."""
        return self._router._buffer

    @property
    def need(self) -> int:
        """Number of bytes of that frame."""
        return self._router._need

    @property
    def refused(self) -> bool:
        """Return whether the peer does not speak AMQP."""
        return self._router._refused

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket to take them."""
        socket = self._router._out_transport
        assert socket is not None
        return socket.get_write_buffer_size() + self._router._outflow.size

    @property
    def patience(self) -> float | None:
        """The seconds of silence after which the connection is lost; None when nobody looks."""
        watch = self._router._liveness
        return None if watch._timer is None else watch._patience

    def look(self) -> None:
        """Judge the silence now, as the timer does."""
        self._router._liveness._check()

    def show_no_heartbeats(self) -> None:
        """Show aiormq none for the content that it does not see."""
        self._router._liveness._last_shown = math.inf

    def count_cuts(self) -> list[int]:
        """Return the sizes of what is cut into frames from now on, a list that grows."""
        cut, sizes = self._router._cut, list[int]()

        def counting(data: bytes) -> int:
            sizes.append(len(data))
            return cut(data)

        self._router._cut = counting  # type: ignore[method-assign]
        return sizes


def inside(router: FrameRouter) -> Insides:
    """Look into a frame router."""
    return Insides(router)


def memory_names() -> set[str]:
    """The names of the brokers that are in memory."""
    return set(memory_host._hosts)


def kept_of_body(port: ChannelPort) -> int:
    """Bytes of a body that is not complete."""
    return sum(map(len, port._chunks))


def publisher_of(transport: Transport) -> Publisher:
    """The publisher of a transport that was started."""
    return transport._parts.publisher


class Publishing(NamedTuple):
    """A publisher's channel, and what waits for it."""

    channel: PublisherChannel | None
    outbox: Outbox
    held: Outbox
    """Requests, while no responses are consumed."""
    paused: Collection[object]
    """Messages that the broker refused, until they are tried again."""


def publishing(transport: Transport) -> Publishing:
    """The channel that it publishes through, and the messages that wait, by what for."""
    publisher = transport._parts.publisher
    return Publishing(publisher._channel, publisher._outbox, publisher._held, publisher._paused)


def outbound_of(transport: Transport) -> Outbound:
    """The packer of a transport that was started; it has the topology."""
    return transport._parts.outbound


def replies_of(transport: Transport) -> Replies:
    """The requests of a transport that wait for their response."""
    return transport._parts.replies


def confirmations(transport: Transport, timeout: float = 30.0) -> list[Confirmation]:
    """The sends that wait so many seconds for the broker."""
    return list(transport._parts.sender._deadlines._queues.get(timeout, ()))


def dispatcher_of(transport: Transport) -> Dispatcher:
    """The dispatcher of a service."""
    assert transport._dispatcher is not None
    return transport._dispatcher


def in_hand(transport: Transport) -> Collection[Delivery]:
    """The messages that a service handles now."""
    return dispatcher_of(transport)._in_hand


def set_aside(transport: Transport) -> Collection[object]:
    """The messages that wait until the service handles nothing else."""
    return dispatcher_of(transport)._suspects._held


def encryptor_of(owner: Mesh | RMQAPI | Transport) -> Encryptor:
    """The encryptor that it calls with."""
    if isinstance(owner, RMQAPI):
        return owner._encryptor
    found = owner._caller._encryptor if isinstance(owner, Mesh) else owner._sealing._encryptor
    assert isinstance(found, Encryptor)
    return found


class Keys(NamedTuple):
    """The keys that an encryptor remembers."""

    sent: Collection[str]
    owed: Collection[str]
    shared: dict[str, Any]
    unwrapped: Collection[bytes]


def keys_of(encryptor: Encryptor | ForeignEncryptor) -> Keys:
    """The calls sent and owed an answer, and the keys for services and from requesters."""
    if isinstance(encryptor, ForeignEncryptor):
        return Keys(encryptor._sent, encryptor._owed, {}, ())
    return Keys(encryptor._sent, encryptor._owed, encryptor._shared, encryptor._unwrapped)


class Descriptions(NamedTuple):
    """The descriptions of services that a mesh has, and those on their way."""

    known: Mapping[str, Description]
    fetching: Mapping[str, asyncio.Task[Description]]


def descriptions_of(owner: Mesh | Discovery) -> Descriptions:
    """The descriptions that it has and fetches."""
    discovery = owner._caller.discovery if isinstance(owner, Mesh) else owner
    return Descriptions(discovery._known, discovery._fetching)


def callbacks_of(transport: RMQTransport) -> Callbacks:
    """The handler of an RMQTransport, which gives messages to its message_callback."""
    return transport._callbacks


def overridden(transport: RMQTransport) -> set[str]:
    """The class methods that a subclass overrides, as far as they are called for it."""
    callbacks = transport._callbacks
    found = {"settling": callbacks._acknowledge, "metrics": callbacks._metrics}
    return {name for name, method in found.items() if method is not None}


def handed_on(api: RMQAPI) -> Collection[str]:
    """The responses that receive_transport_message has, and has not completed yet."""
    return api._receiving._waiting


def tasks_of(owner: Session | RMQTransport | Callbacks | Runner[Any]) -> set[asyncio.Task[None]]:
    """The tasks that it owns."""
    return owner._tasks


def kept_by(owner: ModuleType | Deliveries) -> dict[Any, Any]:
    """The layouts that protocol.reader or Deliveries keep, or the loops that stalls watches."""
    name = "_watches" if hasattr(owner, "_watches") else "_layouts"
    found: dict[Any, Any] = getattr(owner, name)
    return found


def lengths(deadlines: Deadlines[Any]) -> tuple[int, int]:
    """Return the numbers of its queues and of its timers."""
    return len(deadlines._queues), len(deadlines._timers)


def own_ports(owner: RabbitMQNode | RabbitMQCluster) -> set[int]:
    """Every port that a node listens on; that of the Erlang port mapper of a cluster."""
    if isinstance(owner, RabbitMQCluster):
        return {owner._epmd_port}
    assert owner._ports is not None
    return set(dataclasses.astuple(owner._ports))


def epmd_pid(node: RabbitMQNode) -> int:
    """The process id of a node's Erlang port mapper."""
    assert node._epmd is not None
    return node._epmd.pid


async def grant(api: ManagementAPI, vhost: str, user: str) -> None:
    """Grant a user everything in a virtual host; create_vhost() does so for its own user."""
    await api._grant(vhost, quote(vhost, safe=""), user)


def blocking_calls(mesh: blocking.Mesh) -> int:
    """Return the number of calls of other threads that its loop has in hand."""
    run = mesh._hosted._run
    return 0 if run is None else len(run._thread._calls)


def observed(transport: Transport) -> bool:
    """Return whether anybody observes its messages, or makes spans of them."""
    return transport._observers.active


def forget_providers() -> None:
    """Let OpenTelemetry be as it is before a program has set providers."""
    homes: list[tuple[Any, str]] = [
        (otel_trace, "_TRACER_PROVIDER"),
        (otel_metrics, "_METER_PROVIDER"),
    ]
    for home, name in homes:
        setattr(home, name, None)
        getattr(home, f"{name}_SET_ONCE")._done = False
