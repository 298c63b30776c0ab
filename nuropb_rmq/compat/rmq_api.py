"""RMQAPI: nuropb's high-level class, with its signature, over RMQTransport.

Times are in milliseconds, as in nuropb. New programs should use Mesh.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from ..broker.state import State
from ..config.address import AmqpUrl, Broker
from ..config.times import from_milliseconds
from ..exceptions import (
    NuropbCallAgain,
    NuropbConfigurationError,
    NuropbException,
    NuropbNotDeliveredError,
)
from ..mesh.caller import Caller
from ..protocol import payloads
from ..protocol.acknowledgement import Outcome
from ..protocol.constants import (
    MessageCompleteFunction,
    MessageType,
    ResponsePayloadDict,
    TransportServicePayload,
    new_id,
)
from ..protocol.encryption import Encryptor
from ..protocol.handled import named_in
from ..protocol.message import Completion, describe
from ..protocol.remote_errors import remote_error
from ..safe_logging import ServiceLog
from ..service.handler import Serving
from ..service.methods import Published
from ..transport.failures import Failures
from .interface import NuropbInterface
from .message_complete import ids_of
from .overrides import override
from .receiving import Receiving, answer, responding
from .rmq_transport import RMQTransport

logger = logging.getLogger("nuropb_rmq.compat")

DEFAULT_TTL: Final = 60 * 60 * 1000
"""Milliseconds until a request or command expires."""
_KEY_BOUNDS: Final = ("key_uses", "key_lifetime")


@dataclass(frozen=True, slots=True)
class _Received:
    """A message of message_callback, in the form that Serving takes."""

    kind: MessageType
    payload: Mapping[str, Any]
    correlation_id: str
    trace_id: str | None
    encrypted: bool
    metadata: Mapping[str, Any]
    attempts: int = 1

    def log_fields(self) -> dict[str, object]:
        """Return what log records say of it."""
        named = named_in(self.payload, encrypted=self.encrypted)
        return {"type": self.kind.value, **ids_of(self.metadata), **named}


class RMQAPI(NuropbInterface):
    """Requests, commands, events, and a service object, as in nuropb's RMQAPI.

    With service_name and service_instance it is a service, without them a client named
    {vhost}-client. transport_settings are the options of RMQTransport, its default_ttl, and
    Encryptor's key_uses and key_lifetime.

    As in nuropb, the service's methods run on the event loop and their parameters are not checked;
    hide_method, requires_encryption and authorize_func are enforced. Raises
    NuropbConfigurationError, a ValueError, naming the argument.
    """

    def __init__(  # noqa: PLR0917 - nuropb's signature
        self,
        amqp_url: AmqpUrl,
        service_name: str | None = None,
        instance_id: str | None = None,
        service_instance: object | None = None,
        rpc_exchange: str | None = None,
        events_exchange: str | None = None,
        transport_settings: Mapping[str, Any] | None = None,
    ) -> None:
        settings = dict(transport_settings or {})
        client_only = service_name is None or bool(settings.get("client_only"))
        if service_name is None:
            service_name = f"{quote(Broker.parse(amqp_url).vhost, safe='')}-client"
        elif service_instance is None and not client_only:
            raise NuropbConfigurationError(
                "service_instance", "is missing: give it, or no service_name for a client"
            )
        self._service_name = service_name
        self._service_instance = service_instance
        self._client_only = client_only
        self._default_ttl = settings.get("default_ttl") or DEFAULT_TTL
        self._serving: Serving | None = None
        self._receiving = Receiving(self.receive_transport_message)
        base = RMQAPI.receive_transport_message
        overridden = override(self.receive_transport_message, base) is not None
        published = None
        if not client_only:
            published = Published(service_instance, service_name, checks=False)
            self._serving = Serving(published, threads=None, passes_token_on=True)
            _warn_of_missing_key(published)
            bindings = settings.get("event_bindings") or ()
            settings["event_bindings"] = [*bindings, *published.topics]
        private_key = None if published is None else published.private_key
        popped = ((name, settings.pop(name, None)) for name in _KEY_BOUNDS)
        bounds = {name: bound for name, bound in popped if bound is not None}
        self._encryptor = Encryptor(service_name, private_key, **bounds)
        settings.update(
            service_name=service_name,
            instance_id=instance_id,
            amqp_url=amqp_url,
            message_callback=self._receiving.receive if overridden else self._handle,
            rpc_exchange=rpc_exchange or settings.get("rpc_exchange"),
            events_exchange=events_exchange or settings.get("events_exchange"),
            encryptor=self._encryptor,
            client_only=client_only,
        )
        self._transport = RMQTransport(**settings)
        self._instance_id = self._transport.instance_id
        self._log = ServiceLog(logger, service_name, self._instance_id)
        self._caller = Caller(self._transport.core, self._encryptor)
        self._request = self._request_passed_on if overridden else self._caller.request
        texts = self._transport.core.config.log_error_text
        self._failures = Failures(service_name, self._instance_id, texts=texts)

    # -- what it is -------------------------------------------------------------------------

    @property
    def client_only(self) -> bool:
        """True when it serves nothing."""
        return self._client_only

    @property
    def is_leader(self) -> bool:
        """See RMQTransport.is_leader."""
        return self._transport.is_leader

    @property
    def connected(self) -> bool:
        """True while connections, channels and consumers are up."""
        return self._transport.connected

    @property
    def transport(self) -> RMQTransport:
        """The RMQTransport that carries its messages."""
        return self._transport

    async def connect(self) -> None:
        """Connect and serve. Raises what RMQTransport.start() raises."""
        if self.connected:
            await self._transport.core.wait_for(State.READY, State.BLOCKED)  # checks the loop
            self._log.warning("connect(): connected already")
            return
        await self._transport.start()

    async def disconnect(self) -> None:
        """Let handlers finish for up to CONSUMER_CLOSED_WAIT_TIMEOUT seconds, and close."""
        await self._transport.stop()
        self._failures.close()
        await self._caller.discovery.close()

    # -- calling ----------------------------------------------------------------------------

    async def request(  # noqa: PLR0917 - nuropb's signature
        self,
        service: str,
        method: str,
        params: dict[str, Any],
        context: dict[str, Any],
        ttl: int | None = None,
        trace_id: str | None = None,
        rpc_response: bool = True,
        encrypted: bool = False,
    ) -> Any:
        """Call a method and return its result, or with rpc_response=False the whole response.

        `ttl`, in milliseconds, is the timeout and the message's expiration (default_ttl). A method
        whose description says that it requires encryption is always called encrypted.

        Raises what Mesh.request() raises; with rpc_response=False errors are in the response.
        """
        payload = payloads.call("request", service, method, params, context, trace_id)
        ttl = self._default_ttl if ttl is None else ttl
        try:
            response = await self._request(
                payload,
                timeout=from_milliseconds("ttl", ttl),
                encrypted=True if encrypted else None,
            )
        except NuropbException as error:
            if rpc_response:
                raise
            return answer(payload, None, describe(error))
        if not rpc_response:
            return response
        if response["error"] is not None:
            raise remote_error(response)
        return response["result"]

    def command(  # noqa: PLR0917 - nuropb's signature
        self,
        service: str,
        method: str,
        params: dict[str, Any],
        context: dict[str, Any],
        ttl: int | None = None,
        trace_id: str | None = None,
        encrypted: bool = False,
    ) -> asyncio.Future[None]:
        """Send a command; the future is done when the broker has it, and need not be awaited.

        `ttl` is in milliseconds. `encrypted` alone decides about encryption, and needs the
        service's public key: call describe_service() before. Raises what
        RMQTransport.send_message() raises.
        """
        payload = payloads.call("command", service, method, params, context, trace_id)
        return self._transport.send_message(
            payload, expiry=self._default_ttl if ttl is None else ttl, encrypted=encrypted
        )

    def publish_event(
        self,
        topic: str,
        event: Any,
        context: dict[str, Any],
        trace_id: str | None = None,
        encrypted: bool = False,
    ) -> asyncio.Future[None]:
        """Publish an event; the future is done when the broker has it, and need not be awaited.

        Raises what RMQTransport.send_message() raises; with `encrypted` EncryptionError, since no
        subscriber could read it.
        """
        payload = payloads.event(topic, event, context=context, trace_id=trace_id)
        return self._transport.send_message(payload, encrypted=encrypted)

    # -- what services say of themselves ------------------------------------------------------

    async def describe_service(self, service_name: str, refresh: bool = False) -> dict[str, Any]:
        """Return a service's description, a cached one unless `refresh`.

        Raises what request() raises, and NuropbMessageError when the service cannot be described.
        """
        return await self._caller.describe(service_name, refresh=refresh)

    async def requires_encryption(self, service_name: str, method_name: str) -> bool:
        """Return whether calls of this method must be encrypted.

        Raises NuropbValidationError, a ValueError, when the service does not have it.
        """
        return await self._caller.requires_encryption(service_name, method_name)

    async def has_public_key(self, service_name: str) -> bool:
        """Return whether the service has a public key, so that calls can be encrypted."""
        return await self._caller.has_public_key(service_name)

    # -- serving ----------------------------------------------------------------------------

    def receive_transport_message(
        self,
        service_message: TransportServicePayload,
        message_complete_callback: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> Any:
        """Handle a message of the transport, and complete it.

        As in nuropb, a subclass's override gets every message first: requests, commands, events,
        and the responses to its own requests, but not fetched descriptions of services. It may be
        a function or a coroutine function. Messages that it gives to this method are handled,
        whether it awaits the result or not. A request whose response it keeps ends by its ttl.
        """
        return self._receiving.begin(
            partial(self._handle, service_message, message_complete_callback, metadata)
        )

    async def _request_passed_on(
        self, payload: Mapping[str, Any], *, timeout: float, encrypted: bool | None
    ) -> ResponsePayloadDict:
        """Send a request, and pass its response through receive_transport_message."""
        started = time.monotonic()
        undelivered: NuropbNotDeliveredError | None = None
        try:
            response: Any = await self._caller.request(
                payload, timeout=timeout, encrypted=encrypted
            )
        except NuropbNotDeliveredError as error:
            undelivered = error  # nuropb makes it a response
            response = answer(payload, None, describe(error))
        response["correlation_id"] = response.get("correlation_id") or new_id()
        response.setdefault("trace_id", None)
        arguments = self._transport.as_received(response, encrypted=bool(encrypted))
        left = max(0.0, timeout - (time.monotonic() - started))
        passed_on = await self._receiving.pass_on(*arguments, within=left)
        if undelivered is not None:
            raise undelivered
        return passed_on

    async def _handle(
        self,
        service_message: TransportServicePayload,
        message_complete_callback: MessageCompleteFunction,
        metadata: dict[str, Any],
    ) -> None:
        correlation_id = service_message["correlation_id"]
        if service_message["nuropb_type"] == "response" or self._serving is None:
            if not self._receiving.answered(service_message):
                kind = service_message["nuropb_type"]
                text, ids = "nobody waits for %s %s", ids_of(metadata)
                self._log.debug(text, kind, correlation_id, type=kind, **ids)
            return
        payload = service_message["nuropb_payload"]
        message = _Received(
            MessageType(service_message["nuropb_type"]),
            payload,
            correlation_id,
            service_message["trace_id"],
            bool(metadata.get("encrypted")),
            metadata,
        )
        ids = {"correlation_id": correlation_id, "trace_id": message.trace_id}
        try:
            value = await self._serving.handle(message)
        except NuropbCallAgain:
            message_complete_callback([], "nack")
        except Exception as error:  # noqa: BLE001 - any error of a method is its answer
            self._failures.failed(message, error)
            failure = answer(payload, None, describe(error)) | ids
            message_complete_callback([responding(failure)], "reject")
        else:
            if not isinstance(value, Completion):
                value = Completion(Outcome.DONE, [answer(payload, value, None)])
            responses = [responding({**payload, **ids}) for payload in value.messages]
            message_complete_callback(responses, "ack")


def _warn_of_missing_key(published: Published) -> None:
    if published.needs_private_key:
        logger.warning(
            "service %s has no _private_key: methods that require encryption cannot be called: %s",
            published.service_name,
            ", ".join(published.needs_private_key),
        )
