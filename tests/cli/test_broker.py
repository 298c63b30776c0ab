"""`broker`: a throwaway node in the foreground."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest

from nuropb_rmq import Mesh

from .command import ran_by_itself, running, typed

NEWER = Path.home() / ".cache/nuropb-rmq/broker-4.3"


async def test_what_to_paste_next_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(folder, "broker") as command:
        said = await command.printed("export NUROPB_RMQ_URL=", within=90)
        url = said.removeprefix("export NUROPB_RMQ_URL=")
        said = await command.printed("export NUROPB_RMQ_MANAGEMENT_URL=")
        monkeypatch.setenv("NUROPB_RMQ_MANAGEMENT_URL", said.partition("=")[2])
        status, _, err = await ran_by_itself("services", url=url)
        assert (status, err) == (0, "")
        status, _, err = await ran_by_itself("configure", url=url)
        assert (status, err) == (0, "")
        async with Mesh(url, configure=False):
            pass
        line = await command.printed("alias rabbitmqctl=")
        async with Mesh(url, service_name="orders"):
            assert "nuropb-orders-" in await pasted(line, "list_queues name")
        assert "\na b\t[]" in await pasted(line, "add_user 'a b' 'c$d'", "list_users")
        control = line.partition("=")[2]
        assert stat.S_IMODE(os.stat(control).st_mode) == 0o700
        command.signal(signal.SIGINT)
        assert await command.ended(60) == 0
        assert not os.access(control, os.F_OK)
        assert not any(line.startswith("nuropb-rmq configure") for line in command.lines)
    status, _, err = await ran_by_itself("request", "orders", "get", url=url)
    assert status == 1
    assert "connection refused" in err


async def pasted(alias: str, *arguments: str) -> str:
    """Paste the line into a shell of which nothing is set, and run rabbitmqctl there."""
    lines = "\n".join(f"rabbitmqctl {each}" for each in arguments)
    return await typed(f"shopt -s expand_aliases\n{alias}\n{lines}", env={"PATH": "/usr/bin:/bin"})


@pytest.mark.broker  # beside those that wait for 4.3
@pytest.mark.skipif(not NEWER.is_dir() or os.geteuid() != 0, reason="needs scripts/broker-4.3")
async def test_of_a_newer_version(folder: Path) -> None:
    """It runs in a chroot, and so does its rabbitmqctl."""
    async with running(folder, "broker", "--version", "4.3") as command:
        line = await command.printed("alias rabbitmqctl=", within=90)
        assert "guest\t[administrator]" in await pasted(line, "list_users")
        command.signal(signal.SIGINT)
        assert await command.ended(60) == 0


async def test_a_signal_ends_it_while_it_starts(folder: Path) -> None:
    async with running(folder, "broker") as command:
        await command.printed("starting")
        command.signal(signal.SIGTERM)
        assert await command.ended(60) == 0


async def test_as_json(folder: Path) -> None:
    async with running(folder, "broker", "--json") as command:
        said = json.loads(await command.printed("amqp://", within=90))
        assert set(said) == {"version", "url", "management_url", "rabbitmqctl", "pid"}
        assert os.access(said["rabbitmqctl"], os.X_OK)
        async with Mesh(said["url"]):
            command.signal(signal.SIGINT)
            assert await command.ended(60) == 0


async def test_a_version_that_is_not_known() -> None:
    status, out, err = await ran_by_itself("broker", "--version", "2.8")
    assert (status, out, err) == (2, "", "nuropb-rmq: --version: expected 4.3, got '2.8'\n")
