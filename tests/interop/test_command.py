"""The command `nuropb-rmq` and services and programs of nuropb 0.1.8."""

from __future__ import annotations

import json
from pathlib import Path

from ..cli.command import ran, running
from .conftest import Peers
from .sides import called


async def test_it_calls_an_old_service(old_peers: Peers) -> None:
    server = await old_peers.server()
    echo = ("orders", "echo", "-p", "text=één", "-p", "number=2")
    status, out, err = await ran("request", *echo, "--json", url=old_peers.url)
    assert (status, err) == (0, "")
    assert json.loads(out) == {"text": "één", "number": 2}
    status, out, err = await ran("command", *echo, url=old_peers.url)
    assert (status, err) == (0, "orders.echo: the broker has it\n")
    status, out, err = await ran("publish", "orders.created", '{"id": 1}', url=old_peers.url)
    assert (status, err) == (0, "orders.created: the broker has it\n")
    assert len(await called(server, 3)) == 3
    status, _, err = await ran("request", "orders", "fail", "-p", "text=x", url=old_peers.url)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "LookupError: x" in err
    status, _, err = await ran("request", "orders", "ecko", url=old_peers.url)
    assert (status, err) == (1, "nuropb-rmq: orders has no method 'ecko': did you mean echo?\n")


async def test_it_describes_an_old_service(old_peers: Peers) -> None:
    await old_peers.server()
    status, out, _ = await ran("describe", "orders", url=old_peers.url)
    assert status == 0
    assert "echo(text: str, number: int" in out
    status, out, _ = await ran("describe", "orders", "--asyncapi", url=old_peers.url)
    assert "echo" in json.loads(out)["operations"]


async def test_it_listens_to_an_old_program(old_peers: Peers, tmp_path: Path) -> None:
    server, caller = await old_peers.server(), await old_peers.caller()
    async with running(
        tmp_path, "listen", "orders.#", "--count", "1", "--json", url=old_peers.url
    ) as command:
        await command.printed("listening to orders.#")
        await caller.event("orders.created", {"id": 1}, {"user": "ada"})
        assert await command.ended() == 0
    event = json.loads(command.lines[-1])
    assert (event["topic"], event["event"]) == ("orders.created", {"id": 1})
    assert event["context"]["user"] == "ada"
    assert len(await called(server, 1)) == 1
