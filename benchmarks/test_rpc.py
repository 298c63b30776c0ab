"""Requests and responses: ~600 bytes of JSON both ways, larger bodies, encrypted."""

from __future__ import annotations

import pytest

from .conftest import Scenario, Sides
from .peers import (
    ADAPTER,
    BESIDE_BODIES,
    BESIDE_KEYS,
    ELSEWHERE,
    FLOOR,
    FLOORS,
    MESH,
    MESH_SPEED,
    MESH_THREAD,
    NUROPB,
    OTHERS,
    SPEED,
    TRANSPORT,
    Peer,
)

ALL = (TRANSPORT, SPEED, MESH, ADAPTER, *OTHERS, *FLOORS)
WAITING = (TRANSPORT, MESH, ADAPTER, *OTHERS, FLOOR)
"""Not the batched floor: what it acknowledges together would not be done with yet."""
FEW = (TRANSPORT, MESH, NUROPB, FLOOR)
WAITS = {"once": (1, 0.0), "ten": (10, 0.0), "5ms": (1, 0.005)}
"""Name → number of sleeps of a handler, and the seconds of each."""


@pytest.mark.parametrize("concurrency", [1, 32, 256])
def test_rpc(scenario: Scenario, sides: Sides, concurrency: int) -> None:
    """So many callers, each with one call at a time."""
    scenario.in_turn(
        scenario.start(sides, ALL, "rpc"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=concurrency),
        step=concurrency,
    )


@pytest.mark.parametrize("concurrency", [32, 256])
@pytest.mark.parametrize("wait", WAITS)
def test_waiting(scenario: Scenario, sides: Sides, wait: str, concurrency: int) -> None:
    """Handlers that wait before they answer, as for a database or for another service."""
    peers = WAITING if (wait, concurrency) == ("once", 32) else FEW
    scenario.in_turn(
        scenario.start(sides, peers, "waiting"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=concurrency, wait=WAITS[wait]),
        step=concurrency,
    )


@pytest.mark.parametrize("concurrency", [1, 32, 256])
def test_elsewhere(scenario: Scenario, sides: Sides, concurrency: int) -> None:
    """The same calls by what is not RabbitMQ, with what each guarantees."""
    scenario.in_turn(
        scenario.start(sides, (TRANSPORT, MESH, *ELSEWHERE), "rpc"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=concurrency),
        step=concurrency,
    )


def test_thread(scenario: Scenario, sides: Sides) -> None:
    """A synchronous method, which runs in a thread, beside an async one."""
    scenario.in_turn(
        scenario.start(sides, (MESH_THREAD, MESH), "rpc"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32),
        step=32,
    )


def test_hops(scenario: Scenario, sides: Sides) -> None:
    """A service that asks a second one, which asks a third one."""
    scenario.in_turn(
        scenario.start(sides, (MESH, NUROPB), "hops"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32),
        step=32,
    )


@pytest.mark.parametrize("kilobytes", [16, 256])
def test_body(scenario: Scenario, sides: Sides, kilobytes: int) -> None:
    """Larger bodies both ways, 32 concurrent."""
    scenario.in_turn(
        scenario.start(sides, (TRANSPORT, SPEED, *OTHERS, *FLOORS), "rpc"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32, size=kilobytes * 1024),
        step=32,
    )


def test_encrypted(scenario: Scenario, sides: Sides) -> None:
    """RSA and Fernet, 32 concurrent, as each mesh does it."""
    scenario.in_turn(
        scenario.start(sides, (MESH, MESH_SPEED, NUROPB), "rpc"),
        lambda side, calls: side.run("rpc", calls=calls, concurrency=32, encrypted=True),
        step=32,
    )


@pytest.mark.parametrize(
    ("peers", "kilobytes"), [(BESIDE_KEYS, 0), (BESIDE_BODIES, 300)], ids=["keys", "bodies"]
)
def test_beside(scenario: Scenario, sides: Sides, peers: tuple[Peer, ...], kilobytes: int) -> None:
    """Plain calls beside four encrypted ones: each with a key of its own, or with large bodies."""
    scenario.in_turn(
        scenario.start(sides, peers, "rpc"),
        lambda side, calls: side.run("beside", calls=calls, load=4, size=kilobytes * 1024),
        step=40,
    )
