"""gRPC, by grpcio's asyncio server and channel, JSON in place of protobuf."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from .loop import Params, Side, main


def _packed(value: Any) -> bytes:
    return json.dumps(value).encode()


async def _echo(request: Params, _: grpc.aio.ServicerContext[Any, Any]) -> Params:
    return request


class GrpcSide(Side):
    """A server and a channel, on a free port."""

    distribution = "grpcio"

    async def ready(self) -> Callable[[], Awaitable[object]]:
        """A service."""
        self.carrier = None
        server = grpc.aio.server()
        echo = grpc.unary_unary_rpc_method_handler(
            self.handler(_echo), request_deserializer=json.loads, response_serializer=_packed
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bench.Orders", {"echo": echo}),)
        )
        self._port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return lambda: server.stop(None)

    async def start_client(self) -> None:
        """A client."""
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self._port}")
        self._call = channel.unary_unary(
            "/bench.Orders/echo", request_serializer=_packed, response_deserializer=json.loads
        )

    async def call(self, given: Params) -> Any:
        """A unary call."""
        return await self._call(given, timeout=60)


if __name__ == "__main__":
    main(GrpcSide)
