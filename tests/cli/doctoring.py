"""Break a deployment, see the finding, run the commands that it names, and look again."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from nuropb_rmq import TransportConfig
from nuropb_rmq.broker.provision import configure, configure_service_queue
from nuropb_rmq.cli import main
from nuropb_rmq.cli.subject import config_of
from nuropb_rmq.cli.verbs import At
from nuropb_rmq.doctor.checklist import CHECKS, Found, Report, examine
from nuropb_rmq.doctor.facts import Subject
from nuropb_rmq.doctor.finding import Level
from nuropb_rmq.testing import RabbitMQNode

from ..faults import console

SERVICE = "orders"
PROGRAM = "tests.cli.deployed:Orders"
QUEUE, DL_QUEUE = "nuropb-orders-sq", "nuropb-orders-dlq"
RPC, EVENTS, DEAD = "nuropb-rpc-exchange", "nuropb-events-exchange", "nuropb-dl-exchange"
BY_QUEUE = f"{DEAD}-by-queue"
LEVELS = {check.name for checks in CHECKS.values() for check in checks}


def found_by(report: Report, check: str) -> Found:
    """The finding of a check."""
    (found,) = (each for each in report.findings if each.check == check)
    return found


class Deployment:
    """A virtual host of a node, with a service in it, or a part of one.

    Commands find its address in the environment.
    """

    def __init__(self, node: RabbitMQNode, url: str) -> None:
        self.node = node
        self.url = url
        self.vhost = console.vhost_of(url)

    # -- making and breaking ----------------------------------------------------------------

    def config(self, target: str = PROGRAM) -> TransportConfig:
        """The settings of a target of the command."""
        return config_of(At(), target)

    async def make(self, target: str = PROGRAM) -> None:
        """Make all that the service needs."""
        config = self.config(target)
        await configure(config)
        await configure_service_queue(config)

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the management API; {vhost} is that of the deployment."""
        return await asyncio.to_thread(
            self.node.api, method, "/api/" + path.format(vhost=self.vhost), body
        )

    async def ctl(self, *words: str) -> str:
        """Run rabbitmqctl."""
        return await asyncio.to_thread(self.node.rabbitmqctl, *words)

    async def eval(self, erlang: str) -> None:
        """Run a piece of Erlang in the node."""
        await self.ctl("eval", erlang)

    async def declare(self, queue: str, **arguments: Any) -> None:
        """Declare a durable queue as somebody else does: x_max_length is x-max-length."""
        body = {"durable": True, "arguments": _hyphenated(arguments)}
        await self.api("PUT", f"queues/{{vhost}}/{queue}", body)

    async def policy(self, pattern: str, **definition: Any) -> None:
        """Set a policy for queues and exchanges: max_length is max-length."""
        body = {"pattern": pattern, "definition": _hyphenated(definition)}
        await self.api("PUT", "policies/{vhost}/of-a-test", body)

    async def user(self, name: str, password: str, tags: str = "") -> None:
        """Make a user who may do everything in the virtual host."""
        await self.api("PUT", f"users/{name}", {"password": password, "tags": tags})
        await asyncio.to_thread(console.permit, self.node, self.url, name)

    async def publish(self, queue: str, payload: str = "{}") -> None:
        """Put a message that is no message of ours into a queue."""
        body = {"routing_key": queue, "payload": payload, "payload_encoding": "string"}
        await self.api("POST", "exchanges/{vhost}/amq.default/publish", {**body, "properties": {}})

    async def unbind(self, source: str, queue: str, key: str, kind: str = "q") -> None:
        """Take out a binding; `key` is its properties_key."""
        await self.api("DELETE", f"bindings/{{vhost}}/e/{source}/{kind}/{queue}/{key}")

    # -- looking ----------------------------------------------------------------------------

    def subject(self, target: str = PROGRAM, *, api_url: str | None = None) -> Subject:
        """The deployment that doctor is asked to look at."""
        config = self.config(target)
        api_url = api_url or self.node.management_url.replace("//", "//guest:guest@")
        return Subject(config=config, target=target, declared=":" in target, api_url=api_url)

    async def look(self, target: str | Subject = PROGRAM) -> Report:
        """Run all checks."""
        return await examine(self.subject(target) if isinstance(target, str) else target)

    async def sees(
        self,
        check: str,
        target: str | Subject = PROGRAM,
        *,
        text: str = "",
        repaired_by: str | None = None,
    ) -> Found:
        """Look until a check has a finding: the broker's statistics come late.

        repaired_by: a part of its commands, of which there must be some.
        """
        assert check in LEVELS
        async with asyncio.timeout(20):
            while True:
                report = await self.look(target)
                for each in report.findings:
                    fix = "\n".join(each.finding.fix)
                    if each.check != check or text not in each.finding.text:
                        continue
                    if repaired_by is None or (fix and repaired_by in fix):
                        return each

    async def clean(self, check: str, target: str | Subject = PROGRAM) -> None:
        """Look until a check was made, and found nothing."""
        async with asyncio.timeout(20):
            while True:
                report = await self.look(target)
                if check in report.done and not [
                    each for each in report.findings if each.check == check
                ]:
                    return

    async def repair(self, found: Found) -> None:
        """Run the commands that a finding names."""
        assert found.finding.fix
        for command in found.finding.fix:
            program, *words = shlex.split(command)
            if program == "rabbitmqctl":
                await self.ctl(*words)
                continue
            assert program == "nuropb-rmq"
            assert await asyncio.to_thread(main, words) == 0, command

    async def broken(
        self,
        check: str,
        level: Level,
        target: str | Subject = PROGRAM,
        *,
        text: str = "",
        repaired_by: str = "",
    ) -> Found:
        """See a finding of this level, run its commands, and see that it is gone.

        repaired_by: a part of the command, which is wanted to be there.
        """
        found = await self.sees(check, target, text=text, repaired_by=repaired_by)
        assert found.finding.level is level
        await self.repair(found)
        await self.clean(check, target)
        return found


def _hyphenated(names: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in names.items()}
