"""blocking.Mesh does what Mesh does: every method, on both brokers."""

from __future__ import annotations

import inspect
import logging
import threading
import traceback
from typing import Any, Protocol

import pytest

import nuropb_rmq
from nuropb_rmq import (
    BrokerUnreachableError,
    NuropbConfigurationError,
    NuropbNotDeliveredError,
    NuropbRemoteError,
    NuropbTimeoutError,
    NuropbTransportError,
    NuropbValidationError,
    Observer,
    SentMessage,
    State,
    TransportClosedError,
    blocking,
)

from .conftest import Meshes
from .support import Orders, loop_threads, until

NOWHERE = "amqp://guest:guest@127.0.0.1:1/"
UNSHARED = {"run", "serve_forever", "transport"}
"""Those for programs that have an event loop, or are one."""
OWN = {"attach"}
"""For telemetry: there is another mesh behind it after a fork."""


class Misspelt(Protocol):
    def ecko(self, n: int) -> int: ...


def signature(owner: type, name: str) -> str:
    """The parameters and the result of a method."""
    return str(inspect.signature(getattr(owner, name)))


def names(owner: type) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def test_it_has_the_same_methods_and_arguments() -> None:
    assert names(blocking.Mesh) - OWN == names(nuropb_rmq.Mesh) - UNSHARED
    for name in {*names(blocking.Mesh) - OWN, "__init__"}:
        if callable(getattr(blocking.Mesh, name)):
            ours, theirs = signature(blocking.Mesh, name), signature(nuropb_rmq.Mesh, name)
            assert ours.replace("Client[Any]", "UntypedClient") == theirs, name
            assert getattr(blocking.Mesh, name).__doc__ or name == "__init__"


def test_calls(meshes: Meshes) -> None:
    orders = Orders()
    service = meshes.start(orders, event_bindings=["orders.#"])
    mesh = meshes.start()
    assert mesh.request("orders", "echo", {"n": 1}) == 1
    assert mesh.request("orders", "add", {"a": 1, "b": 2}, timeout=5, trace_id="t") == 3
    mesh.command("orders", "block", timeout=5)
    assert orders.begun.wait(5)
    orders.release.set()
    mesh.publish_event("orders.placed", {"id": 1})
    until(lambda: orders.told == [("orders.placed", {"id": 1})])
    assert "echo" in mesh.describe_service("orders", timeout=5)["methods"]
    assert not mesh.requires_encryption("orders", "echo")
    assert mesh.has_public_key("orders")
    assert mesh.request("orders", "echo", {"n": 2}, encrypted=True) == 2
    assert mesh.client("orders").echo(n=3) == 3
    with pytest.raises(nuropb_rmq.InterfaceMismatchError, match="no such method; did you mean"):
        mesh.check(Misspelt, "orders")
    assert (mesh.service_name, service.service_name) == ("client", "orders")
    assert mesh.instance_id != service.instance_id != ""
    assert mesh.wait_for(State.READY, timeout=5) is mesh.state is State.READY
    assert mesh.error is None
    assert "READY" in repr(mesh)


def test_errors(meshes: Meshes) -> None:
    meshes.start(Orders())
    mesh = meshes.start()
    with pytest.raises(NuropbRemoteError, match="LookupError: no order"):
        mesh.request("orders", "fail")
    with pytest.raises(NuropbNotDeliveredError):
        mesh.command("invoices", "send", encrypted=False)
    with pytest.raises(NuropbTimeoutError):
        mesh.wait_for(State.BLOCKED, timeout=0.01)
    with pytest.raises(NuropbValidationError, match="grace"):
        mesh.stop(grace=-1)
    with pytest.raises(NuropbValidationError):
        mesh.request("orders", "echo", {"n": object()}, timeout=0)


def test_a_request_that_is_not_answered_in_time(orders: Orders) -> None:
    with pytest.raises(NuropbTimeoutError):
        orders.mesh.request("orders", "block", timeout=0.05)


def test_the_traceback_of_an_error_leads_to_the_call(orders: Orders) -> None:
    with pytest.raises(NuropbRemoteError) as caught:
        orders.mesh.request("orders", "fail")
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback") == 1  # no other error that it came from
    frames = [each.name for each in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[0] == "test_the_traceback_of_an_error_leads_to_the_call"
    assert frames[-1] == "request"  # of Mesh, which raised it
    assert len(frames) < 7
    assert caught.value.__context__ is caught.value.__cause__ is None


def test_many_errors_in_a_row_do_not_grow(orders: Orders) -> None:
    depths = []
    for _ in range(3):
        with pytest.raises(NuropbRemoteError) as caught:
            orders.mesh.request("orders", "fail")
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(depths)) == 1


