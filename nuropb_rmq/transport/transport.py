"""The coroutine core: start, stop, send, request, state. It owns the tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from ..amqp.outgoing import WAITING
from ..amqp.publisher import Publisher
from ..broker.connection import BrokerConnection
from ..broker.session import Role, Session
from ..broker.state import Lifecycle, State, StateCallback
from ..broker.supervisor import Link
from ..broker.topology import Topology
from ..config.settings import TransportConfig
from ..exceptions import (
    NuropbConfigurationError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
    TransportClosedError,
)
from ..protocol import handled, writer
from ..protocol.constants import REQUEST, ResponsePayloadDict, new_id
from ..protocol.message import Handler
from ..shielded import shielded
from .dispatcher import Dispatcher
from .hooks import Hooks
from .managed import Managed
from .observer import Observer, Observers
from .packer import Outbound, identify
from .pending_requests import Replies
from .sealing import PayloadEncryptor, Sealing
from .sender import Confirmation, Posts, grace_period, seconds
from .task_runner import begin

logger = logging.getLogger("nuropb_rmq.transport")
DEFAULT_GRACE = 10.0
"""Seconds that stop() gives to what is in hand."""
STOPPED_WITHIN = 5.0
"""Seconds behind the grace period in which stop() ends, whatever the broker and handlers do."""
_ABORT_AFTER = 4.0  # seconds behind the grace period after which sockets are aborted
_ALIVE = (State.READY, State.BLOCKED, State.RECOVERING)


class Transport(Managed):
    """Requests, commands, events and responses over RabbitMQ, recovering by itself.

    With a handler (`async def handler(message) -> result`) it serves `config.service_name`;
    with `config.client_only` it only sends. Constructed without a loop; one start() at a time.
    """

    def __init__(
        self,
        config: TransportConfig,
        handler: Handler | None = None,
        *,
        encryptor: PayloadEncryptor | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._hooks = hooks or Hooks()
        self._handler = handler
        if handler is None and not config.client_only:
            raise NuropbConfigurationError(
                "handler", "a service needs one; a transport that only sends needs client_only=True"
            )
        if config.broker.tls is not None:
            config.broker.tls.context()  # a missing file is told now, not at the first connect
        self._config = config
        self._sealing = Sealing(encryptor)
        self._instance_id = config.instance_id or self._hooks.instance_id
        self._life = Lifecycle()
        self._observers = Observers()
        self._life.on_change(self._observers.state_changed)
        self._links: list[Link] = []
        self._closing: asyncio.Task[None] | None = None
        self._publisher: Publisher
        self._replies: Replies
        self._posts: Posts
        self._outbound: Outbound
        self._dispatcher: Dispatcher | None = None
        self._serving = True

    @property
    def config(self) -> TransportConfig:
        """The configuration it was made with."""
        return self._config

    @property
    def instance_id(self) -> str:
        """Its instance id; made at start() when the configuration has none."""
        return self._instance_id

    @property
    def response_queue(self) -> str:
        """The queue of responses to this instance; "" before start(). A recovery may renew it."""
        return self._outbound.topology.response_queue.name if self._links else ""

    @property
    def state(self) -> State:
        """Where it is; of two connections the worse counts. STOPPED when its loop was closed."""
        return State.STOPPED if self._life.stranded else self._life.state

    @property
    def error(self) -> NuropbTransportError | None:
        """The trouble behind the state, when there is any."""
        return self._life.error

    @property
    def consuming(self) -> bool:
        """True until stop_consuming(): messages are taken whenever it is connected."""
        return self._serving

    @property
    def pending(self) -> int:
        """Requests that wait for their response."""
        return len(self._replies) if self._links else 0

    @property
    def dropped(self) -> dict[str, int]:
        """Number of messages of the response queue dropped since start(), by reason."""
        return dict(self._replies.dropped) if self._links else {}

    def on_state_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(state, error)` after every change; return a function that stops it."""
        return self._life.on_change(callback)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` of every message from now on; return a function that stops it."""
        return self._observers.add(observer)

    async def wait_for(self, *states: State, timeout: float | None = None) -> State:
        """Wait until the state is one of these, at most `timeout` seconds; returns it.

        Raises NuropbTimeoutError, and TransportClosedError when it fails or stops meanwhile.
        """
        self.leave_closed_loop()
        return await self._life.wait_for(states, timeout)

    # -- start and stop ---------------------------------------------------------------------

    async def start(self, *, deadline: float | None = None) -> None:
        """Connect, declare and consume; returns when it serves, within connect_timeout.

        Waits up to instance_retry longer for a locked response queue; on failure, closes within
        2 s. `deadline`, in loop time: the end of a connect_timeout that the caller has begun.

        Raises a NuropbTransportError: BrokerUnreachableError, BrokerAuthenticationError,
        ServiceNotConfigured (virtual host or exchange missing), InstanceInUseError,
        TokenProviderError, or TransportClosedError (stop() came first). Nothing is left open then.
        """
        self.leave_closed_loop()
        if not self.state.over:
            raise NuropbTransportError(f"start(): the transport is {self.state.name} already")
        if self._closing is not None:
            if self._closing.get_loop() is asyncio.get_running_loop():
                await shielded(self._closing)
            self._closing = None
        self._prepare()
        deadline = deadline or asyncio.get_running_loop().time() + self._config.connect_timeout
        try:
            for link in self._links:
                link.begin(deadline)
            for link in self._links:
                await link.started()
            for error in (each.error for each in self._links if each.state is State.FAILED):
                raise error or NuropbTransportError("failed")
        except BaseException as e:
            if self._closing is None:
                cancelled = TransportClosedError("start() was cancelled")
                reason = e if isinstance(e, NuropbTransportError) else cancelled
                self._closing = begin(self._close(reason), "nuropb-start-failed")
            await shielded(self._closing)
            raise

    def _prepare(self) -> None:
        """Everything new for this start: nothing of an earlier run can leak into it."""
        config, hooks = self._config, self._hooks
        self._instance_id = config.instance_id or hooks.instance_id or new_id()
        self._serving = True
        room = {"max_messages": config.outbox_messages, "max_bytes": config.outbox_bytes}
        self._publisher = Publisher(**room, max_body=config.max_body_bytes)
        self._replies = Replies(self._sealing, config, on_response=hooks.on_response)
        topology = Topology.of(config, self._instance_id)
        parts = (config, topology, self._publisher, self._sealing)
        outbound = Outbound(*parts, encode=hooks.encode, observers=self._observers)
        self._outbound = outbound
        self._posts = Posts(config, outbound, self._replies, hooks.on_response, hooks.on_failure)
        if self._handler is not None and not config.client_only:
            self._dispatcher = Dispatcher(
                *(config, self._handler, outbound, self._sealing, self._observers),
                shutting_down=lambda: any(link.cancelled for link in self._links),
                settler=hooks.settler,
            )
        ways = partial(Session, publisher=self._publisher, responses=self._replies)
        session = partial(ways, steps=hooks.steps, configure=hooks.configure)

        def new_session(connection: BrokerConnection, role: Role, renews: bool) -> Session:
            if renews:
                self._replies.redirect(*outbound.renew_response_queue())
            service = self._dispatcher if self._serving else None
            return session(connection, config, outbound.topology, role, service=service)

        roles = [Role.CLIENT] if config.client_only else [Role.PUBLISHING, Role.CONSUMING]
        link = partial(Link, config, instance_id=self._instance_id, new_session=new_session)
        self._links = [link(each, on_change=self._link_changed) for each in roles]
        self._life.set(State.CONNECTING, None)

    async def stop(self, *, grace: float = DEFAULT_GRACE) -> None:
        """Stop consuming, finish what is in hand for up to `grace` seconds, and close.

        Messages that were not begun go back to the queue at once, unfinished ones after the grace
        period. Returns within `grace` + 5 seconds, whatever the broker does. A second call waits
        for the same end. Cancelling a call ends only its wait: the transport stops all the same.
        Raises NuropbTransportError in a loop other than start()'s.
        """
        grace = grace_period(grace)
        self.leave_closed_loop()
        if self.state.over:
            return
        self._life.check_home()
        if self._closing is None:
            self._closing = begin(self._stop(grace), "nuropb-stop")
        await shielded(self._closing)

    async def _stop(self, grace: float) -> None:
        if self.state in _ALIVE:
            self._life.set(State.DRAINING, None)
            try:
                async with asyncio.timeout(grace):
                    await self._drain()
            except TimeoutError:
                logger.warning("stop(): not everything was finished within %g s", grace)
        await self._close(TransportClosedError("the transport was stopped"))

    async def _drain(self) -> None:
        await self.stop_consuming()
        if self._dispatcher is not None:
            await self._dispatcher.drained()
        await self._publisher.flushed()

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue until the next start().

        Running handlers finish; sending and responses go on. Messages that have arrived and were
        not begun go back to the queue.
        """
        self.leave_closed_loop()
        self._life.check_home()
        self._serving = False
        for link in () if self.state.over else self._links:
            await link.stop_consuming()
        if self._dispatcher is not None:
            self._dispatcher.stop_taking()

    def leave_closed_loop(self) -> None:
        """Drop what belongs to a loop that was closed before stop(): start() begins anew."""
        if self._life.stranded:
            for link in self._links:
                link.abandon()
            self._closing = None
            self._life.leave_closed_loop()

    async def _close(self, reason: NuropbTransportError, final: State = State.STOPPED) -> None:
        """End everything; the order lets handlers that are cancelled still find a transport."""
        deadline = asyncio.get_running_loop().time() + _ABORT_AFTER
        if self._dispatcher is not None:
            await self._dispatcher.cancel()
        await asyncio.gather(*(link.stop(deadline) for link in self._links))
        self._publisher.close(reason)
        self._posts.close()
        self._replies.fail_all(reason)
        self._life.set(final, reason)

    def _link_changed(self, changed: Link) -> None:
        self._life.wake()
        if changed.role is not Role.PUBLISHING and changed.state in _ALIVE:
            self._replies.expose()  # at its return too: what was written meanwhile has no answer
        self._publisher.responses_come(self._links[-1].state.up)
        if changed.state is State.BLOCKED:
            self._publisher.stalled()
        if self._closing is not None or self.state not in (*_ALIVE, State.CONNECTING):
            return
        worst, before = max(self._links, key=lambda link: link.state.value), self.state
        if worst.state is State.FAILED and before is not State.CONNECTING:
            failed = worst.error or NuropbTransportError("failed")
            self._closing = begin(self._close(failed, State.FAILED), "nuropb-failed")
        elif worst.state in _ALIVE:
            self._life.set(worst.state, worst.error)
            if before is State.RECOVERING and worst.state.up:
                self._replies.recovered(self._config.unknown_outcome_after)

    # -- sending ----------------------------------------------------------------------------

    def post(
        self,
        payload: Mapping[str, Any],
        *,
        ttl: float | None = None,
        priority: int | None = None,
        encoding: str = "json",
        encrypted: bool = False,
        timeout: float | None = None,
    ) -> Confirmation:
        """Send a payload, from synchronous code of the loop's thread; see send().

        What cannot be sent raises at once. The future is done when the broker has confirmed the
        message, and raises the rest; nobody has to wait for it: its error is logged then.
        """
        self._life.check_open()
        return self._posts.post(
            payload,
            ttl=ttl,
            priority=priority,
            encoding=encoding,
            encrypted=encrypted,
            timeout=timeout,
        )

    async def send(
        self,
        payload: Mapping[str, Any],
        *,
        ttl: float | None = None,
        priority: int | None = None,
        encoding: str = "json",
        encrypted: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Send a payload; returns when the broker has confirmed it.

        `ttl` is its expiration in seconds (commands and requests: `default_ttl`); `timeout`, in
        seconds, is how long to wait for the broker (`publish_timeout`); `priority` needs a service
        with `max_priority`. Raises NuropbValidationError, NuropbSerializationError or
        EncryptionError for what cannot be sent, NuropbNotDeliveredError when no queue takes a
        request or command, PublishNackedError, TopicRefusedError, OutboxFullError,
        NuropbTimeoutError (never sent), NuropbOutcomeUnknownError (written, and not confirmed),
        TransportClosedError. When cancelled, what was not written is never sent.
        """
        confirmation = self.post(
            payload,
            ttl=ttl,
            priority=priority,
            encoding=encoding,
            encrypted=encrypted,
            timeout=timeout,
        )
        try:
            await confirmation
        finally:
            self._posts.abandon(confirmation)

    async def request(
        self,
        payload: Mapping[str, Any],
        *,
        timeout: float | None = None,
        priority: int | None = None,
        encrypted: bool = False,
    ) -> ResponsePayloadDict:
        """Send a request and wait for its response, which may carry an error.

        `timeout`, in seconds, is also the message's expiration (`request_timeout` by default). In a
        handler it is at most what the handled request has left (`inherit_deadline`).
        Cancelling forgets the call. Raises what send() raises, NuropbTimeoutError when there is
        no response in time, MalformedMessageError or EncryptionError when it cannot be read,
        NuropbOutcomeUnknownError when it was lost with a connection, and PendingFullError.
        """
        self._life.check_open()
        if writer.check_outgoing(payload) is not REQUEST:
            raise NuropbValidationError("payload field 'tag': request() sends requests, see send()")
        timeout = self._config.request_timeout if timeout is None else seconds("timeout", timeout)
        asked = timeout
        if handled.current() is not None and self._config.inherit_deadline:
            timeout = handled.bounded(timeout)
        identified = identify(payload)
        pending = self._replies.open(identified["correlation_id"], timeout)
        pending.encrypted = encrypted
        try:
            message = pending.message = self._outbound.pack(
                identified,
                kind=REQUEST,
                ttl=timeout,
                priority=priority,
                encrypted=encrypted,
                awaited=True,
            )
            self._outbound.request(message, pending.published)
            try:
                return cast(ResponsePayloadDict, await pending.future)
            except NuropbTimeoutError as e:
                raise e if timeout == asked else handled.over(e) from None
            finally:
                if message.stage is WAITING:
                    self._outbound.discard(message, NuropbTimeoutError("nobody waits for it"))
        finally:
            self._replies.close(pending)
