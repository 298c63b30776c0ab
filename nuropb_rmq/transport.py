"""The coroutine core: start, stop, send, request, state. It owns the tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, cast

from . import envelope
from .config import TransportConfig
from .connection import BrokerConnection
from .consumer import Consumer, Receiver
from .dispatcher import Dispatcher, Handler
from .exceptions import (
    NuropbConfigurationError,
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
    OutboxFullError,
    TransportClosedError,
)
from .link import Link
from .outbound import Outbound, identify
from .protocol import MessageType, ResponsePayloadDict, new_id
from .publisher import Outgoing, Publisher, Stage
from .replies import Replies
from .sealing import PayloadEncryptor, Sealing
from .session import Role, Session
from .state import Lifecycle, State, StateCallback
from .topology import Topology

logger = logging.getLogger(__name__)

DEFAULT_GRACE = 10.0
"""Seconds that stop() gives to what is in hand."""
_ALIVE = (State.READY, State.BLOCKED, State.RECOVERING)


class Transport:
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
    ) -> None:
        if handler is None and not config.client_only:
            raise NuropbConfigurationError(
                "handler", "a service needs one; a transport that only sends needs client_only=True"
            )
        if config.broker.tls is not None:
            config.broker.tls.context()  # a missing file is told now, not at the first connect
        self._config = config
        self._handler = handler
        self._sealing = Sealing(encryptor)
        self._instance_id = config.instance_id or ""
        self._life = Lifecycle()
        self._links: list[Link] = []
        self._closing: asyncio.Task[None] | None = None
        self._publisher: Publisher
        self._replies: Replies
        self._outbound: Outbound
        self._dispatcher: Dispatcher | None = None
        self._awaiting_responses = 0

    # -- what it is -------------------------------------------------------------------------

    @property
    def config(self) -> TransportConfig:
        """The configuration it was made with."""
        return self._config

    @property
    def instance_id(self) -> str:
        """Its instance id; made at start() when the configuration has none."""
        return self._instance_id

    @property
    def state(self) -> State:
        """Where it is; of two connections the worse counts."""
        return self._life.state

    @property
    def error(self) -> NuropbTransportError | None:
        """The trouble behind the state, when there is any."""
        return self._life.error

    @property
    def pending(self) -> int:
        """Requests that wait for their response."""
        return len(self._replies) if self._links else 0

    def on_state_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(state, error)` after every change; returns what ends that."""
        return self._life.on_change(callback)

    async def wait_for(self, *states: State, timeout: float | None = None) -> State:
        """Wait until the state is one of these, at most `timeout` seconds; returns it.

        Raises NuropbTimeoutError, and TransportClosedError when it fails or stops meanwhile.
        """
        return await self._life.wait_for(states, timeout)

    # -- start and stop ---------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, declare and consume; returns when it serves.

        Raises a NuropbTransportError: BrokerUnreachableError, BrokerAuthenticationError,
        ServiceNotConfigured (virtual host or exchange missing), InstanceInUseError, or
        TransportClosedError (stop() came first). Nothing is left open then.
        """
        if not self.state.over:
            raise NuropbTransportError(f"start(): the transport is {self.state.name} already")
        if self._closing is not None:
            await asyncio.shield(self._closing)
            self._closing = None
        self._prepare()
        try:
            for link in self._links:
                await link.start()
            for link in self._links:
                if link.state is State.FAILED and link.error is not None:
                    raise link.error
        except BaseException as e:
            if self._closing is None:
                error = e if isinstance(e, NuropbTransportError) else None
                reason = error or TransportClosedError("start() was cancelled")
                self._closing = asyncio.create_task(self._close(reason), name="nuropb-start-failed")
            await asyncio.shield(self._closing)
            raise

    def _prepare(self) -> None:
        """Everything new for this start: nothing of an earlier run can leak into it."""
        config = self._config
        self._instance_id = config.instance_id or new_id()
        topology = Topology.of(config, self._instance_id)
        self._publisher = Publisher(
            max_messages=config.outbox_messages, max_bytes=config.outbox_bytes
        )
        self._replies = Replies(self._sealing, max_depth=config.max_json_depth)
        self._outbound = Outbound(config, topology, self._publisher, self._sealing)
        service: Receiver = self._replies
        if self._handler is not None and not config.client_only:
            service = self._dispatcher = Dispatcher(
                config, self._handler, self._outbound, self._sealing
            )

        def new_session(connection: BrokerConnection, role: Role) -> Session:
            return Session(
                connection,
                config,
                topology,
                role,
                publisher=self._publisher,
                responses=self._replies,
                service=service,
            )

        roles = [Role.CLIENT] if config.client_only else [Role.PUBLISHING, Role.CONSUMING]
        self._links = [
            Link(
                config,
                role,
                instance_id=self._instance_id,
                new_session=new_session,
                on_change=self._link_changed,
            )
            for role in roles
        ]
        self._life.set(State.CONNECTING, None)

    async def stop(self, *, grace: float = DEFAULT_GRACE) -> None:
        """Stop consuming, finish what is in hand for up to `grace` seconds, and close.

        What was not finished goes back to the queue. Done within the grace period and a few
        seconds. Calling it again waits for the same end.
        """
        if self._closing is None:
            if self.state.over:
                return
            self._closing = asyncio.create_task(self._stop(grace), name="nuropb-stop")
        await asyncio.shield(self._closing)

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
        if self._dispatcher is not None:
            self._dispatcher.stop_taking()
        consumer = self._service_consumer()
        if consumer is not None:
            await consumer.cancel()
        if self._dispatcher is not None:
            await self._dispatcher.drained()
        await self._publisher.flushed()

    def _service_consumer(self) -> Consumer | None:
        return next((each.service_consumer for each in self._links if each.service_consumer), None)

    async def _close(self, reason: NuropbTransportError, final: State = State.STOPPED) -> None:
        """End everything; the order lets handlers that are cancelled still find a transport."""
        if self._dispatcher is not None:
            await self._dispatcher.cancel()
        for link in reversed(self._links):
            await link.stop()
        self._publisher.close(reason)
        self._replies.fail_all(reason)
        self._life.set(final, reason)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    # -- state ------------------------------------------------------------------------------

    def _link_changed(self, changed: Link) -> None:
        self._life.wake()
        if changed.role is not Role.PUBLISHING and changed.state in _ALIVE:
            self._replies.expose()  # at its return too: what was written meanwhile has no answer
        if self._closing is not None or self.state not in (*_ALIVE, State.CONNECTING):
            return
        worst = max(self._links, key=lambda link: link.state.value)
        before = self.state
        if worst.state is State.FAILED and before is not State.CONNECTING:
            self._fail(worst.error or NuropbTransportError("failed"))
        elif worst.state in _ALIVE:
            self._life.set(worst.state, worst.error)
            if before is State.RECOVERING and worst.state.up:
                self._replies.recovered(self._config.unknown_outcome_after)

    def _fail(self, error: NuropbTransportError) -> None:
        self._closing = asyncio.create_task(self._close(error, State.FAILED), name="nuropb-failed")

    # -- sending ----------------------------------------------------------------------------

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

        `ttl` is its expiration in seconds (commands: `default_ttl`); `timeout`, in seconds, is how
        long to wait for the broker (`publish_timeout`). Raises NuropbValidationError,
        NuropbSerializationError or EncryptionError for what cannot be sent,
        NuropbNotDeliveredError when no queue takes a request or command, PublishNackedError,
        OutboxFullError, NuropbTimeoutError (never sent), NuropbOutcomeUnknownError (written, and
        not confirmed), TransportClosedError.
        """
        if self.state.over or self.state is State.CONNECTING:
            raise self._life.closed_error()
        kind = envelope.check_outgoing(payload, encoding)
        if ttl is None and kind in (MessageType.COMMAND, MessageType.REQUEST):
            ttl = self._config.default_ttl
        timeout = self._config.publish_timeout if timeout is None else _seconds("timeout", timeout)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        deadline = loop.time() + timeout
        message = self._outbound.pack(
            identify(payload),
            lambda error: _resolve(done, error),
            kind=kind,
            ttl=None if ttl is None else _seconds("ttl", ttl),
            priority=priority,
            encrypted=encrypted,
        )
        await self._confirmed(message, done, deadline, timeout)

    async def _confirmed(
        self, message: Outgoing, done: asyncio.Future[None], deadline: float, timeout: float
    ) -> None:
        self._publisher.publish(message)
        try:
            async with asyncio.timeout_at(deadline):
                await done
        except TimeoutError as e:
            if isinstance(e, NuropbException):
                raise
            if message.stage is Stage.WAITING:
                raise NuropbTimeoutError(
                    f"never sent: the broker took no messages for {timeout:g} s"
                ) from e
            raise NuropbOutcomeUnknownError(
                f"written, but not confirmed by the broker within {timeout:g} s"
            ) from e
        finally:
            if message.stage is not Stage.DONE:
                self._publisher.discard(message, NuropbTimeoutError("nobody waits for it"))
            if done.done() and not done.cancelled():
                done.exception()  # whoever waited may have been cancelled in this moment

    async def request(
        self,
        payload: Mapping[str, Any],
        *,
        timeout: float | None = None,
        priority: int | None = None,
        encrypted: bool = False,
    ) -> ResponsePayloadDict:
        """Send a request and wait for its response, which may carry an error.

        `timeout`, in seconds, is also the message's expiration (`request_timeout` by default).
        Cancelling forgets the call. Raises what send() raises, NuropbTimeoutError when there is
        no response in time, and NuropbOutcomeUnknownError when it was lost with a connection.
        """
        if self.state.over or self.state is State.CONNECTING:
            raise self._life.closed_error()
        if envelope.check_outgoing(payload) is not MessageType.REQUEST:
            raise NuropbValidationError("payload field 'tag': request() sends requests, see send()")
        timeout = self._config.request_timeout if timeout is None else _seconds("timeout", timeout)
        identified = identify(payload)
        pending = self._replies.open(identified["correlation_id"], timeout)
        try:
            if not self._links[-1].state.up:
                await self._until_responses(pending.future)
            pending.encrypted = encrypted
            message = pending.message = self._outbound.pack(
                identified,
                pending.published,
                kind=MessageType.REQUEST,
                ttl=timeout,
                priority=priority,
                encrypted=encrypted,
            )
            self._publisher.publish(message)
            try:
                return cast(ResponsePayloadDict, await pending.future)
            finally:
                if message.stage is Stage.WAITING:
                    self._publisher.discard(message, NuropbTimeoutError("nobody waits for it"))
        finally:
            self._replies.close(pending)

    async def _until_responses(self, failed: asyncio.Future[dict[str, Any]]) -> None:
        """Requests are sent only while there is a consumer for their responses."""
        if self._awaiting_responses >= self._config.outbox_messages:
            raise OutboxFullError("too many requests wait for the connection (outbox_messages)")
        self._awaiting_responses += 1
        try:
            while not self._links[-1].state.up and not failed.done():
                changes = (self._life.change(), failed)
                try:
                    await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changes[0].cancel()
            if failed.done():
                failed.result()
        finally:
            self._awaiting_responses -= 1


def _resolve(done: asyncio.Future[None], error: NuropbException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise NuropbValidationError(f"{name}: {value!r}, a number of seconds above 0 is needed")
    return float(value)
