"""A throwaway RabbitMQ in the foreground: what `broker` does."""

from __future__ import annotations

import asyncio
import shlex
import signal
from pathlib import Path
from typing import Final

from nuropb_rmq.testing import BrokerError, RabbitMQNode

from .conventions import FAILED, MANAGEMENT_VARIABLE, NEWER, URL_VARIABLE, CommandError
from .output import Output

_CONTROL: Final = "rabbitmqctl"
"""The script in the node's folder, which the node has made."""


def run(port: int | None, version: str | None, *, json: bool) -> int:
    """Run it until a signal; return the exit status. Raises CommandError."""
    return asyncio.run(_run(port, version, Output(json=json)))


async def _run(port: int | None, version: str | None, out: Output) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    node = RabbitMQNode(server_root=_root(version), port=port)
    out.note("starting, which takes some 5 s …", style="dim")
    starting = asyncio.ensure_future(node.astart())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()  # which leaves nothing behind
        await asyncio.wait([starting])
        return 0
    try:
        starting.result()
    except BrokerError as e:
        stopping.cancel()
        raise CommandError(str(e), FAILED) from e
    try:
        _print(out, node)
        await stopping
    finally:
        await asyncio.to_thread(node.stop)
    return 0


def _print(out: Output, node: RabbitMQNode) -> None:
    if out.json:
        urls = {"url": node.amqp_url, "management_url": node.management_url}
        command = str(node.data_dir / _CONTROL)
        out.data({"version": node.version, **urls, "rabbitmqctl": command, "pid": node.pid})
        return
    out.line(f"RabbitMQ {node.version}; Ctrl-C ends it. In another terminal:")
    out.line()
    out.line(f"export {URL_VARIABLE}={node.amqp_url}")
    out.line(f"export {MANAGEMENT_VARIABLE}={node.management_url}")
    out.line(f"alias rabbitmqctl={_for_alias(node)}")


def _for_alias(node: RabbitMQNode) -> str:
    """Return the node's rabbitmqctl, quoted twice: a shell reads the value of an alias again."""
    return shlex.quote(shlex.quote(str(node.data_dir / _CONTROL)))


def _root(version: str | None) -> Path | None:
    root = Path.home() / ".cache" / "nuropb-rmq" / f"broker-{NEWER}"
    if version is None:
        return None
    if version != NEWER:
        raise CommandError(f"--version: expected {NEWER}, got {version!r}")
    if not root.is_dir():
        raise CommandError(f"--version: {NEWER} is not there: run scripts/broker-{NEWER} first")
    return root
