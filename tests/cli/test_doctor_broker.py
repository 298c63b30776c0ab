"""doctor looks at the broker, the instances and the letters: each fault is made and seen."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
from aiormq.abc import FieldTable

from nuropb_rmq import DeadLetters, Mesh
from nuropb_rmq.doctor.finding import Level

from ..faults import console
from .command import ROOT, running
from .deployed import Orders
from .doctoring import DL_QUEUE, PROGRAM, QUEUE, SERVICE, Deployment


@asynccontextmanager
async def serving(deployed: Deployment, **settings: Any) -> AsyncIterator[Mesh]:
    """The service runs."""
    config = dataclasses.replace(deployed.config(SERVICE), **settings)
    mesh = Mesh(config, service=Orders())
    await mesh.start()
    try:
        yield mesh
    finally:
        await mesh.stop(grace=0)


@asynccontextmanager
async def connected(deployed: Deployment, **properties: str) -> AsyncIterator[None]:
    """Something is connected that says so of itself."""
    told: FieldTable = {"name": "orders", "instance_id": "1", "client_only": "false", **properties}
    connection = await aio_pika.connect(deployed.url, client_properties=told)
    async with connection:
        yield


# -- the broker -----------------------------------------------------------------------------


async def test_an_alarm_of_memory(deployed: Deployment) -> None:
    """Those who want to publish are held up."""
    async with serving(deployed) as mesh:
        await deployed.ctl("set_vm_memory_high_watermark", "0")
        waiting = asyncio.ensure_future(mesh.command("orders", "get", {"number": 1}))
        assert (await deployed.sees("blocked")).finding.level is Level.ERROR
        found = await deployed.sees("alarm-memory")
        assert found.finding.level is Level.ERROR
        assert found.finding.fix == ()  # a higher limit may end with no memory at all
        await deployed.ctl("set_vm_memory_high_watermark", "0.6")
        await deployed.clean("alarm-memory")
        await waiting


async def test_an_alarm_of_the_disk(deployment: Deployment) -> None:
    await deployment.ctl("set_disk_free_limit", "90000GB")
    try:
        found = await deployment.sees("alarm-disk", "")
        assert found.finding.level is Level.ERROR
        assert "limit 90 TB" in found.finding.text
        assert found.finding.fix == ()  # no number fits each disk: 1 GB is above the default
    finally:
        await deployment.ctl("set_disk_free_limit", "50MB")
    await deployment.clean("alarm-disk", "")


async def test_limits_of_the_virtual_host(deployed: Deployment) -> None:
    limits = '{"max-queues": 3, "max-connections": 100}'
    await deployed.ctl("set_vhost_limits", "-p", deployed.vhost, limits)
    await deployed.broken("vhost-limits", Level.WARNING, text="3 of 3 queues")
    (told,) = await deployed.api("GET", "vhost-limits/{vhost}")
    assert told["value"] == {"max-queues": -1, "max-connections": 100}


async def test_the_default_type_of_queues(deployment: Deployment) -> None:
    """RabbitMQ 3.10 has none that can be set."""
    if deployment.node.version.startswith("3."):
        await deployment.clean("default-queue-type", "")
        return
    await deployment.api("PUT", "vhosts/{vhost}", {"default_queue_type": "quorum"})
    await deployment.broken("default-queue-type", Level.NOTE, "", repaired_by="update_vhost")


async def test_what_a_connection_may_have(deployment: Deployment) -> None:
    put = (
        "application:set_env(rabbit, frame_max, {}), application:set_env(rabbit, channel_max, {})."
    )
    await deployment.eval(put.format(8192, 4))
    try:
        assert "8,192 bytes" in (await deployment.sees("frame-max", "")).finding.text
        found = await deployment.sees("channel-max", "")
        assert found.finding.level is Level.ERROR
    finally:
        await deployment.eval(put.format(131072, 2047))
    await deployment.clean("frame-max", "")
    await deployment.clean("channel-max", "")


# -- instances ------------------------------------------------------------------------------


async def test_nobody_serves(deployed: Deployment) -> None:
    found = await deployed.sees("consumers")
    assert (await deployed.sees("consumers", SERVICE)).finding.fix == ()
    (command,) = found.finding.fix
    async with running(ROOT, *command.split()[1:], url=deployed.url) as service:
        await service.printed("serving orders at")
        await deployed.clean("consumers")
        service.signal(signal.SIGTERM)
        await service.ended()


async def test_others_stand_by(deployment: Deployment) -> None:
    await deployment.make("tests.cli.deployed:single")
    settings = {"single_active_consumer": True}
    async with serving(deployment, **settings):
        await deployment.clean("standby")
        async with serving(deployment, **settings):
            found = await deployment.sees("standby")
            assert "One of 2 consumers" in found.finding.text


async def test_an_instance_does_not_consume(deployed: Deployment) -> None:
    async with serving(deployed):
        await deployed.clean("idle")
        async with connected(deployed, product="nuropb_rmq", connection_name="orders/1 consuming"):
            await deployed.sees("idle", text="Instance 1 of 'orders' on 127.0.0.1")


async def test_several_versions(deployed: Deployment) -> None:
    async with serving(deployed):
        await deployed.clean("versions")
        async with connected(deployed, product="Nuropb", version="0.1.8"):
            found = await deployed.sees("versions", text="Nuropb 0.1.8: 1 connections")
            assert found.finding.level is Level.WARNING


async def test_no_heartbeats(deployed: Deployment) -> None:
    async with serving(deployed):
        await deployed.clean("heartbeat")
        async with serving(deployed, heartbeat=0):
            await deployed.sees("heartbeat", SERVICE, text="2 connections")


async def test_handlers_may_be_slower_than_the_broker_waits(deployed: Deployment) -> None:
    found = await deployed.sees("handler-timeout", "tests.cli.deployed:patient")
    assert "for 3600 s (handler_timeout), and the broker waits for 1800 s" in found.finding.text
    async with serving(deployed):
        if not deployed.node.version.startswith("3."):
            text = "of its consumers"
            await deployed.sees("handler-timeout", "tests.cli.deployed:patient", text=text)
        await deployed.clean("handler-timeout")


async def test_bodies_that_the_broker_does_not_take(deployed: Deployment) -> None:
    found = await deployed.sees("body-size", "tests.cli.deployed:large")
    largest = 128 * 2**20 if deployed.node.version.startswith("3.") else 16 * 2**20
    assert f"max_body_bytes={largest}" in found.finding.text
    await deployed.clean("body-size")


# -- what waits -----------------------------------------------------------------------------


async def test_many_messages_wait(deployed: Deployment) -> None:
    async with await aio_pika.connect(deployed.url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        for _ in range(1000):
            await channel.default_exchange.publish(aio_pika.Message(b""), QUEUE)
        await deployed.sees("queue-backlog", text="1,000 messages wait")
        await (await channel.get_queue(QUEUE)).purge()
    await deployed.clean("queue-backlog")


async def test_all_places_are_taken(deployed: Deployment) -> None:
    async with serving(deployed, prefetch_count=2) as mesh:
        for _ in range(5):
            await mesh.command("orders", "wait", {})
        await deployed.sees("queue-in-hand", text="All 2 places")
    await deployed.api("DELETE", f"queues/{{vhost}}/{QUEUE}/contents")
    await deployed.clean("queue-in-hand")


@pytest.mark.parametrize("target", [PROGRAM, "tests.cli.deployed:quorum"])
async def test_dead_letters(deployment: Deployment, target: str) -> None:
    """They are told apart; looking at them changes nothing."""
    await deployment.make(target)
    if not deployment.node.version.startswith("3."):  # which refuses it, and has no limit
        await deployment.policy("-dlq$", delivery_limit=-1)
    kind = deployment.config(target).queue_type
    async with serving(deployment, queue_type=kind) as mesh:
        await mesh.command("orders", "fail", {})
        await mesh.command("orders", "fail", {})
        found = await deployment.sees("dlq-letters", target, text="2 dead letters of 'orders'")
    assert "Most, 2: fail: RuntimeError." in found.finding.text
    assert ", the oldest from 20" in found.finding.text
    assert found.finding.fix == ("nuropb-rmq dlq groups orders",)
    await deployment.publish(DL_QUEUE)
    await deployment.sees("dlq-foreign", target, text="1 letters")
    await console.until_depths(deployment.node, deployment.url, {DL_QUEUE: 3})
    api_url = deployment.node.management_url
    async with DeadLetters(deployment.config(target), api_url=api_url) as dead:
        assert (await dead.purge(foreign=True)).done == 3
    await deployment.clean("dlq-letters", target)
    await deployment.clean("dlq-foreign", target)
