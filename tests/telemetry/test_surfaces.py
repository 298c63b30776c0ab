"""Every kind of mesh: Transport, RMQAPI, RMQTransport, blocking.Mesh, typed clients."""

from __future__ import annotations

import os
from typing import Any

import pytest
from opentelemetry import trace

from nuropb_rmq import (
    RMQAPI,
    NuropbRemoteError,
    RMQTransport,
    TransportConfig,
    blocking,
    configure,
)
from nuropb_rmq.telemetry import instrument

from ..blocking.support import until
from ..compat.apis import Apis
from ..conformance.brokers import Place
from .services import Orders, Stock
from .support import Recorded, Traced, attributes_of, links_of, span_id
from .test_trees import A_REQUEST, QUEUE, REPLY


class Old:
    """A service as of nuropb."""

    _service_name = "orders"

    def total(self, number: int) -> int:
        """Answer."""
        self.current = trace.get_current_span().get_span_context().span_id
        return number

    def fail(self) -> None:
        """Fail."""
        raise LookupError("no")


async def test_rmq_api(place: Place, recorded: Recorded) -> None:
    """Its callbacks run within the spans, and what they complete is an answer."""
    await configure(TransportConfig(amqp_url=place.url, service_name="orders"))
    apis, service = Apis(place.url), Old()
    served, client = apis.api(service), apis.api()
    for each in (served, client):
        record(each, recorded)
        await each.connect()
    assert await client.request("orders", "total", {"number": 7}, {}) == 7
    await recorded.whole(5)
    assert recorded.tree == A_REQUEST
    (server,) = [each for each in recorded.spans if each.kind is trace.SpanKind.SERVER]
    assert service.current == span_id(server)
    recorded.clear()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "fail", {}, {})
    await recorded.whole(5)
    errors = {each.kind.name: attributes_of(each).get("error.type") for each in recorded.spans}
    assert errors == {
        "CLIENT": "LookupError",
        "PRODUCER": None,
        "CONSUMER": "_OTHER",  # nuropb's callback does not say of which class it was
        "SERVER": "_OTHER",
    }
    await apis.stop()


async def test_a_request_that_is_posted(in_memory: Traced, recorded: Recorded) -> None:
    """As RMQTransport.send_message() does: its span ends with the response."""
    await in_memory.serve(Orders())
    answers: list[Any] = []
    client = RMQTransport(
        "client", None, in_memory.url, lambda *given: answers.append(given), client_only=True
    )
    record(client, recorded)
    await client.start()
    payload = {"tag": "request", "service": "orders", "method": "total", "params": {"number": 7}}
    await client.send_message(payload)
    await recorded.whole(5)
    assert recorded.tree == A_REQUEST
    caller = next(each for each in recorded.spans if each.kind is trace.SpanKind.CLIENT)
    assert links_of(caller) == [span_id(recorded.named(REPLY))]
    assert len(answers) == 1
    await client.stop()


def record(mesh: RMQAPI | RMQTransport | blocking.Mesh, recorded: Recorded) -> None:
    instrument(
        mesh,
        tracer_provider=recorded.tracer_provider,
        meter_provider=recorded.meter_provider,
    )


def test_blocking(place: Place, recorded: Recorded) -> None:
    """The span that is current in the calling thread is the parent."""
    with (
        blocking.Mesh(place.url, service=Orders()) as service,
        blocking.Mesh(place.url) as client,
    ):
        record(service, recorded)
        record(client, recorded)
        with recorded.tracer.start_as_current_span("a view"):
            assert client.client("orders").in_thread(number=7) is True
        until(lambda: len(recorded.spans) == 6)
        assert recorded.tree.splitlines()[:3] == [
            "INTERNAL a view",
            "  CLIENT orders/in_thread",
            "    PRODUCER publish nuropb-rpc-exchange:orders",
        ]
        assert f"process {QUEUE}" in recorded.names


def test_blocking_after_a_fork(mesh_url: str) -> None:
    """The child's mesh is another one, and instrumented."""
    recorded = Recorded()
    with blocking.Mesh(mesh_url, service=Stock()), blocking.Mesh(mesh_url) as client:
        record(client, recorded)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                with client:
                    client.request("stock", "count", {"number": 1}, timeout=10)
                status = 0 if "stock/count" in recorded.names else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
