"""Verbs work with the permissions of docs/operations/permissions.md, and no others."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nuropb_rmq import Mesh, TransportConfig, configure
from nuropb_rmq.testing import RabbitMQNode

from ..faults import console
from ..faults.ear import with_credentials
from .command import ROOT, ran, running

PAGE = (ROOT / "docs/operations/permissions.md").read_text(encoding="utf-8")
PASSWORD = "a-password-of-its-own"


class Orders:
    _service_name = "orders"

    async def total(self, order_id: str) -> float:
        return 12.5


@pytest.fixture
async def urls(mesh_url: str, rabbitmq_node: RabbitMQNode) -> AsyncIterator[dict[str, str]]:
    """The addresses of the users of the page; their names in the broker are of this test."""
    # RabbitMQ 4.3 takes permissions for topics of an exchange that is there.
    await configure(TransportConfig(amqp_url=mesh_url, service_name="shop", client_only=True))
    vhost, names = console.vhost_of(mesh_url), {}
    for line in PAGE.replace("\\\n", " ").splitlines():
        if not line.startswith(("rabbitmqctl set_permissions", "rabbitmqctl set_topic_perm")):
            continue
        _, command, _, _, user, *patterns = shlex.split(line)
        name = f"{user}-{vhost}"
        if user not in names:
            names[user] = name
            await asyncio.to_thread(console.add_user, rabbitmq_node, mesh_url, name, PASSWORD)
        if command == "set_permissions":
            await asyncio.to_thread(console.permit, rabbitmq_node, mesh_url, name, *patterns)
        else:
            await asyncio.to_thread(console.permit_topics, rabbitmq_node, mesh_url, name, *patterns)
    assert {"orders", "shop", "deploy"} <= set(names)
    yield {user: with_credentials(mesh_url, name, PASSWORD) for user, name in names.items()}
    for name in names.values():
        await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{name}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["request", "orders", "total", "-p", "order_id=A-1"],
        ["command", "orders", "total", "-p", "order_id=A-1"],
        ["publish", "shop.opened", "1"],
        ["describe", "orders"],
        ["stubs", "orders"],
    ],
    ids=lambda words: words[0],
)
async def test_a_client_by_its_name(
    mesh_url: str, urls: dict[str, str], arguments: list[str]
) -> None:
    async with Mesh(mesh_url, service=Orders()):
        status, _, err = await ran(*arguments, "--name", "shop", url=urls["shop"])
        assert status == 0, err
        status, _, err = await ran(*arguments, url=urls["shop"])
    (line,) = err.splitlines()
    assert status == 1
    user = f"shop-{console.vhost_of(mesh_url)}"
    assert f"user '{user}' may not configure queue 'nuropb-client-" in line
    assert line.endswith("or is it permitted by another name (--name)?")


async def test_a_name_that_is_none(mesh_url: str) -> None:
    status, _, err = await ran("publish", "a.b", "1", "--name", "", url=mesh_url)
    assert status == 2
    assert "service_name" in err


async def test_a_service_that_makes_only_its_queue(folder: Path, urls: dict[str, str]) -> None:
    assert (await ran("configure", "orders", url=urls["deploy"]))[0] == 0
    async with running(folder, "serve", "shop:Orders", url=urls["orders"]) as command:
        assert await command.ended() == 1
        assert "run nuropb-rmq configure as a user who may" in command.lines[-1]
        assert "(serve --no-configure)" in command.lines[-1]
    for more in ((), ("--workers", "2")):
        arguments = ("serve", "shop:Orders", "--no-configure", *more)
        async with running(folder, *arguments, url=urls["orders"]) as command:
            await command.printed("serving orders at", times=2 if more else 1)
            shop = ("request", "orders", "pid", "--name", "shop")
            assert (await ran(*shop, url=urls["shop"]))[0] == 0
            command.process.terminate()
            assert await command.ended() == 0


async def test_what_was_not_made_is_missed(folder: Path, mesh_url: str) -> None:
    arguments = ("serve", "shop:Orders", "--no-configure")
    async with running(folder, *arguments, url=mesh_url) as command:
        assert await command.ended() == 1
        assert "does not exist: run nuropb-rmq configure (" in command.lines[-1]
