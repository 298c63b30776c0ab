"""Calling: the part of a Mesh that calls services, sends events, and asks for descriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from ..config.settings import TransportConfig
from ..config.times import seconds
from ..protocol import payloads
from ..protocol.encryption import Encryptor
from ..protocol.remote_errors import remote_error
from ..transport.transport import Transport
from .caller import Caller
from .client import Calls, T, UntypedClient, new_client
from .compatibility import check
from .discovery import DESCRIBE_WITHIN


class Calling:
    """Calls services through a transport."""

    def __init__(self, transport: Transport, encryptor: Encryptor) -> None:
        self._config: TransportConfig = transport.config
        self._transport = transport
        self._caller = Caller(transport, encryptor)

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

        `timeout`, in seconds, is also the message's expiration (request_timeout). After a
        cancellation the response is dropped. `encrypted`: None encrypts when the method's
        description requires it; the description is fetched before the first call of a service,
        within the timeout. True always encrypts. False never does, and fetches nothing. `priority`
        (0 to 255) needs a service with TransportConfig(max_priority=…).

        Raises NuropbRemoteError with the service's own error, NuropbTimeoutError (no answer in
        time), its subclass NuropbNotSentError (the deadline came before it was sent),
        NuropbNotDeliveredError (no queue of that service), NuropbOutcomeUnknownError (the
        connection was lost meanwhile), PublishNackedError (the broker refused it), EncryptionError,
        MalformedMessageError (an unreadable answer), NuropbValidationError and
        NuropbSerializationError (an invalid call), OutboxFullError, its subclass PendingFullError,
        TransportClosedError.
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

    @overload
    def client(
        self,
        interface: Callable[..., T],
        service: str | None = None,
        *,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> T: ...

    @overload
    def client(
        self,
        interface: str,
        *,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> UntypedClient: ...

    def client(
        self,
        interface: Callable[..., T] | str,
        service: str | None = None,
        *,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> T | UntypedClient:
        """Return an object whose methods call those of a service, with request().

        `interface` is a Protocol, an ABC, or the service's own class. Arguments are passed by name
        or position, results are converted to the annotated types. `service` is needed where the
        interface has no `_service_name`. With a service's name as `interface`, any method can be
        called, with arguments by name and no conversion. The rest is passed to every request().

        Raises NuropbConfigurationError. Calls raise what request() raises, TypeError for wrong
        arguments, and UnexpectedResultError.
        """
        options = {
            "timeout": timeout,
            "context": context,
            "priority": priority,
            "encrypted": encrypted,
        }
        return new_client(self.request, interface, service, options)

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
        """Call a method without an answer; return when the broker has the command.

        It runs at least once; again if its process or the broker dies before the ack.

        `ttl` is its expiration in seconds (12 hours); `timeout` is how long to wait for the broker,
        in seconds (30). `encrypted` and `priority` are as for request(): the first command to a
        service waits for the service's description, unless `encrypted` is False.

        Raises what request() raises, except the service's own errors; of NuropbTimeoutErrors only
        NuropbNotSentError. Cancelled before the command is written, it is never sent.
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
        """Publish an event; return when the broker has it. Nobody has to listen.

        `priority` has an effect only for listening services that have a max_priority.
        Raises what command() raises, except NuropbNotDeliveredError and EncryptionError.
        """
        payload = payloads.event(topic, event, target=target, context=context, trace_id=trace_id)
        await self._transport.send(payload, ttl=ttl, priority=priority, timeout=timeout)

    # -- what services say of themselves ------------------------------------------------------

    async def check(
        self, interface: type, service: str | None = None, *, timeout: float | None = None
    ) -> None:
        """Compare an interface for client() with a service's own description, fetched anew.

        Raises InterfaceMismatchError, which names each method that the service has not, each
        parameter that it does not take or that it lacks, and each type that can never fit. Also
        raises NuropbConfigurationError, and what describe_service() raises. nuropb's services tell
        the names of methods and parameters only.
        """
        await check(self, interface, service, calls=Calls.AWAITED, timeout=timeout)

    async def describe_service(
        self, service_name: str, *, refresh: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return a service's description: its methods, their parameters, its public key.

        Descriptions are cached; `refresh` fetches one anew. `timeout` is in seconds (60). Raises
        what request() raises.
        """
        within = DESCRIBE_WITHIN if timeout is None else seconds("timeout", timeout)
        return await self._caller.describe(service_name, within, refresh=refresh)

    async def requires_encryption(self, service_name: str, method_name: str) -> bool:
        """Return whether calls of this method must be encrypted.

        Raises NuropbValidationError when the service does not have it.
        """
        return await self._caller.requires_encryption(service_name, method_name)

    async def has_public_key(self, service_name: str) -> bool:
        """Return whether the service has a public key, so that calls can be encrypted."""
        return await self._caller.has_public_key(service_name)
