"""`broker`: a throwaway node in the foreground."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from nuropb_rmq import Mesh

from .command import ran_by_itself, running


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
        command.signal(signal.SIGINT)
        assert await command.ended(60) == 0
    status, _, err = await ran_by_itself("request", "orders", "get", url=url)
    assert status == 1
    assert "connection refused" in err


async def test_a_signal_ends_it_while_it_starts(folder: Path) -> None:
    async with running(folder, "broker") as command:
        await command.printed("starting")
        command.signal(signal.SIGTERM)
        assert await command.ended(60) == 0


async def test_as_json(folder: Path) -> None:
    async with running(folder, "broker", "--json") as command:
        said = json.loads(await command.printed("amqp://", within=90))
        assert set(said) == {"version", "url", "management_url", "pid"}
        async with Mesh(said["url"]):
            command.signal(signal.SIGINT)
            assert await command.ended(60) == 0


async def test_a_version_that_is_not_known() -> None:
    status, out, err = await ran_by_itself("broker", "--version", "2.8")
    assert (status, out, err) == (2, "", "nuropb-rmq: --version: expected 4.3, got '2.8'\n")
