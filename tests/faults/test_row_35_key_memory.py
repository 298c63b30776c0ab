"""Row 35: the keys that an Encryptor remembers are bounded, and none is left of calls that ended.

How each single ending forgets its key is in tests/broker/test_encrypted_keys.py.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from nuropb_rmq import (
    Encryptor,
    Message,
    NuropbCallAgain,
    NuropbException,
    NuropbNotDeliveredError,
    NuropbSuccess,
    NuropbTimeoutError,
    State,
)

from ..encrypting import DL_QUEUE, SECRET, Pair, calling, private_key, tapping
from ..seams import encryptor_of, keys_of
from ..support import Recorder, Transports, Watch, command, eventually, request, result_of
from .processes import ServiceProcess
from .proxy import Proxy

CALLS = 300
ENDINGS = ["well", "fail", "again", "always", "event", "slow", "cancelled", "nobody", "command"]


async def by_its_name(message: Message) -> Any:
    """End a call in the way that its method is called."""
    match message.payload["method"]:
        case "fail":
            raise LookupError(SECRET)
        case "again" if message.call_again_count == 0:
            raise NuropbCallAgain
        case "always":
            raise NuropbCallAgain
        case "event":
            raise NuropbSuccess("well", events=[{"topic": "t", "payload": 1}])
        case "slow" | "cancelled":
            await asyncio.sleep(0.3)
    return "well"


async def test_row_35_empty_after_every_ending(mesh: Transports) -> None:
    pair = Pair(mesh)
    await pair.start(by_its_name)
    chosen = random.Random(35)

    async def one(ending: str) -> object:
        match ending:
            case "nobody":
                with pytest.raises(NuropbNotDeliveredError):
                    await pair.client.request(request(service="nobody"), encrypted=True)
            case "command":
                await pair.client.send(command(text=SECRET), encrypted=True)
            case "slow":
                with pytest.raises(NuropbTimeoutError):
                    await pair.call(ending, timeout=0.2)
            case "cancelled":
                call = asyncio.create_task(pair.call(ending))
                await asyncio.sleep(0.1)
                call.cancel()
                await asyncio.wait([call])
            case _:
                return await pair.call(ending, text=SECRET)
        return None

    await asyncio.gather(*(one(chosen.choice(ENDINGS)) for _ in range(CALLS)))
    await pair.nothing_remembered()
    for each in (pair.ours, pair.theirs):
        assert (len(keys_of(each).sent), len(keys_of(each).owed)) == (0, 0)
    assert len(keys_of(pair.ours).shared) <= 2, "one key for each of the services"
    assert len(keys_of(pair.theirs).unwrapped) <= 2, "of this client, and of itself"
    assert pair.service.state is State.READY


async def test_row_35_keys_of_requesters_are_bounded(mesh: Transports) -> None:
    """More requesters than a service remembers keys: each is answered all the same."""
    theirs = Encryptor("orders", private_key("orders"), unwrapped_keys=8)
    recorder = Recorder()
    await mesh.service(recorder, encryptor=theirs)
    client = await mesh.client(encryptor=calling())
    for n in range(30):
        # As if somebody else called: with a key of its own.
        keys_of(encryptor_of(client)).shared.clear()
        assert result_of(await client.request(request(n=n), encrypted=True)) == {"n": n}
        assert len(keys_of(theirs).unwrapped) <= 8
    assert len(keys_of(theirs).unwrapped) == 8
    assert theirs.calls_remembered == 0


async def test_row_35_calls_under_way_are_bounded(
    mesh: Transports, caplog: pytest.LogCaptureFixture
) -> None:
    """More calls at a time than are remembered: whose key is forgotten gets no plain answer."""
    release = asyncio.Event()
    begun = asyncio.Semaphore(0)

    async def held(message: Message) -> Any:
        begun.release()
        await release.wait()
        return [SECRET, message.payload["params"]["n"]]

    theirs = Encryptor("orders", private_key("orders"), calls_remembered=5)
    service = await mesh.service(held, encryptor=theirs)
    client = await mesh.client(encryptor=calling())
    calls = []
    for n in range(12):
        call = client.request(request(n=n), encrypted=True, timeout=3)
        calls.append(asyncio.create_task(call))
        await begun.acquire()
    assert theirs.calls_remembered == 5
    release.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, NuropbTimeoutError) for each in outcomes] == [True] * 7 + [False] * 5
    for n, answer in enumerate(outcomes[7:], 7):
        assert isinstance(answer, dict)
        assert result_of(answer) == [SECRET, n]
    async with tapping(mesh) as tap:
        for _, body in await asyncio.to_thread(tap.take, DL_QUEUE, 7):
            assert SECRET.encode() not in body
    assert SECRET not in caplog.text
    assert theirs.calls_remembered == 0
    assert service.state is State.READY


async def test_row_35_a_redelivered_request_decrypts_elsewhere(mesh: Transports) -> None:
    """Its first service is killed -9; another instance has the same private key."""
    key = private_key("orders")
    client = await mesh.client(encryptor=calling())
    async with ServiceProcess(mesh.url, private_key=key) as doomed:
        calls = [
            asyncio.create_task(client.request(request(n=n, text=SECRET), encrypted=True))
            for n in range(5)
        ]
        for _ in calls:
            assert (await doomed.told())["encrypted"] is True
        await doomed.kill()
    recorder = Recorder()
    theirs = Encryptor("orders", key)
    await mesh.service(recorder, encryptor=theirs)
    answers = await asyncio.gather(*calls)
    assert [result_of(each) for each in answers] == [{"n": n, "text": SECRET} for n in range(5)]
    assert [(each.redelivered, each.encrypted) for each in recorder.seen] == [(True, True)] * 5
    assert theirs.calls_remembered == 0


async def test_row_35_nothing_is_left_of_lost_connections(mesh: Transports) -> None:
    """Both ends lose their connection, again and again, with encrypted calls under way."""
    pair = Pair(mesh)
    async with Proxy(mesh.url) as proxy:
        mesh.url = proxy.url
        await pair.start(by_its_name)
        watches = [Watch(pair.service), Watch(pair.client)]
        answered = 0
        for _ in range(3):
            calls = [asyncio.create_task(pair.call("slow", timeout=5)) for _ in range(20)]
            await eventually(lambda: pair.theirs.calls_remembered > 0)
            proxy.reset()
            for watch in watches:
                await watch.recovered(10)
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, dict | NuropbException), outcome
                answered += isinstance(outcome, dict)
        assert result_of(await pair.call("well")) == "well"
        assert answered, "none of the calls came through: nothing was tried"
        await pair.nothing_remembered()
        await mesh.stop()
