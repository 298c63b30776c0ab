"""The demo from top to bottom: what is shown, and what must hold."""

from __future__ import annotations

import asyncio
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nuropb_rmq.testing import RabbitMQNode

from . import peer, wiretap
from .mishaps import dead_letter, retry, trace
from .outage import judge, port_opens
from .parcels import playing
from .programs import Program, Programs, Report, in_thread
from .tour import CARD, EVERY, GIVE_UP, PATIENCE
from .transcript import Transcript, duration
from .without_broker import in_memory


@dataclass(frozen=True, slots=True)
class Stage:
    """Who takes part."""

    transcript: Transcript
    node: RabbitMQNode
    programs: Programs
    orders: Program
    mail: Program
    audit: Program
    shop: Program
    suppliers: Program | None
    why_not: str
    """Why there is no program on nuropb 0.1.8."""

    async def hear(self, program: Program, about: str, *, within: float = 15.0) -> Report:
        """The next report of a program."""
        return await self.programs.hear(program, about, within=within)


async def tell_story(
    transcript: Transcript, node: RabbitMQNode, programs: Programs, folder: Path
) -> None:
    """All steps. Whoever calls ends the programs and the node, whatever happens."""
    stage = await start(transcript, node, programs, folder)
    await request(stage)
    await remote_error(stage)
    await undeliverable(stage)
    await timeout(stage)
    await command(stage)
    await events(stage)
    await encrypted(stage)
    await beside(stage)
    async with playing(node.amqp_url) as cast:
        await trace(transcript, cast)
        await retry(transcript, cast)
        await dead_letter(transcript, cast)
    await in_memory(transcript)
    await outage(stage)
    await stop(stage)


async def start(
    transcript: Transcript, node: RabbitMQNode, programs: Programs, folder: Path
) -> Stage:
    """The broker first, then the service, then everyone else."""
    transcript.step("Start")
    began = time.monotonic()
    await node.astart()
    told = f"RabbitMQ {node.version} on 127.0.0.1:{node.port}, process {node.pid}, gone afterwards"
    transcript.line("broker", told, time.monotonic() - began)
    began = time.monotonic()
    url, key = node.amqp_url, str(folder / "orders.pem")
    orders = await programs.start("orders", "orders", url, key)
    await programs.hear(orders, "ready")
    told = f"a service, process {orders.pid}; it has a private key, orders.pem is the public one"
    transcript.line("orders", told, time.monotonic() - began)
    await wiretap.begin(node)
    began = time.monotonic()
    mail = await programs.start("mail", "subscriber", url, "mail", "orders.placed")
    audit = await programs.start("audit", "subscriber", url, "audit", "orders.#")
    why_not = peer.why_not(sys.version_info[:2], node.version)
    suppliers = None if why_not else await peer.start(programs, url)
    others = [(mail, "a subscriber to orders.placed"), (audit, "a subscriber to orders.#")]
    if suppliers:
        others.append((suppliers, "a service on nuropb 0.1.8"))
    for program, what in others:
        await programs.hear(program, "ready")
        told = f"{what}, process {program.pid}"
        transcript.line(program.name, told, time.monotonic() - began)
    began = time.monotonic()
    calls = ["--suppliers"] if suppliers else []
    shop = await programs.start("shop", "tour", url, key, *calls)
    await programs.hear(shop, "ready")
    told = f"the client, process {shop.pid}, Python {platform.python_version()}"
    transcript.line("shop", told, time.monotonic() - began)
    return Stage(transcript, node, programs, orders, mail, audit, shop, suppliers, why_not or "")


async def asked(stage: Stage, about: str, label: str = "came back") -> Report:
    """Show what the client has asked, and what came back."""
    told = await stage.hear(stage.shop, about)
    stage.transcript.line("asked", told["asked"])
    stage.transcript.line(label, outcome(told), told["seconds"])
    return told


def outcome(told: Report) -> str:
    """Return the outcome of a call, on one line."""
    if "error" in told:
        return f"{told['error']}: {told['text']}"
    return "nothing" if told["answer"] is None else str(told["answer"])


async def request(stage: Stage) -> None:
    """A question and its answer."""
    stage.transcript.step("A request")
    told = await asked(stage, "request")
    answer = {"order": "A-1001", "items": 2, "total": "59.80"}
    stage.transcript.same("the answer is that order's total", str(answer), outcome(told))


