"""RMQTransport: the surface of nuropb 0.1.8's transport, over `Transport`.

A program of nuropb changes its import. docs/guides/migration.md lists all members. Times are in
milliseconds, as in nuropb.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, ClassVar, Final, TypeVar

from ..broker.provision import configure
from ..broker.session import Run
from ..broker.state import State
from ..config.address import AmqpUrl
from ..config.settings import TransportConfig
from ..config.times import from_milliseconds
from ..exceptions import (
    BrokerUnreachableError,
    NuropbCallAgainReject,
    NuropbConfigurationError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
)
from ..printable import short
from ..protocol.constants import (
    AcknowledgeAction,
    MessageCallbackFunction,
    MessageCompleteFunction,
    TransportServicePayload,
    new_id,
)
from ..protocol.foreign_encryptor import PayloadEncryptor
from ..transport.hooks import Hooks
from ..transport.ignorable import Ignorable
from ..transport.transport import STOPPED_WITHIN, Transport
from . import overrides
from .callbacks import Callbacks
from .message_complete import SettlingChannel
from .options import PrivateSettings, RabbitMQConfiguration, configuration, options, reconfigured

logger = logging.getLogger("nuropb_rmq.compat")

T = TypeVar("T")

CONSUMER_CLOSED_WAIT_TIMEOUT = 10
"""Seconds that stop() gives running handlers, and stop_consuming() the broker."""


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop and thread of its own; return its result or raise its error.

    The caller's thread may have a running loop, which is blocked meanwhile.
    """
    with ThreadPoolExecutor(1, "nuropb-blocking") as thread:
        return thread.submit(asyncio.run, coroutine).result()


