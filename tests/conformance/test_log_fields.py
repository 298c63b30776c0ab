"""Log records about messages and connections have fields: which, and what is never in one."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from nuropb_rmq import Mesh, NuropbRemoteError, mesh_event, publish_to_mesh

from ..encrypting import private_key
from ..mesh.support import Meshes
from ..support import Watch, eventually
from .brokers import Place
from .raw import RawChannel

QUEUE = "nuropb-orders-sq"
SECRET = "the pin is 1234"


class Orders:
    _service_name = "orders"
    _private_key = private_key("orders")

    async def fail(self, pin: str = "") -> None:
        raise LookupError(f"no order for {pin}")

    @publish_to_mesh(requires_encryption=True)
    async def vault(self, pin: str = "") -> None:
        raise LookupError(f"no box for {pin}")

    @mesh_event("orders.placed")
    async def placed(self, event: Any) -> None:
        raise LookupError(f"cannot place {event}")


@pytest.fixture(autouse=True)
def _from_debug_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "nuropb_rmq")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record."""
    return {
        name.removeprefix("nuropb_"): value
        for name, value in vars(record).items()
        if name.startswith("nuropb_")
    }


async def found(caplog: pytest.LogCaptureFixture, text: str) -> dict[str, Any]:
    """Wait for a record with this text; its fields."""
    await eventually(lambda: text in caplog.text)
    return fields(next(each for each in caplog.records if text in each.getMessage()))


def names_of(mesh: Mesh) -> dict[str, str]:
    return {"service": mesh.service_name, "instance_id": mesh.instance_id}


async def test_of_a_request_that_failed(meshes: Meshes, caplog: pytest.LogCaptureFixture) -> None:
    mesh, client = await meshes.serve(Orders()), await meshes.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "fail", {"pin": SECRET}, context={"Authorization": SECRET})
    told = await found(caplog, "orders.fail failed with LookupError")
    assert told.pop("correlation_id")
    assert told.pop("trace_id")
    assert told.pop("delivery_tag") > 0
    assert told == names_of(mesh) | {"type": "request", "method": "fail"}
    assert SECRET not in str([fields(each) for each in caplog.records])


async def test_of_an_event_whose_handler_failed(
    meshes: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, client = await meshes.serve(Orders()), await meshes.client()
    await client.publish_event("orders.placed", SECRET)
    told = await found(caplog, "orders: event orders.placed failed")
    assert (told["type"], told["topic"]) == ("event", "orders.placed")
    assert told.items() >= names_of(mesh).items()
    assert SECRET not in str([fields(each) for each in caplog.records])


async def test_of_a_refused_request(meshes: Meshes, caplog: pytest.LogCaptureFixture) -> None:
    mesh, client = await meshes.serve(Orders()), await meshes.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "nothing", encrypted=False)
    told = await found(caplog, "orders.nothing refused")
    assert (told["type"], told["method"]) == ("request", "nothing")
    assert told.items() >= names_of(mesh).items()


async def test_nothing_of_an_encrypted_payload(
    meshes: Meshes, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, client = await meshes.serve(Orders()), await meshes.client()
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "vault", {"pin": SECRET})
    told = await found(caplog, "orders.vault failed with LookupError")
    assert {"method", "topic"}.isdisjoint(told)
    assert told.items() >= names_of(mesh).items()
    assert told["correlation_id"]
    assert SECRET not in str([vars(each) for each in caplog.records])


HOSTILE = "\x1b[2J\nERROR all is lost\u202e"


async def test_values_of_a_hostile_sender(
    meshes: Meshes, channel: RawChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """None is longer than it may be, none controls a terminal or begins a line of its own."""
    await meshes.serve(Orders())
    method = HOSTILE + "m" * 10_000
    payload = {"tag": "request", "service": "orders", "method": method, "params": {}}
    headers = {
        "nuropb_protocol": "0.1.1",
        "nuropb_type": "request",
        "trace_id": HOSTILE + "t" * 900,
    }
    body = json.dumps(payload | {"context": {}}).encode()
    await channel.publish(
        *(QUEUE, body), headers=headers, correlation_id="c" * 200, reply_to="nuropb-x-1-rq"
    )
    await channel.publish(QUEUE, b"{", headers=headers, correlation_id=HOSTILE)
    refused = await found(caplog, "refused")
    assert refused["method"].startswith("\\x1b[2J\\nERROR all is lost\\u202emmm")
    await eventually(lambda: sum("correlation_id" in fields(each) for each in caplog.records) >= 2)
    texts = [
        value
        for each in caplog.records
        for value in fields(each).values()
        if isinstance(value, str)
    ]
    assert all(text.isprintable() for text in texts)
    assert max(map(len, texts)) < 300
    assert "c" * 200 in texts


async def test_of_a_connection_that_was_lost_and_is_back(
    meshes: Meshes, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Both at one level."""
    mesh = await meshes.serve(Orders())
    watch = Watch(mesh.transport)
    await place.delete_queue(QUEUE)
    await watch.recovered()
    whose = names_of(mesh) | {"connection": "consuming"}
    assert await found(caplog, ": recovering: ") == whose
    back = await found(caplog, ": back after ")
    assert back.pop("seconds") >= 0
    assert back == whose
    lines = [
        each
        for each in caplog.records
        if ": recovering: " in each.msg or ": back after" in each.msg
    ]
    assert {each.levelno for each in lines} == {logging.WARNING}


async def test_of_responses_that_nobody_waits_for(
    meshes: Meshes, channel: RawChannel, caplog: pytest.LogCaptureFixture
) -> None:
    client = await meshes.client()
    headers = {"nuropb_protocol": "0.1.1", "nuropb_type": "response"}
    to = client.transport.response_queue
    await channel.publish(to, b"{}", headers=headers, correlation_id="stray")
    told = await found(caplog, "nobody waits for stray")
    assert (told["type"], told["correlation_id"]) == ("response", "stray")
    assert told.items() >= names_of(client).items()
