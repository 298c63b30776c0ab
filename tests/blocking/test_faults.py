"""The broker dies during a blocking call."""

from __future__ import annotations

import threading

from nuropb_rmq import (
    NuropbException,
    NuropbOutcomeUnknownError,
    NuropbTimeoutError,
    State,
    TransportConfig,
    blocking,
)
from nuropb_rmq.testing import RabbitMQNode

from .support import Orders


def quick(node: RabbitMQNode, name: str) -> TransportConfig:
    return TransportConfig(
        amqp_url=node.amqp_url, service_name=name, reconnect_cap=0.3, unknown_outcome_after=2
    )


def test_the_broker_is_killed_during_a_call(mortal_node: RabbitMQNode) -> None:
    """The call ends with its answer or an error; the mesh comes back by itself."""
    orders = Orders()
    service = blocking.Mesh(quick(mortal_node, "orders"), service=orders)
    mesh = blocking.Mesh(quick(mortal_node, "client"))
    outcomes: list[object] = []

    def call() -> None:
        try:
            outcomes.append(mesh.request("orders", "block", timeout=60))
        except NuropbException as e:
            outcomes.append(e)

    with service, mesh:
        calling = threading.Thread(target=call)
        calling.start()
        assert orders.begun.wait(10)
        mortal_node.kill()
        mesh.wait_for(State.RECOVERING, timeout=10)
        try:
            mesh.request("orders", "echo", {"n": 1}, timeout=0.2)
        except NuropbTimeoutError:
            pass
        else:
            raise AssertionError("there was no broker")
        mortal_node.start()
        mesh.wait_for(State.READY, timeout=30)
        service.wait_for(State.READY, timeout=30)
        orders.release.set()
        calling.join(30)
        (outcome,) = outcomes
        assert outcome == "done" or isinstance(outcome, NuropbOutcomeUnknownError), outcome
        assert mesh.request("orders", "echo", {"n": 1}, timeout=10) == 1