class _Outcome(Ignorable[bool]):
    """Future of a task's outcome: True, or the task's error."""

    __slots__ = ("failure",)

    def __init__(self, failure: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.failure = failure

    def follow(self, task: asyncio.Task[None]) -> None:
        """Take over the outcome of a task that has ended."""
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

    It can be constructed without a running loop. Methods are to be called in the loop's thread,
    except configure_rabbitmq and message_complete, which may be called in any.
    """

    core_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses: settings of TransportConfig that nuropb lacks (heartbeat, …), in seconds."""
    core: Transport
    """The Transport that carries its messages."""

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
        """Create a transport, as nuropb does; `default_ttl` is in milliseconds (12 hours).

        instance_id: None generates one. A given id excludes a second instance with the same id.
        kwargs: rpc_exchange, events_exchange, dl_exchange, dl_queue, service_queue,
            response_queue, rpc_bindings, event_bindings, prefetch_count (1; 0 is unlimited). None
            means the default; unknown options are ignored, with a warning.

        Raises NuropbConfigurationError, which names the argument.
        """
        if not callable(message_callback):
            raise NuropbConfigurationError("message_callback", "must be a function")
        self._amqp_url = amqp_url
        # The arguments that are no settings, for PrivateSettings.
        self._arguments = SimpleNamespace(message_callback=message_callback, encryptor=encryptor)
        self._config = TransportConfig(
            amqp_url=amqp_url,
            service_name=service_name,
            instance_id=instance_id,
            client_only=False if client_only is None else client_only,
            **{
                "prefetch_count": 1,
                "dead_letter_requests": True,
                **self.core_settings,
                **options(default_ttl, kwargs),
            },
        )
        overrides.warn_of_callbacks(self)
        self._callbacks = Callbacks(
            self,
            message_callback,
            client_only=self._config.client_only,
            acknowledge=overrides.override(self.acknowledge_service_message, _ACKNOWLEDGE),
            metrics=overrides.override(self.metadata_metrics, _METRICS),
        )
        hooks = Hooks(
            instance_id=new_id() if instance_id is None else "",
            settler=self._callbacks.settler(),
            on_response=self._callbacks.on_response,
            on_failure=self._callbacks.on_failure,
            steps=self._take_step if self._own_steps() else None,
        )
        self.core = Transport(self._config, self._callbacks.take, encryptor=encryptor, hooks=hooks)
        self._transport = self.core
        # Tasks of connect() and disconnect().
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
        """The broker's address as given, with its password."""
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
        """The name of its response queue; a recovery may change it."""
        return self.rmq_configuration["response_queue"]

    @property
    def rmq_configuration(self) -> RabbitMQConfiguration:
        """The names of its exchanges, queues and bindings, and its default_ttl in milliseconds."""
        return configuration(self._config, self.instance_id, self._transport.response_queue)

    # -- start and stop ---------------------------------------------------------------------

    def configure_rabbitmq(
        self,
        rmq_configuration: RabbitMQConfiguration | None = None,
        amqp_url: AmqpUrl | None = None,
        rmq_api_url: str | None = None,
    ) -> None:
        """Make the virtual host, the exchanges and the dead-letter queue if they are missing.

        By default those of this transport; rmq_api_url is derived from amqp_url. It blocks, a
        running loop too: coroutines should await configure() instead. Raises what configure()
        raises.
        """
        config = reconfigured(self._config, rmq_configuration or {}, amqp_url)
        run_blocking(configure(config, api_url=rmq_api_url))

    async def start(self) -> None:
        """Connect, declare and consume; if it is connecting already, wait until it is connected.

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
        """Let callbacks finish for up to CONSUMER_CLOSED_WAIT_TIMEOUT seconds, and close.

        Returns at most 5 seconds later, whatever the broker and the callbacks do.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONSUMER_CLOSED_WAIT_TIMEOUT + STOPPED_WITHIN
        await self._transport.stop(grace=CONSUMER_CLOSED_WAIT_TIMEOUT)
        await self._callbacks.end(deadline - loop.time())

    def connect(self) -> asyncio.Future[bool]:
        """Start; return a future that becomes True. Raises NuropbTransportError when connected."""
        if self._transport.state not in (State.STOPPED, State.FAILED):
            state = self._transport.state.name
            raise NuropbTransportError(f"connect(): the transport is {state} already")
        return self._begin("connect", self.start)

    def disconnect(self) -> asyncio.Future[bool]:
        """Stop; return a future that becomes True."""
        return self._begin("disconnect", self.stop)

    def _begin(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> asyncio.Future[bool]:
        """Run `work` in a task; return a future that need not be awaited."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as e:
            raise NuropbTransportError(f"{name}() needs a running event loop", None, e) from e
        outcome = _Outcome(f"{name}() has failed", loop)
        task = loop.create_task(work(), name=f"nuropb-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(outcome.follow)
        return outcome

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue until the next start().

        Running callbacks finish; sending and responses go on. Raises NuropbTimeoutError when the
        broker does not answer within CONSUMER_CLOSED_WAIT_TIMEOUT seconds.
        """
        try:
            async with asyncio.timeout(CONSUMER_CLOSED_WAIT_TIMEOUT):
                await self._transport.stop_consuming()
        except TimeoutError as e:
            raise NuropbTimeoutError(
                f"stop_consuming(): the broker did not answer in {CONSUMER_CLOSED_WAIT_TIMEOUT} s"
            ) from e

    # -- steps that the session takes, to be overridden -------------------------------------

    def open_channel(self) -> Awaitable[None]:
        """Open a channel, one of several. Only the transport itself calls it."""
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
        """Return the methods by which a subclass overrides steps."""
        return {
            name: method
            for name, base in _STEPS.items()
            if (method := overrides.override(getattr(self, name), base)) is not None
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

        Raises NuropbValidationError, NuropbSerializationError, EncryptionError, OutboxFullError or
        TransportClosedError at once. The future is done when the broker has confirmed the message,
        and carries the other errors of Transport.send(); it need not be awaited. When a request
        fails, message_callback also gets a response with the error.
        """
        ttl = None
        if expiry:  # 0 means none, as in nuropb
            ttl = from_milliseconds("expiry", expiry)
        return self._transport.post(
            payload, ttl=ttl, priority=priority, encoding=encoding, encrypted=encrypted
        )

    def as_received(
        self, response: dict[str, Any], *, encrypted: bool
    ) -> tuple[TransportServicePayload, MessageCompleteFunction, dict[str, Any]]:
        """Return message_callback's arguments for a response; for RMQAPI."""
        return self._callbacks.as_received(response, encrypted)

    @classmethod
    def acknowledge_service_message(
        cls,
        channel: SettlingChannel,
        delivery_tag: int,
        action: AcknowledgeAction,
        redelivered: bool | None,
    ) -> None:
        """Settle one delivery; called for each of them if a subclass overrides it.

        "nack" requeues the message; a redelivered one is rejected, and NuropbCallAgainReject
        raised. A call-again is an "ack" here: its successor has been published and confirmed.
        Raises NuropbValidationError for another action.
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
                    f"action: expected 'ack', 'nack' or 'reject', got {short(action)}"
                )

    @classmethod
    def metadata_metrics(cls, metadata: dict[str, Any]) -> None:
        """Receive the metadata of each settled message; called only if a subclass overrides it.

        `metadata` has start_time and end_time (of time.time()), duration (seconds), service_name,
        instance_id, is_leader, client_only, nuropb_type, nuropb_version, correlation_id,
        trace_id, encrypted, acknowledgement ("nack" for a call-again), message_count (of sent
        messages) and flow_complete.
        """
        logger.debug("metadata: %s", metadata)


_ACKNOWLEDGE: Final = RMQTransport.acknowledge_service_message
_METRICS: Final = RMQTransport.metadata_metrics
_STEPS: Final = {name: getattr(RMQTransport, name) for name in overrides.STEPS}
