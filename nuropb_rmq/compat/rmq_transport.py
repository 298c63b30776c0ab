"""RMQTransport: the surface of nuropb 0.1.8's transport, over `Transport`.

A program of nuropb changes its import. docs/migration.md says what became of each member. Times
are in milliseconds here, as they are in nuropb.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, TypeVar

from ..broker.provision import configure
from ..broker.session import Run
from ..broker.state import State
from ..config.address import AmqpUrl
from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerUnreachableError,
    NuropbCallAgainReject,
    NuropbConfigurationError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
)
from ..protocol.constants import (
    AcknowledgeAction,
    MessageCallbackFunction,
    MessageCompleteFunction,
    TransportServicePayload,
    new_id,
)
from ..protocol.reader import short
from ..transport.hooks import Hooks
from ..transport.ignorable import Ignorable
from ..transport.sealing import PayloadEncryptor
from ..transport.sender import milliseconds
from ..transport.transport import STOPPED_WITHIN, Transport
from . import overrides
from .callbacks import Callbacks
from .options import Given, PrivateSettings, RabbitMQConfiguration, described, options, reconfigured
from .settling import SettlingChannel

logger = logging.getLogger("nuropb_rmq.compat")

T = TypeVar("T")

CONSUMER_CLOSED_WAIT_TIMEOUT = 10
"""Seconds that stop() gives to what is in hand, and stop_consuming() to the broker."""


class _Begun(Ignorable[bool]):
    """True when the task that it follows has ended well."""

    __slots__ = ("what",)

    def __init__(self, what: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.what = what

    def follow(self, task: asyncio.Task[None]) -> None:
        """The task has ended."""
        error = None if task.cancelled() else task.exception()
        if self.done():
            return
        if task.cancelled():
            self.cancel()
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(True)


class RMQTransport(PrivateSettings):
    """Requests, commands, events and responses, as nuropb's RMQTransport has them.

    It can be constructed without a running loop. All else is called on the loop's thread, but for
    message_complete and configure_rabbitmq, which may be called anywhere.
    """

    core_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses: settings of TransportConfig that nuropb has not (heartbeat, handler_timeout,
    …), in its units."""

    def __init__(  # noqa: PLR0917 - nuropb's signature
        self,
        service_name: str,
        instance_id: str | None,
        amqp_url: AmqpUrl,
        message_callback: MessageCallbackFunction,
        default_ttl: int | None = None,
        client_only: bool | None = None,
        encryptor: PayloadEncryptor | None = None,
        **kwargs: Any,
    ) -> None:
        """As nuropb's; `default_ttl` is in milliseconds, 12 hours without it.

        instance_id: None makes one; only an id that is given locks out a second instance with it.
        kwargs: rpc_exchange, events_exchange, dl_exchange, dl_queue, service_queue,
        response_queue, rpc_bindings, event_bindings, prefetch_count (1 without it, 0 is
        unlimited). None stands for the default; others are ignored, with a warning.

        Raises NuropbConfigurationError, which names the argument.
        """
        if not callable(message_callback):
            raise NuropbConfigurationError("message_callback", "must be a function")
        self._amqp_url = amqp_url
        self._given = Given(message_callback, encryptor)
        self._config = TransportConfig(
            amqp_url=amqp_url,
            service_name=service_name,
            instance_id=instance_id,
            client_only=False if client_only is None else client_only,
            **{"prefetch_count": 1, **self.core_settings, **options(default_ttl, kwargs)},
        )
        overrides.warn_of_callbacks(self)
        self._callbacks = Callbacks(
            self,
            message_callback,
            client_only=self._config.client_only,
            acknowledge=_override(self.acknowledge_service_message, _ACKNOWLEDGE),
            metrics=_override(self.metadata_metrics, _METRICS),
        )
        hooks = Hooks(
            instance_id=new_id() if instance_id is None else "",
            settler=self._callbacks.settler(),
            on_response=self._callbacks.on_response,
            on_failure=self._callbacks.on_failure,
            steps=self._take_step if self._own_steps() else None,
        )
        self.core = Transport(self._config, self._callbacks.take, encryptor=encryptor, hooks=hooks)
        """The Transport below."""
        self._transport = self.core
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what it is -------------------------------------------------------------------------

    @property
    def service_name(self) -> str:
        """The service's name."""
        return self._config.service_name

    @property
    def instance_id(self) -> str:
        """The instance's id."""
        return self._transport.instance_id

    @property
    def amqp_url(self) -> AmqpUrl:
        """The broker's address, as it was given: with its password."""
        return self._amqp_url

    @property
    def connected(self) -> bool:
        """True while connections, channels and consumers are up; False after stop_consuming()."""
        transport = self._transport
        return transport.state.up and (transport.consuming or self._config.client_only)

    @property
    def rpc_exchange(self) -> str:
        """The exchange of requests and commands."""
        return self._config.rpc_exchange

    @property
    def events_exchange(self) -> str:
        """The exchange of events."""
        return self._config.events_exchange

    @property
    def response_queue(self) -> str:
        """The queue of responses to this instance; another one may follow it at a recovery."""
        return self.rmq_configuration["response_queue"]

    @property
    def rmq_configuration(self) -> RabbitMQConfiguration:
        """The names of all that it has on the broker."""
        return described(self._config, self.instance_id, self._transport.response_queue)

    # -- start and stop ---------------------------------------------------------------------

    def configure_rabbitmq(
        self,
        rmq_configuration: RabbitMQConfiguration | None = None,
        amqp_url: AmqpUrl | None = None,
        rmq_api_url: str | None = None,
    ) -> None:
        """Make the virtual host, the exchanges and the dead-letter queue, where they are missing.

        Without arguments: those of this transport; rmq_api_url is derived from amqp_url. Blocks
        until it is done, also in a running loop, whose code had better await configure().
        Raises what configure() raises.
        """
        config = reconfigured(self._config, rmq_configuration or {}, amqp_url)
        with ThreadPoolExecutor(1, "nuropb-configure") as thread:  # there may be a loop in ours
            thread.submit(asyncio.run, configure(config, api_url=rmq_api_url)).result()

    async def start(self) -> None:
        """Connect, declare and consume; when it is on its way already, wait until it is there.

        Raises a NuropbTransportError: BrokerUnreachableError, BrokerAuthenticationError,
        ServiceNotConfigured, InstanceInUseError (close_connection is True), or
        TransportClosedError when stop() came first. Nothing is left open then.
        """
        if self._transport.state not in (State.CONNECTING, State.RECOVERING):
            self._callbacks.begin()
            await self._transport.start()
            return
        patience = self._config.connect_timeout
        try:
            await self._transport.wait_for(State.READY, State.BLOCKED, timeout=patience)
        except NuropbTimeoutError as e:
            raise BrokerUnreachableError(f"not connected yet: {e}", None, e) from e

    async def stop(self) -> None:
        """Finish what is in hand, for up to CONSUMER_CLOSED_WAIT_TIMEOUT seconds, and close.

        Done within that and 5 seconds, whatever the broker and the callbacks do.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONSUMER_CLOSED_WAIT_TIMEOUT + STOPPED_WITHIN
        await self._transport.stop(grace=CONSUMER_CLOSED_WAIT_TIMEOUT)
        await self._callbacks.end(deadline - loop.time())

    def connect(self) -> asyncio.Future[bool]:
        """start(), as a future that becomes True. Raises NuropbTransportError when connected."""
        if self._transport.state not in (State.STOPPED, State.FAILED):
            state = self._transport.state.name
            raise NuropbTransportError(f"connect(): the transport is {state} already")
        return self._begin("connect", self.start)

    def disconnect(self) -> asyncio.Future[bool]:
        """stop(), as a future that becomes True."""
        return self._begin("disconnect", self.stop)

    def _begin(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> asyncio.Future[bool]:
        """Begin at once; nobody has to wait for the future."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as e:
            raise NuropbTransportError(f"{name}() needs a running event loop", None, e) from e
        outcome = _Begun(f"{name}() has failed", loop)
        task = loop.create_task(work(), name=f"nuropb-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(outcome.follow)
        return outcome

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue, until the next start().

        What is in hand is finished; responses, and sending, go on. Raises NuropbTimeoutError when
        the broker has not answered within CONSUMER_CLOSED_WAIT_TIMEOUT seconds.
        """
        try:
            async with asyncio.timeout(CONSUMER_CLOSED_WAIT_TIMEOUT):
                await self._transport.stop_consuming()
        except TimeoutError as e:
            raise NuropbTimeoutError(
                f"stop_consuming(): no answer in {CONSUMER_CLOSED_WAIT_TIMEOUT} s"
            ) from e

    # -- steps that the session takes, to be overridden -------------------------------------

    def open_channel(self) -> Awaitable[None]:
        """Open a channel: the session has several. Only the transport itself calls it."""
        return overrides.current(self, "open_channel")

    def declare_response_queue(self) -> Awaitable[None]:
        """Declare the response queue. Only the transport itself calls it."""
        return overrides.current(self, "declare_response_queue")

    def declare_service_queue(self, frame: object = None) -> Awaitable[None]:
        """Declare the service queue. Only the transport itself calls it; `frame` is None."""
        return overrides.current(self, "declare_service_queue")

    def close_channel(self) -> Awaitable[None]:
        """Close the channels, at a session's end. Only the transport itself calls it."""
        return overrides.current(self, "close_channel")

    def _own_steps(self) -> dict[str, Callable[..., object]]:
        """The steps that a subclass has taken over."""
        return {
            name: method
            for name, base in _STEPS.items()
            if (method := _override(getattr(self, name), base)) is not None
        }

    async def _take_step(self, name: str, run: Run) -> None:
        method = self._own_steps().get(name)
        if method is None:
            await run()
        else:
            await overrides.take(self, name, run, method)

    # -- messages ---------------------------------------------------------------------------

    def send_message(
        self,
        payload: Mapping[str, Any],
        expiry: float | None = None,
        priority: int | None = None,
        encoding: str = "json",
        encrypted: bool = False,
    ) -> asyncio.Future[None]:
        """Send a request, command, event or response; `expiry` is in milliseconds.

        What cannot be sent raises at once: NuropbValidationError, NuropbSerializationError,
        EncryptionError, OutboxFullError, TransportClosedError. The future is done when the broker
        has confirmed the message, and raises what else Transport.send() raises; nobody has to
        wait for it. When a request fails, message_callback gets a response that tells so, too.
        """
        ttl = None
        if expiry:  # nuropb takes 0 for none
            ttl = milliseconds("expiry", expiry)
        return self._transport.post(
            payload, ttl=ttl, priority=priority, encoding=encoding, encrypted=encrypted
        )

    def as_received(
        self, response: dict[str, Any], *, encrypted: bool
    ) -> tuple[TransportServicePayload, MessageCompleteFunction, dict[str, Any]]:
        """Return what message_callback gets with a response: for RMQAPI."""
        return self._callbacks.as_received(response, encrypted)

    @classmethod
    def acknowledge_service_message(
        cls,
        channel: SettlingChannel,
        delivery_tag: int,
        action: AcknowledgeAction,
        redelivered: bool | None,
    ) -> None:
        """Settle one delivery; called for each, when a subclass overrides it.

        "nack" gives the message back to its queue; one that was redelivered is rejected instead,
        and NuropbCallAgainReject is raised. A call-again is an "ack" here: its successor was
        published and confirmed. Raises NuropbValidationError for another action.
        """
        match action:
            case "ack":
                channel.basic_ack(delivery_tag=delivery_tag)
            case "nack" if redelivered is False:
                channel.basic_nack(delivery_tag=delivery_tag, requeue=True)
            case "nack":
                channel.basic_reject(delivery_tag=delivery_tag, requeue=False)
                raise NuropbCallAgainReject("a message is called again once only: rejected")
            case "reject":
                channel.basic_reject(delivery_tag=delivery_tag, requeue=False)
            case _:
                raise NuropbValidationError(
                    f"action: {short(action)}, use 'ack', 'nack' or 'reject'"
                )

    @classmethod
    def metadata_metrics(cls, metadata: dict[str, Any]) -> None:
        """Receive the metadata of each settled message; called only if a subclass overrides it.

        `metadata` has start_time and end_time (of time.time()), duration (seconds), service_name,
        instance_id, is_leader, client_only, nuropb_type, nuropb_version, correlation_id,
        trace_id, encrypted, acknowledgement (of a call-again "nack"), message_count (what was
        sent) and flow_complete.
        """
        logger.debug("metadata: %s", metadata)


_ACKNOWLEDGE: Final = RMQTransport.acknowledge_service_message
_METRICS: Final = RMQTransport.metadata_metrics
_STEPS: Final = {name: getattr(RMQTransport, name) for name in overrides.STEPS}


def _override(method: T, base: object) -> T | None:
    """The method, unless it is the base's."""
    own, original = (getattr(each, "__func__", each) for each in (method, base))
    return None if own is original else method
