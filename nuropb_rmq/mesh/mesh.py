"""Mesh: requests, commands and events, and an object that serves them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ..broker.provision import configure, declare_all
from ..broker.state import State, StateCallback, check_loop
from ..config.address import AmqpUrl
from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbTransportError,
    NuropbValidationError,
    TransportClosedError,
)
from ..protocol import payloads
from ..protocol.encryption import KEY_LIFETIME, KEY_USES, Encryptor
from ..protocol.remote_errors import remote_error
from ..protocol.serialization import encode_strictly
from ..service.handler import Serving
from ..service.methods import Published
from ..service.thread_pool import Threads
from ..transport.hooks import Hooks
from ..transport.managed import Managed
from ..transport.observer import Observer
from ..transport.sender import grace_period, seconds
from ..transport.transport import DEFAULT_GRACE, Transport
from .caller import Caller
from .discovery import DESCRIBE_WITHIN
from .settings import Configured, configured, transport_config

__all__ = ["Mesh"]

_NOT_CONFIGURED: Final = "not configured within connect_timeout"


class Mesh(Managed):
    """Calls services, publishes events, and serves the methods of an object.

    amqp_url: where the broker is, or a TransportConfig for all other settings of a transport.
    service: the object whose public methods are published under service_name (its own
        `_service_name`, without one). Without a service the mesh only calls.
    instance_id: unique among the instances of a service; made at start() when it is None.
    event_bindings: topics for `_handle_event_`; those of @mesh_event are bound by themselves.
    prefetch_count: how many messages are handled at a time (32).
    request_timeout: seconds that request() waits by default (30).
    configure: make what is missing on the broker. start() and recoveries make the exchanges and
        this service's dead-letter queue; start() also makes the virtual host, if the user may,
        unless this is "exchanges".
    management_url: the API for making the virtual host; derived from amqp_url when it is None.
    sync_in_threads: False runs synchronous methods on the event loop; see publish_to_mesh for one.
    log_error_text: False keeps the texts of errors that methods raise out of the log.
    key_uses, key_lifetime: how many messages to one service are encrypted with one key (1000), and
        for how many seconds (300); with key_uses=1 each has its own, and costs an RSA operation.

    It is made without an event loop, at import time say; `async with`, or start() and stop(), run
    it. Raises NuropbConfigurationError.
    """

    def __init__(
        self,
        amqp_url: AmqpUrl | TransportConfig,
        *,
        service_name: str | None = None,
        service: object | None = None,
        instance_id: str | None = None,
        event_bindings: Sequence[str] = (),
        prefetch_count: int | None = None,
        request_timeout: float | None = None,
        configure: Configured = True,
        management_url: str | None = None,
        sync_in_threads: bool = True,
        log_error_text: bool | None = None,
        key_uses: int = KEY_USES,
        key_lifetime: float = KEY_LIFETIME,
    ) -> None:
        given = {
            "service_name": service_name,
            "instance_id": instance_id,
            "prefetch_count": prefetch_count,
            "request_timeout": request_timeout,
            "log_error_text": log_error_text,
        }
        self._config = transport_config(amqp_url, service, given)
        self._configure = configured(configure)
        self._management_url = management_url
        private_key = None
        self._threads: Threads | None = None
        self._serving: Serving | None = None
        if service is not None:
            published = Published(service, self._config.service_name)
            _check_keys(published)
            private_key = published.private_key
            bindings = (*self._config.event_bindings, *event_bindings, *published.topics)
            self._config = dataclasses.replace(self._config, event_bindings=bindings)
            if sync_in_threads:
                self._threads = Threads(
                    f"nuropb-{self._config.service_name}", self._config.prefetch_count
                )
            self._serving = Serving(published, threads=self._threads)
        elif event_bindings:
            raise NuropbConfigurationError("event_bindings", "are of no use without a service")
        encryptor = Encryptor(
            self._config.service_name, private_key, key_uses=key_uses, key_lifetime=key_lifetime
        )
        handler = None if self._serving is None else self._serving.handle
        hooks = Hooks(configure=declare_all if configure else None, encode=encode_strictly)
        self._transport = Transport(self._config, handler, encryptor=encryptor, hooks=hooks)
        self._transport.on_state_change(self._state_changed)
        self._caller = Caller(self._transport, encryptor)
        self._configuring: tuple[asyncio.Task[None] | None, int] = (None, 0)
        self._stop_first = False
        self._not_started: NuropbTransportError | None = None

    def __repr__(self) -> str:
        return f"<Mesh {self.service_name!r} at {self._config.broker} {self.state.name}>"

    # -- what it is -------------------------------------------------------------------------

    @property
    def service_name(self) -> str:
        """The name that it serves and calls under."""
        return self._config.service_name

    @property
    def instance_id(self) -> str:
        """Its instance id; "" before the first start() when none was given."""
        return self._transport.instance_id

    @property
    def transport(self) -> Transport:
        """The transport that it stands on."""
        return self._transport

    @property
    def state(self) -> State:
        """Where it is; see State."""
        return State.CONNECTING if self._under_way() is not None else self._transport.state

    @property
    def error(self) -> NuropbTransportError | None:
        """The error behind the state, or None; after a failed start(), the error it raised."""
        return self._transport.error if self._not_started is None else self._not_started

    def _under_way(self) -> asyncio.Task[None] | None:
        """The configuring; not that of a loop that was closed, or of a process that has forked."""
        task, process = self._configuring
        stale = task is None or task.get_loop().is_closed() or process != os.getpid()
        return None if stale else task

    def on_state_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(state, error)` after every change; return a function that stops it."""
        return self._transport.on_state_change(callback)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` of every message from now on; return a function that stops it."""
        return self._transport.observe(observer)

    async def wait_for(self, *states: State, timeout: float | None = None) -> State:
        """Wait until the state is one of these; see Transport.wait_for."""
        return await self._transport.wait_for(*states, timeout=timeout)

    def _state_changed(self, state: State, _: NuropbTransportError | None) -> None:
        if state.over and self._threads is not None:
            self._threads.close()  # not before: what is in hand may still need one

    # -- start and stop ---------------------------------------------------------------------

    async def start(self) -> None:
        """Configure the broker, connect and serve, within connect_timeout; see Transport.start().

        Raises a NuropbTransportError, as Transport.start() and configure() do: with
        configure=False, ServiceNotConfigured when something is missing. NuropbConfigurationError
        when a virtual host is to be made and management_url is wrong. Nothing is left open then.
        """
        self._transport.leave_closed_loop()
        if not self.state.over:
            raise NuropbTransportError(f"start(): the mesh is {self.state.name} already")
        if self._threads is not None:
            self._threads.open()
        try:
            deadline = asyncio.get_running_loop().time() + self._config.connect_timeout
            if self._configure:
                await self._configured()
            await self._transport.start(deadline=deadline)
        except BaseException as e:
            if isinstance(e, NuropbTransportError):
                self._not_started = e
            if self._threads is not None:
                self._threads.close()
            raise
        self._not_started = None

    async def _configured(self) -> None:
        self._stop_first = False
        configuring = asyncio.create_task(
            configure(
                self._config,
                api_url=self._management_url,
                create_vhost=self._configure != "exchanges",
            ),
            name="nuropb-configure",
        )
        self._configuring = configuring, os.getpid()
        try:
            await asyncio.wait((configuring,), timeout=self._config.connect_timeout)
            if not configuring.done():
                raise BrokerUnreachableError(f"{self._config.broker}: {_NOT_CONFIGURED}")
            if self._stop_first:
                raise TransportClosedError("stop() came before the start was done")
            configuring.result()
        finally:
            self._configuring = None, 0
            while not configuring.done():  # cancelled more than once: it is waited for all the same
                configuring.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((configuring,))
            if not configuring.cancelled():
                configuring.exception()  # nobody else asks for it when start() was cancelled

    async def stop(self, *, grace: float = DEFAULT_GRACE) -> None:
        """Take nothing new, finish what is in hand for up to `grace` seconds, and close.

        Unfinished messages go back to the queue. A synchronous method that still runs in its
        thread is left to end by itself, and the process cannot end before it. Cancelling stop()
        ends only the wait: the transport stops all the same.
        """
        grace = grace_period(grace)
        if (configuring := self._under_way()) is not None:
            check_loop(configuring.get_loop())
            self._stop_first = True
            configuring.cancel()
            await asyncio.wait((configuring,))
        await self._transport.stop(grace=grace)
        await self._caller.discovery.close()

    # -- calling ----------------------------------------------------------------------------

    async def request(
        self,
        service: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        trace_id: str | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> Any:
        """Call a method of a service and return its result.

        `timeout`, in seconds, is also the message's expiration (request_timeout). Cancelling
        forgets the call. `encrypted`: None encrypts when the method's description says that it
        requires encryption; the description is fetched before the first call of a service, within
        the timeout. True always encrypts. False never does, and fetches nothing. `priority` (0 to
        255) has an effect where the service is made with TransportConfig(max_priority=…).

        Raises NuropbRemoteError with the service's own error, NuropbTimeoutError,
        NuropbNotDeliveredError (no queue of that service), NuropbOutcomeUnknownError (the
        connection was lost meanwhile), PublishNackedError (the broker refused it), EncryptionError,
        MalformedMessageError (an answer that cannot be read), NuropbValidationError and
        NuropbSerializationError (what cannot be sent), OutboxFullError, PendingFullError among
        them, TransportClosedError.
        """
        payload = payloads.call("request", service, method, params, context, trace_id)
        response = await self._caller.request(
            payload,
            timeout=self._config.request_timeout if timeout is None else timeout,
            priority=priority,
            encrypted=encrypted,
        )
        if response["error"] is not None:
            raise remote_error(response)
        return response["result"]

    async def command(
        self,
        service: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        trace_id: str | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> None:
        """Have the method run, without an answer; returns when the broker has the command.

        It runs at least once: again where its process or the broker dies before the ack.

        `ttl`, in seconds, is its expiration (12 hours); `timeout` how long to wait for the broker
        (30). `encrypted` and `priority` as for request(): so the first command to a service waits
        for it to describe itself, unless `encrypted` is False.

        Raises what request() raises but for the service's own errors.
        """
        await self._caller.command(
            payloads.call("command", service, method, params, context, trace_id),
            timeout=self._config.publish_timeout if timeout is None else timeout,
            ttl=ttl,
            priority=priority,
            encrypted=encrypted,
        )

    async def publish_event(
        self,
        topic: str,
        event: Any,
        *,
        target: Sequence[Any] | None = None,
        context: Mapping[str, Any] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        trace_id: str | None = None,
        priority: int | None = None,
    ) -> None:
        """Publish an event; returns when the broker has it. Nobody needs to listen.

        `priority` has an effect only for listening services that have a max_priority.
        Raises what command() raises but NuropbNotDeliveredError and EncryptionError.
        """
        payload = payloads.event(topic, event, target=target, context=context, trace_id=trace_id)
        await self._transport.send(payload, ttl=ttl, priority=priority, timeout=timeout)

    # -- what services say of themselves ------------------------------------------------------

    async def describe_service(
        self, service_name: str, *, refresh: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return a service's description: its methods, their parameters, its public key.

        Descriptions are cached; `refresh` fetches one anew. `timeout` is in seconds (60). Raises
        what request() raises.
        """
        within = DESCRIBE_WITHIN if timeout is None else seconds("timeout", timeout)
        description = await self._caller.discovery.find(service_name, within, refresh=refresh)
        return description.known()

    async def requires_encryption(self, service_name: str, method_name: str) -> bool:
        """Return whether calls of this method must be encrypted.

        Raises NuropbValidationError when the service does not have it.
        """
        described = await self.describe_service(service_name)
        method = described["methods"].get(method_name)
        if method is None:
            raise NuropbValidationError(f"service {service_name!r} has no method {method_name!r}")
        return bool(method.get("requires_encryption"))

    async def has_public_key(self, service_name: str) -> bool:
        """Return whether the service has a public key, so that calls can be encrypted."""
        await self.describe_service(service_name)
        return self._caller.has_public_key(service_name)


def _check_keys(published: Published) -> None:
    if published.needs_private_key:
        methods = ", ".join(published.needs_private_key)
        raise NuropbConfigurationError(
            "service", f"needs a _private_key (RSA): these methods require encryption: {methods}"
        )
