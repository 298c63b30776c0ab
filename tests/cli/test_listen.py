"""`listen`: events are printed as they come, and nobody notices that somebody listens."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from nuropb_rmq import Mesh, TransportConfig, configure, mesh_event
from nuropb_rmq.testing import RabbitMQNode

from ..conformance.raw import raw
from ..dead_letters.support import SAID
from ..faults.console import vhost_of
from ..support import eventually
from .command import ran, running

EVENTS = "nuropb-events-exchange"


class Audit:
    _service_name = "audit"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @mesh_event("#")
    async def on_event(self, topic: str, event: Any) -> None:
        self.seen.append((topic, event))


@pytest.fixture
async def configured(mesh_url: str) -> None:
    """The exchanges."""
    await configure(TransportConfig(amqp_url=mesh_url, service_name="audit"))


def queues(node: RabbitMQNode, url: str) -> list[str]:
    """The names of all queues that listen."""
    found = node.api("GET", f"/api/queues/{vhost_of(url)}?disable_stats=true")
    return [each["name"] for each in found if "listen" in each["name"]]


async def published(url: str, *events: tuple[str, Any]) -> None:
    """Publish, without a queue in between."""
    async with Mesh(url, configure=False) as mesh:
        for topic, event in events:
            await mesh.publish_event(topic, event)


async def test_events_are_printed(mesh_url: str, tmp_path: Path) -> None:
    audit = Audit()
    async with Mesh(mesh_url, service=audit):
        arguments = ("listen", "orders.*", "#.failed", "--count", "3")
        async with running(tmp_path, *arguments, url=mesh_url) as command:
            await command.printed("listening to orders.*, #.failed")
            events: list[tuple[str, Any]] = [
                ("orders.new", {"id": 1}),
                ("other", 2),
                ("a.b.failed", ["č"]),
                ("orders.new", None),
            ]
            await published(mesh_url, *events)
            assert await command.ended() == 0
        assert command.lines[1:] == [
            'orders.new {"id": 1}',
            'a.b.failed ["č"]',
            "orders.new null",
        ]
        await eventually(lambda: audit.seen == events)  # it takes copies


@pytest.mark.usefixtures("configured")
async def test_json(mesh_url: str) -> None:
    listening = asyncio.create_task(
        ran("listen", "--json", "--count", "2", "--for", "20", url=mesh_url)
    )
    async with Mesh(mesh_url, configure=False) as mesh:
        while not listening.done():
            await mesh.publish_event("orders.new", {"id": 1}, context={"user": "ada"})
            await asyncio.wait([listening], timeout=0.1)
    status, out, _ = await listening
    lines = [json.loads(line) for line in out.splitlines()]
    assert (status, len(lines)) == (0, 2)
    assert lines[0]["topic"] == "orders.new"
    assert lines[0]["event"] == {"id": 1}
    assert lines[0]["context"] == {"user": "ada"}


@pytest.mark.usefixtures("configured")
async def test_it_ends_after_a_time(mesh_url: str) -> None:
    assert (await ran("listen", "--for", "0.2", url=mesh_url))[:2] == (0, "")


@pytest.mark.usefixtures("configured")
async def test_hostile_events(mesh_url: str, tmp_path: Path) -> None:
    async with (
        running(tmp_path, "listen", "--count", "6", url=mesh_url) as people,
        running(tmp_path, "listen", "--json", "--count", "6", url=mesh_url) as programs,
        raw(mesh_url) as connection,
    ):
        for command in (people, programs):
            await command.printed("listening to #")
        channel = await connection.channel()
        event = {**SAID, "nuropb_type": "event"}
        bodies = [
            b'{"event": "\\u001b[2J \xc2\x9b1m\\u202e"}', b"\xff\x00", b"[" * 5000, b"{}", b"",
        ]  # fmt: skip
        for body in bodies:
            headers = {"headers": event, "correlation_id": "c"}
            await channel.publish("a\x1b[2J\nb", body, exchange=EVENTS, **headers)
        await channel.publish("a", b"{}", exchange=EVENTS, headers={"nuropb_type": "command"})
        assert (await people.ended(), await programs.ended()) == (0, 0)
    for command in (people, programs):
        assert len(command.lines) == 7
        assert all(line.isprintable() for line in command.lines)
    assert people.lines[1] == r'a\x1b[2J\nb "\u001b[2J \u009b1m\u202e"'
    assert all("no event: " in line for line in people.lines[2:])
    read = [json.loads(line) for line in programs.lines[1:]]
    assert read[0]["event"] == "\x1b[2J \x9b1m\u202e"
    assert all(each["event"] is None and each["problem"] for each in read[1:])


@pytest.mark.usefixtures("configured")
async def test_nothing_is_left_behind(
    mesh_url: str, rabbitmq_node: RabbitMQNode, tmp_path: Path
) -> None:
    for number, status in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, -15)):
        async with running(tmp_path, "listen", url=mesh_url) as command:
            await command.printed("listening to #")
            assert len(queues(rabbitmq_node, mesh_url)) == 1
            command.signal(number)
            assert await command.ended() == status
            assert len(command.lines) == 1
        await eventually(lambda: not queues(rabbitmq_node, mesh_url))


@pytest.mark.usefixtures("configured")
async def test_a_lost_connection(
    mesh_url: str, rabbitmq_node: RabbitMQNode, tmp_path: Path
) -> None:
    async with running(tmp_path, "listen", "--count", "2", url=mesh_url) as command:
        await command.printed("listening to #")
        await published(mesh_url, ("first", 1))
        await command.printed("first 1")
        await asyncio.to_thread(
            rabbitmq_node.rabbitmqctl, "close_all_connections", "--vhost", vhost_of(mesh_url), "why"
        )
        await command.printed("events are missed: ")
        await command.printed("listening again")
        await published(mesh_url, ("second", 2))
        assert await command.ended() == 0
        assert command.lines[-1] == "second 2"


async def test_a_broker_that_goes_away(mortal_node: RabbitMQNode, tmp_path: Path) -> None:
    url = mortal_node.amqp_url
    await configure(TransportConfig(amqp_url=url, service_name="audit"))
    async with running(tmp_path, "listen", "--count", "1", url=url) as command:
        await command.printed("listening to #")
        await asyncio.to_thread(mortal_node.kill)
        await mortal_node.astart()
        await command.printed("listening again", within=60)
        await published(url, ("back", True))
        assert await command.ended() == 0
    said = [line for line in command.lines if not line.startswith(("listening", "events are"))]
    assert said == ["back true"]


async def test_a_virtual_host_that_is_deleted(
    rabbitmq_node: RabbitMQNode, mesh_url: str, tmp_path: Path
) -> None:
    """It ends when trying again makes no sense: the user may not enter any more."""
    await configure(TransportConfig(amqp_url=mesh_url, service_name="audit"))
    vhost = vhost_of(mesh_url)
    user = {"password": "secret", "tags": ""}
    await asyncio.to_thread(rabbitmq_node.api, "PUT", "/api/users/ear", user)
    may = {"configure": "", "write": "", "read": ""}
    await asyncio.to_thread(rabbitmq_node.api, "PUT", f"/api/permissions/{vhost}/ear", may)
    url = mesh_url.replace("guest:guest@", "ear:secret@")
    status, _, err = await ran("listen", url=url)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "permission refused" in err
    allowed = {"configure": "^nuropb-listen-", "write": "^nuropb-listen-"}
    allowed["read"] = f"^(nuropb-listen-.*|{EVENTS})$"
    await asyncio.to_thread(rabbitmq_node.api, "PUT", f"/api/permissions/{vhost}/ear", allowed)
    async with running(tmp_path, "listen", url=url) as command:
        await command.printed("listening to #")
        await asyncio.to_thread(rabbitmq_node.api, "DELETE", "/api/users/ear")
        await asyncio.to_thread(rabbitmq_node.rabbitmqctl, "close_all_connections", "--vhost",
                                vhost, "why")  # fmt: skip
        assert await command.ended() == 1
    assert command.lines[-1].startswith("nuropb-rmq: amqp://ear:***@")
    assert "secret" not in "".join(command.lines)


async def test_a_mesh_that_is_not_configured(mesh_url: str) -> None:
    status, out, err = await ran("listen", url=mesh_url)
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert "no exchange 'nuropb-events-exchange'" in line