async def remote_error(stage: Stage) -> None:
    """The caller gets the error that the handler raises."""
    stage.transcript.step("A request that fails in the service")
    told = await asked(stage, "remote error")
    error = "RemoteError: LookupError: there is no order B-2002"
    stage.transcript.same("the client knows what the service raised", error, outcome(told))


async def undeliverable(stage: Stage) -> None:
    """The broker returns what no queue takes."""
    stage.transcript.step("A request to a service that does not run")
    told = await asked(stage, "undeliverable")
    ends_with(stage, told, "NuropbNotDeliveredError", within=1.0)


async def timeout(stage: Stage) -> None:
    """The client waits for 0.4 s for what takes 1 s."""
    stage.transcript.step("A request that takes longer than the client waits")
    told = await asked(stage, "timeout")
    packing = await stage.hear(stage.orders, "packing")
    stage.transcript.line("orders", f"packs for {packing['seconds']:g} s; its answer is dropped")
    ends_with(stage, told, "NuropbTimeoutError", within=1.0)


def ends_with(stage: Stage, told: Report, error: str, *, within: float) -> None:
    """A call ended with this error, in time."""
    stage.transcript.check(
        f"it ends with {error}, in time",
        told.get("error") == error and told["seconds"] < within,
        expected=f"{error} within {within:g} s",
        got=f"{outcome(told)}, after {duration(told['seconds'])}",
    )


async def command(stage: Stage) -> None:
    """Sent when the broker has it, done when the service has the time."""
    stage.transcript.step("A command")
    told = await stage.hear(stage.shop, "command")
    stage.transcript.line("sent", told["asked"])
    taken = "has it" if "answer" in told else f"has not taken it: {outcome(told)}"
    stage.transcript.line("the broker", taken, told["seconds"])
    done = await stage.hear(stage.orders, "restocked")
    stage.transcript.line("orders", f"has done it: {done['stock']} of {done['item']} in stock")
    stage.transcript.same("done once, by the service", ("lamp", 12), (done["item"], done["stock"]))


async def events(stage: Stage) -> None:
    """One is sent by the client, one by the service, together with an answer."""
    transcript = stage.transcript
    transcript.step("Events to two subscribers")
    sent = await stage.hear(stage.shop, "event")
    transcript.line("sent", f"{sent['asked']}, the event orders.shipped", sent["seconds"])
    told = await asked(stage, "event with an answer")
    order = {"order": "A-1002", "item": "chair", "count": 1}
    transcript.same("the order is placed", str(order), outcome(told))
    # What subscribes to less is handed less: shipped, the first one sent, would reach mail first.
    shipped = ("orders.shipped", "A-1001", sent["began"])
    placed = ("orders.placed", "A-1002", told["began"])
    await gets(stage, stage.audit, shipped, placed)
    await gets(stage, stage.mail, placed)


async def gets(stage: Stage, subscriber: Program, *events: tuple[str, str, float]) -> None:
    """These events, each with topic, order and the time when it was sent, reach a subscriber."""
    got = []
    for _, _, began in events:
        event = await stage.hear(subscriber, "event")
        got.append((event["topic"], event["event"]["order"]))
        # One machine, one monotonic clock.
        what = f"{event['topic']} {event['event']}"
        stage.transcript.line(subscriber.name, what, event["at"] - began)
    expected = [(topic, order) for topic, order, _ in events]
    stage.transcript.same(f"{subscriber.name} has what it subscribed to", expected, got)


async def encrypted(stage: Stage) -> None:
    """Only the service can read it; the broker, and who listens there, cannot."""
    transcript = stage.transcript
    transcript.step("An encrypted request")
    told = await asked(stage, "encrypted")
    answer = {"order": "A-1001", "paid_with": "card ending in 9010"}
    transcript.same("the service has read the number of the card", str(answer), outcome(told))
    secret, plain = await wiretap.take_all(stage.node)
    for body in secret:
        text = body.decode(errors="replace")
        transcript.line("on the wire", f"{text[:32]}...{text[-12:]} ({len(body)} bytes)")
    transcript.same(
        "on the broker the command of step 6 can be read, the number of the card cannot",
        {"encrypted": 1, "with the number": 0, "commands D-7": 1},
        {
            "encrypted": len(secret),
            "with the number": sum(CARD.encode() in body for body in secret),
            "commands D-7": sum(b"D-7" in body for body in plain),
        },
    )
    told = await asked(stage, "plain text")
    error = "RemoteError: NuropbAuthorizationError: pay: encrypted requests only"
    transcript.same("the service refuses the same in plain text", error, outcome(told))


