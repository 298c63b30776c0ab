"""NuroPb over RabbitMQ, native on asyncio and aio-pika: requests, commands and events.

A name's module is loaded when the name is first used (PEP 562), so that a program loads no more
than it uses, and a test that needs only a broker no more than `nuropb_rmq.testing`.
"""

from __future__ import annotations

from importlib import import_module

from ._version import __version__ as __version__

TYPE_CHECKING = False  # for type checkers it is True; importing it takes a third of a probe's time
if TYPE_CHECKING:
    from .amqp.settlement import Settlement
    from .broker.provision import configure
    from .broker.state import State
    from .compat.callbacks import decode_rmq_body, verbose
    from .compat.functions import (
        MeshService,
        build_amqp_url,
        build_rmq_api_url,
        configure_mesh,
        configure_nuropb_rmq,
        connect,
        create_client,
        create_service,
        create_virtual_host,
        default_connection_properties,
        delete_virtual_host,
        describe_service,
        error_dict_from_exception,
        get_virtual_host_queues,
        get_virtual_hosts,
        method_requires_nuropb_context,
        obfuscate_credentials,
        rmq_api_url_from_amqp_url,
    )
    from .compat.interface import (
        AcknowledgeCallbackFunction,
        ConnectionCallbackFunction,
        EventType,
        NuropbInterface,
        NuropbLifecycleState,
        NuropbMessageType,
        NuropbSerializeType,
        PayloadDict,
        ResponsePayloadTypes,
        ResultFutureAny,
        ResultFutureResponsePayload,
        ServicePayloadTypes,
    )
    from .compat.options import RabbitMQConfiguration
    from .compat.rmq_api import RMQAPI
    from .compat.rmq_transport import CONSUMER_CLOSED_WAIT_TIMEOUT, RMQTransport
    from .config.outage import Outage
    from .config.settings import TransportConfig
    from .config.tokens import AccessToken, TokenProvider
    from .dead_letters.dead_letters import DeadLetters
    from .dead_letters.filters import DeadLetterFilter
    from .dead_letters.groups import DeadLetterGroup
    from .dead_letters.letter import DeadLetter
    from .dead_letters.results import DeadLetterProgress, DeadLetterResult
    from .exceptions import (
        AMQPProtocolError,
        BrokerAuthenticationError,
        BrokerTLSError,
        BrokerUnreachableError,
        ConnectionLostError,
        EncryptionError,
        EncryptionRequiredError,
        InstanceInUseError,
        InterfaceMismatchError,
        MalformedMessageError,
        MessageTooLargeError,
        NuropbAuthenticationError,
        NuropbAuthorizationError,
        NuropbCallAgain,
        NuropbCallAgainReject,
        NuropbConfigurationError,
        NuropbDeprecatedError,
        NuropbException,
        NuropbHandlingError,
        NuropbMessageError,
        NuropbNotDeliveredError,
        NuropbNotSentError,
        NuropbOutcomeUnknownError,
        NuropbRemoteError,
        NuropbSerializationError,
        NuropbSuccess,
        NuropbTimeoutError,
        NuropbTransportError,
        NuropbValidationError,
        OutboxFullError,
        PendingFullError,
        PublishNackedError,
        RetryLater,
        ServiceNotConfigured,
        TokenProviderError,
        TopicRefusedError,
        TransportClosedError,
        UnexpectedResultError,
    )
    from .mesh.mesh import Mesh
    from .protocol.acknowledgement import Outcome
    from .protocol.constants import (
        NUROPB_MESSAGE_TYPES,
        NUROPB_PROTOCOL_VERSION,
        NUROPB_PROTOCOL_VERSIONS_SUPPORTED,
        NUROPB_VERSION,
        AcknowledgeAction,
        CommandPayloadDict,
        ErrorDescriptionType,
        EventPayloadDict,
        MessageCallbackFunction,
        MessageCompleteFunction,
        MessageType,
        RequestPayloadDict,
        ResponsePayloadDict,
        TransportRespondPayload,
        TransportServicePayload,
    )
    from .protocol.encryption import Encryptor
    from .protocol.message import Completion, Handler, Message
    from .service.decorators import (
        NuropbContextManager,
        mesh_event,
        nuropb_context,
        publish_to_mesh,
    )
    from .service.marks import AuthorizeFunc
    from .service.retry import Retry
    from .transport.listener import EventListener, ReceivedEvent
    from .transport.observer import Observer
    from .transport.sent_message import SentMessage
    from .transport.stats import Stats
    from .transport.transport import Transport

