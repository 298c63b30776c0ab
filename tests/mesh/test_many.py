"""Many requests that are answered, time out or are cancelled at random leave nothing behind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from nuropb_rmq import NuropbTimeoutError, publish_to_mesh

from ..encrypting import private_key
from ..seams import descriptions_of, encryptor_of, in_hand
from ..support import eventually
from .support import Meshes


class Service:
    _service_name = "many"
    _private_key = private_key("many")

    async def wait(self, seconds: float, number: int) -> int:
        await asyncio.sleep(seconds)
        return number

    @publish_to_mesh(requires_encryption=True)
    async def wait_sealed(self, seconds: float, number: int) -> int:
        await asyncio.sleep(seconds)
        return number


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]
)
async def test_nothing_is_left_behind(meshes: Meshes, count: int) -> None:
    chance = random.Random(count)
    service = await meshes.serve(Service(), prefetch_count=200)
    client = await meshes.client()
    await client.describe_service("many")
    ended: Counter[str] = Counter()
    numbers = iter(range(count))

    async def call(number: int) -> None:
        method = chance.choice(("wait", "wait", "wait_sealed"))
        params = {"seconds": chance.choice((0, 0, 0.01, 0.05)), "number": number}
        timeout = chance.choice((30.0, 30.0, 0.001, 0.02, 0.06))
        request = asyncio.ensure_future(client.request("many", method, params, timeout=timeout))
        if chance.random() < 0.2:
            asyncio.get_running_loop().call_later(chance.random() * 0.05, request.cancel)
        try:
            assert await request == number
            ended["answered"] += 1
        except NuropbTimeoutError:
            ended["late"] += 1
        except asyncio.CancelledError:
            ended["cancelled"] += 1

    async def worker() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(worker() for _ in range(64)))
    assert ended.total() == count
    assert min(ended["answered"], ended["late"], ended["cancelled"]) > count / 50, ended

    def left() -> dict[str, Any]:
        found = {
            "requests": client.transport.pending,
            "keys of the client": encryptor_of(client).calls_remembered,
            "keys of the service": encryptor_of(service).calls_remembered,
            "descriptions": len(descriptions_of(client).fetching),
            "handlers": len(in_hand(service.transport)),
        }
        return {name: value for name, value in found.items() if value}

    await eventually(lambda: not left(), within=15, describe=lambda: f"{left()}; {ended}")
