"""docs/concepts.md: its handler bears a second time, and its figures are those of the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from nuropb_rmq import NuropbException, TransportConfig, exceptions
from nuropb_rmq.testing import MemoryBroker, MemoryMesh

from ..support import eventually
from .support import files, page

PAGE = page("concepts.md")
DEFAULTS = {
    each.name: each.default
    for each in dataclasses.fields(TransportConfig)
    if each.default is not dataclasses.MISSING
}


async def test_a_handler_that_bears_a_second_time(
    memory_mesh: MemoryMesh, mesh_broker: MemoryBroker, tmp_path: Path
) -> None:
    names: dict[str, Any] = {"__name__": "shipping"}
    exec(compile(files(PAGE)["shipping.py"], "shipping.py", "exec"), names)
    shipping = names["Shipping"]()
    mesh = await memory_mesh(shipping)
    await mesh.command("shipping", "ship", {"order_id": "A-1"})
    await eventually(lambda: len(shipping.seen) == 2)
    assert shipping.shipped == {"A-1": "parcel-1"}
    assert len(set(shipping.seen)) == 1
    assert mesh_broker.dead_letters() == []


def test_its_figures() -> None:
    for name, text in {
        "prefetch_count": "32",
        "request_timeout": "30 s",
        "publish_timeout": "30 s",
        "handler_timeout": "25 minutes",
        "max_pending": "100,000",
        "outbox_messages": "10,000",
        "outbox_bytes": "64 MiB",
        "reconnect_cap": "5 s",
    }.items():
        assert name in PAGE
        number = int(re.sub(r"\D", "", text))
        unit = 60 if "minutes" in text else 2**20 if "MiB" in text else 1
        assert DEFAULTS[name] == number * unit
        assert text in PAGE
    assert "`ttl` (12 h)" in PAGE
    assert DEFAULTS["default_ttl"] == 12 * 3600
    assert "stays away for a minute" in PAGE
    assert DEFAULTS["missing_timeout"] == 60


def test_its_errors_are_ours() -> None:
    named = set(re.findall(r"`(\w+Error)`", PAGE))
    assert len(named) > 8
    for name in named:
        assert issubclass(getattr(exceptions, name), NuropbException)