__all__ = [
    "CONSUMER_CLOSED_WAIT_TIMEOUT",
    "NUROPB_MESSAGE_TYPES",
    "NUROPB_PROTOCOL_VERSION",
    "NUROPB_PROTOCOL_VERSIONS_SUPPORTED",
    "NUROPB_VERSION",
    "RMQAPI",
    "AMQPProtocolError",
    "AccessToken",
    "AcknowledgeAction",
    "AcknowledgeCallbackFunction",
    "AuthorizeFunc",
    "BrokerAuthenticationError",
    "BrokerTLSError",
    "BrokerUnreachableError",
    "CommandPayloadDict",
    "Completion",
    "ConnectionCallbackFunction",
    "ConnectionLostError",
    "DeadLetter",
    "DeadLetterFilter",
    "DeadLetterGroup",
    "DeadLetterProgress",
    "DeadLetterResult",
    "DeadLetters",
    "EncryptionError",
    "EncryptionRequiredError",
    "Encryptor",
    "ErrorDescriptionType",
    "EventListener",
    "EventPayloadDict",
    "EventType",
    "Handler",
    "InstanceInUseError",
    "InterfaceMismatchError",
    "MalformedMessageError",
    "Mesh",
    "MeshService",
    "Message",
    "MessageCallbackFunction",
    "MessageCompleteFunction",
    "MessageTooLargeError",
    "MessageType",
    "NuropbAuthenticationError",
    "NuropbAuthorizationError",
    "NuropbCallAgain",
    "NuropbCallAgainReject",
    "NuropbConfigurationError",
    "NuropbContextManager",
    "NuropbDeprecatedError",
    "NuropbException",
    "NuropbHandlingError",
    "NuropbInterface",
    "NuropbLifecycleState",
    "NuropbMessageError",
    "NuropbMessageType",
    "NuropbNotDeliveredError",
    "NuropbNotSentError",
    "NuropbOutcomeUnknownError",
    "NuropbRemoteError",
    "NuropbSerializationError",
    "NuropbSerializeType",
    "NuropbSuccess",
    "NuropbTimeoutError",
    "NuropbTransportError",
    "NuropbValidationError",
    "Observer",
    "Outage",
    "OutboxFullError",
    "Outcome",
    "PayloadDict",
    "PendingFullError",
    "PublishNackedError",
    "RMQTransport",
    "RabbitMQConfiguration",
    "ReceivedEvent",
    "RequestPayloadDict",
    "ResponsePayloadDict",
    "ResponsePayloadTypes",
    "ResultFutureAny",
    "ResultFutureResponsePayload",
    "Retry",
    "RetryLater",
    "SentMessage",
    "ServiceNotConfigured",
    "ServicePayloadTypes",
    "Settlement",
    "State",
    "Stats",
    "TokenProvider",
    "TokenProviderError",
    "TopicRefusedError",
    "Transport",
    "TransportClosedError",
    "TransportConfig",
    "TransportRespondPayload",
    "TransportServicePayload",
    "UnexpectedResultError",
    "build_amqp_url",
    "build_rmq_api_url",
    "configure",
    "configure_mesh",
    "configure_nuropb_rmq",
    "connect",
    "create_client",
    "create_service",
    "create_virtual_host",
    "decode_rmq_body",
    "default_connection_properties",
    "delete_virtual_host",
    "describe_service",
    "error_dict_from_exception",
    "get_virtual_host_queues",
    "get_virtual_hosts",
    "mesh_event",
    "method_requires_nuropb_context",
    "nuropb_context",
    "obfuscate_credentials",
    "publish_to_mesh",
    "rmq_api_url_from_amqp_url",
    "verbose",
]