async def beside(stage: Stage) -> None:
    """A service on nuropb 0.1.8 asks one of ours, and one of ours asks it."""
    transcript, suppliers = stage.transcript, stage.suppliers
    transcript.step("A service on nuropb 0.1.8, on the same mesh")
    if suppliers is None:
        transcript.line("left out", stage.why_not)
        return
    told = await stage.hear(suppliers, "request")
    transcript.line("suppliers", f"asks {told['asked']}")
    transcript.line("came back", outcome(told), told["seconds"])
    total = {"order": "A-1001", "items": 2, "total": "59.80"}
    transcript.same("nuropb 0.1.8 calls us", str(total), outcome(told))
    told = await asked(stage, "old service")
    offer = {"item": "lamp", "count": 20, "price": "398.00"}
    transcript.same("we call nuropb 0.1.8", str(offer), outcome(told))
    status = await stage.programs.stop(suppliers)
    why = "has ended before the broker is killed: it would not come back by itself"
    transcript.line("suppliers", why)
    transcript.same("it ended with exit status 0", 0, status)


async def outage(stage: Stage) -> None:
    """kill -9, and start again, while calls go on."""
    transcript, node = stage.transcript, stage.node
    transcript.step("The broker is killed while calls go on")
    patience = " and ".join(f"{each:g} s" for each in PATIENCE)
    told = f"one every {duration(EVERY)}; they wait for an answer for {patience} in turn"
    transcript.line("calls", told)
    await stage.hear(stage.shop, "calling")
    pid = node.pid
    await in_thread(node.kill)
    killed_at = time.monotonic()
    transcript.line("kill -9", f"process {pid}, the broker")
    opens = asyncio.create_task(port_opens(node.port), name="the port opens")
    try:
        await node.astart()
        opened_at = await opens
    finally:
        opens.cancel()
    told = f"started again, process {node.pid}; its port is open"
    transcript.line("broker", told, opened_at - killed_at)
    report = await stage.hear(stage.shop, "outage", within=GIVE_UP + PATIENCE[-1] + 5)
    judge(transcript, report, killed_at=killed_at, opened_at=opened_at)
    stock = (await asked(stage, "stock")).get("answer", {})
    if stock.get("repeated"):
        transcript.line("", "the command of step 6 came again: the broker had forgotten its ack")
    transcript.same("the command was done once all the same", 12, stock.get("stock"))


async def stop(stage: Stage) -> None:
    """SIGTERM to everyone, the service in the middle of its work."""
    transcript, programs, node = stage.transcript, stage.programs, stage.node
    transcript.step("A clean stop")
    packing = await stage.hear(stage.orders, "packing")
    transcript.line("orders", f"packs for {packing['seconds']:g} s; SIGTERM comes in between")
    began = time.monotonic()
    statuses = {"orders": await programs.stop(stage.orders)}
    transcript.line(
        "orders", f"has ended, exit status {statuses['orders']}", time.monotonic() - began
    )
    told = await asked(stage, "stop")
    transcript.same("what it had in hand was finished first", "A-1001 is packed", outcome(told))
    for program in (stage.mail, stage.audit, stage.shop):
        began = time.monotonic()
        status = statuses[program.name] = await programs.stop(program)
        transcript.line(program.name, f"has ended, exit status {status}", time.monotonic() - began)
    transcript.same("all ended with exit status 0", dict.fromkeys(statuses, 0), statuses)
    broker, data = Path(f"/proc/{node.pid}"), node.data_dir
    began = time.monotonic()
    await in_thread(node.stop)
    transcript.line("broker", "is gone, with its data", time.monotonic() - began)
    left = [*programs.running(), *(str(each) for each in (broker, data) if each.exists())]
    transcript.same("nothing is left, no process and no folder", [], left)
