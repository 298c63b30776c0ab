# mypy: ignore-errors
"""Programs that stand on the transport alone: a callback for what comes, and what to answer."""

import asyncio
import os
from uuid import uuid4

from nuropb.interface import NUROPB_PROTOCOL_VERSION, NuropbTransportError
from nuropb.rmq_transport import CONSUMER_CLOSED_WAIT_TIMEOUT, RMQTransport, ServiceNotConfigured

PROPERTIES = {
    "host": os.environ["MESH_HOST"],
    "port": os.environ["MESH_PORT"],
    "username": "guest",
    "password": "guest",
    "vhost": os.environ["MESH_NAME"],
    "ssl": False,
}
METRICS = []


class Measured(RMQTransport):
    """Writes down what was settled."""

    @classmethod
    def metadata_metrics(cls, metadata):
        METRICS.append((metadata["nuropb_type"], metadata["acknowledgement"]))


def serve(message, message_complete, metadata):
    if message["nuropb_type"] != "request":
        message_complete([], "ack")
        return
    payload = message["nuropb_payload"]
    response = {
        "tag": "response",
        "result": {"method": payload["method"], "params": payload["params"]},
        "error": None,
        "correlation_id": message["correlation_id"],
        "trace_id": message["trace_id"],
        "context": payload["context"],
        "warning": None,
        "reply_to": "",
    }
    message_complete(
        [
            {
                "nuropb_protocol": NUROPB_PROTOCOL_VERSION,
                "correlation_id": message["correlation_id"],
                "trace_id": message["trace_id"],
                "ttl": None,
                "nuropb_type": "response",
                "nuropb_payload": response,
            }
        ],
        "ack",
    )


async def main():
    answers = asyncio.Queue()

    def take(message, message_complete, metadata):
        answers.put_nowait((message, metadata))

    service = Measured("parrot", "one", PROPERTIES, serve, prefetch_count=2, rpc_bindings=["bird"])
    client = RMQTransport("parrot-client", uuid4().hex, PROPERTIES, take, client_only=True)
    await service.start()
    await client.connect()
    print("connected", service.connected, client.connected)
    print(service.response_queue, service._service_queue, sorted(service._rpc_bindings))
    print(service.rmq_configuration["client_only"], client.rmq_configuration["client_only"])

    for name in ("parrot", "bird"):
        client.send_message(
            {
                "tag": "request",
                "service": name,
                "method": "say",
                "params": {"text": name},
                "correlation_id": uuid4().hex,
                "trace_id": "trace",
                "context": {},
            },
            expiry=60_000,
        )
        message, metadata = await asyncio.wait_for(answers.get(), 10)
        print(message["nuropb_type"], message["trace_id"], metadata["client_only"])
        print(message["nuropb_payload"]["result"])
    print(sorted(set(METRICS)), CONSUMER_CLOSED_WAIT_TIMEOUT)
    print(issubclass(ServiceNotConfigured, Exception), issubclass(NuropbTransportError, Exception))
    await client.disconnect()
    await service.stop()
    print("connected", service.connected, client.connected)


if __name__ == "__main__":
    asyncio.run(main())