# The names above by their modules; tests/unit/test_public.py compares the lists.
_HOMES = {
    "amqp.settlement": "Settlement",
    "broker.provision": "configure",
    "broker.state": "State",
    "compat.callbacks": "decode_rmq_body verbose",
    "compat.functions": (
        "MeshService build_amqp_url build_rmq_api_url configure_mesh configure_nuropb_rmq "
        "connect create_client create_service create_virtual_host default_connection_properties "
        "delete_virtual_host describe_service error_dict_from_exception get_virtual_host_queues "
        "get_virtual_hosts method_requires_nuropb_context obfuscate_credentials "
        "rmq_api_url_from_amqp_url"
    ),
    "compat.interface": (
        "AcknowledgeCallbackFunction ConnectionCallbackFunction EventType NuropbInterface "
        "NuropbLifecycleState NuropbMessageType NuropbSerializeType PayloadDict "
        "ResponsePayloadTypes ResultFutureAny ResultFutureResponsePayload ServicePayloadTypes"
    ),
    "compat.options": "RabbitMQConfiguration",
    "compat.rmq_api": "RMQAPI",
    "compat.rmq_transport": "CONSUMER_CLOSED_WAIT_TIMEOUT RMQTransport",
    "config.outage": "Outage",
    "config.settings": "TransportConfig",
    "config.tokens": "AccessToken TokenProvider",
    "dead_letters.dead_letters": "DeadLetters",
    "dead_letters.filters": "DeadLetterFilter",
    "dead_letters.groups": "DeadLetterGroup",
    "dead_letters.letter": "DeadLetter",
    "dead_letters.results": "DeadLetterProgress DeadLetterResult",
    "exceptions": (
        "AMQPProtocolError BrokerAuthenticationError BrokerTLSError BrokerUnreachableError "
        "ConnectionLostError EncryptionError EncryptionRequiredError InstanceInUseError "
        "InterfaceMismatchError MalformedMessageError MessageTooLargeError "
        "NuropbAuthenticationError NuropbAuthorizationError NuropbCallAgain NuropbCallAgainReject "
        "NuropbConfigurationError NuropbDeprecatedError NuropbException NuropbHandlingError "
        "NuropbMessageError NuropbNotDeliveredError NuropbNotSentError NuropbOutcomeUnknownError "
        "NuropbRemoteError NuropbSerializationError NuropbSuccess NuropbTimeoutError "
        "NuropbTransportError NuropbValidationError OutboxFullError PendingFullError "
        "PublishNackedError RetryLater ServiceNotConfigured TokenProviderError TopicRefusedError "
        "TransportClosedError UnexpectedResultError"
    ),
    "mesh.mesh": "Mesh",
    "protocol.acknowledgement": "Outcome",
    "protocol.constants": (
        "NUROPB_MESSAGE_TYPES NUROPB_PROTOCOL_VERSION NUROPB_PROTOCOL_VERSIONS_SUPPORTED "
        "NUROPB_VERSION AcknowledgeAction CommandPayloadDict ErrorDescriptionType "
        "EventPayloadDict MessageCallbackFunction MessageCompleteFunction MessageType "
        "RequestPayloadDict ResponsePayloadDict TransportRespondPayload TransportServicePayload"
    ),
    "protocol.encryption": "Encryptor",
    "protocol.message": "Completion Handler Message",
    "service.decorators": "NuropbContextManager mesh_event nuropb_context publish_to_mesh",
    "service.marks": "AuthorizeFunc",
    "service.retry": "Retry",
    "transport.listener": "EventListener ReceivedEvent",
    "transport.observer": "Observer",
    "transport.sent_message": "SentMessage",
    "transport.stats": "Stats",
    "transport.transport": "Transport",
}
_MODULES = frozenset({"config", "exceptions", "mesh", "protocol", "transport"})  # public modules
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # else type checkers would accept every name

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        module = _HOME_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