def test_a_synchronous_method_calls_the_mesh_that_serves_it(orders: Orders) -> None:
    """Trace id and deadline of the call go along."""
    call = orders.mesh.request("orders", "nested", {"n": 7}, trace_id="t-1", timeout=5)
    assert call == ["t-1", ["t-1", 7]]


def test_state_callbacks_and_observers_run_in_the_thread_of_the_loop(in_memory: Meshes) -> None:
    heard: list[tuple[object, str]] = []

    class Sent(Observer):
        def sent(self, message: SentMessage) -> None:
            heard.append((message.kind.value, threading.current_thread().name))

    mesh = blocking.Mesh(in_memory.url, service=Orders())
    state_ended = mesh.on_state_change(
        lambda state, _: heard.append((state, threading.current_thread().name))
    )
    observer_ended = mesh.observe(Sent())
    with mesh:
        mesh.request("orders", "echo", {"n": 1}, encrypted=False)
        kinds = [each for each, _ in heard]
        assert kinds == [State.CONNECTING, State.READY, "request", "response"]
        assert {thread for _, thread in heard} == {"nuropb-blocking-orders"}
        observer_ended()
        observer_ended()
        state_ended()
        mesh.request("orders", "echo", {"n": 1})
    assert len(heard) == 4


# -- its life ---------------------------------------------------------------------------------


def test_before_the_start_and_after_the_end(meshes: Meshes) -> None:
    mesh = blocking.Mesh(meshes.url, service=Orders())
    assert (mesh.state, mesh.instance_id, loop_threads()) == (State.STOPPED, "", [])
    with pytest.raises(TransportClosedError, match=r"^not started: use `with`, or start\(\)"):
        mesh.request("orders", "echo")
    mesh.stop()
    instances = set()
    for _ in range(2):
        with mesh as started:
            assert started is mesh
            assert mesh.request("orders", "echo", {"n": 1}) == 1
            instances.add(mesh.instance_id)
            with pytest.raises(NuropbTransportError, match="READY already"):
                mesh.start()
            assert mesh.request("orders", "echo", {"n": 2}) == 2
        assert loop_threads() == []
        assert mesh.state is State.STOPPED
        with pytest.raises(TransportClosedError, match=r"is stopped: call start\(\) again"):
            mesh.command("orders", "echo")
        mesh.stop()
    assert len(instances) == 2


def test_a_start_that_fails_leaves_no_thread() -> None:
    mesh = blocking.Mesh(NOWHERE)
    for _ in range(2):
        with pytest.raises(BrokerUnreachableError) as caught:
            mesh.start()
        assert mesh.error is caught.value
        assert loop_threads() == []
        assert mesh.state is State.STOPPED
    with pytest.raises(TransportClosedError, match="is stopped"):
        mesh.request("orders", "echo")


async def awaited(*_: Any) -> None:
    """No callback."""


def test_wrong_arguments() -> None:
    with pytest.raises(NuropbConfigurationError, match="prefetch_count"):
        blocking.Mesh(NOWHERE, prefetch_count=-1)
    with pytest.raises(NuropbConfigurationError, match="must not be async"):
        blocking.Mesh(NOWHERE).on_state_change(awaited)  # type: ignore[arg-type]


def test_stop_lets_handlers_finish(orders: Orders) -> None:
    answers = []
    call = threading.Thread(
        target=lambda: answers.append(orders.mesh.request("orders", "block", timeout=10))
    )
    call.start()
    assert orders.begun.wait(5)
    end = threading.Thread(target=orders.mesh.stop)
    end.start()
    until(lambda: orders.mesh.state is State.DRAINING)
    orders.release.set()
    end.join(10)
    call.join(10)
    assert answers == ["done"]


def test_meshes_of_one_broker_in_memory_share_a_thread(in_memory: Meshes) -> None:
    service, other = in_memory.start(Orders()), in_memory.start()
    assert len(loop_threads()) == 1
    with blocking.Mesh("memory://elsewhere"):
        assert len(loop_threads()) == 2
    assert other.request("orders", "echo", {"n": 1}) == 1
    other.stop()
    assert service.request("orders", "echo", {"n": 1}) == 1
    other.start()
    service.stop()
    assert other.state is State.READY
    assert len(loop_threads()) == 1


def test_a_mesh_that_is_forgotten_is_stopped(
    in_memory: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    client = in_memory.start()
    service = blocking.Mesh(in_memory.url, service=Orders())
    service.start()
    assert client.request("orders", "echo", {"n": 1}) == 1
    with pytest.warns(ResourceWarning, match=r"'orders'.* was never stopped: use `with`"):
        del service
    with pytest.raises(NuropbTimeoutError):  # its queue is still there
        client.request("orders", "echo", {"n": 1}, timeout=0.1)
    alone = blocking.Mesh("memory://alone")
    alone.start()
    with pytest.warns(ResourceWarning, match="never stopped"):
        del alone
    until(lambda: len(loop_threads()) == 1)
