"""doctor with a user of the management API who sees a part: it says which, and promises nothing."""

from __future__ import annotations

import dataclasses
import json

from nuropb_rmq import Mesh
from nuropb_rmq.doctor.checklist import examine
from nuropb_rmq.doctor.facts import Subject
from nuropb_rmq.doctor.finding import Level

from ..faults.ear import with_credentials
from ..pages.support import page
from ..pages.test_operations import commands
from .command import ran
from .deployed import Orders
from .doctoring import DL_QUEUE, EVENTS, PROGRAM, QUEUE, SERVICE, Deployment, found_by
from .test_doctor_broker import serving

SECRET = "a-s3cret"
HIDDEN = "queues, exchanges, bindings, consumers, connections, policies, operator policies, limits"


def watched_by(deployed: Deployment, name: str, target: str = PROGRAM) -> Subject:
    """The deployment, as this user of the management API sees it."""
    url = with_credentials(deployed.node.management_url, name, SECRET)
    return deployed.subject(target, api_url=url)


async def test_no_access_to_the_virtual_host(deployed: Deployment) -> None:
    """Tags are there: only permissions are missing, and the commands of it are enough."""
    name = f"watch-{deployed.vhost}"
    await deployed.ctl("add_user", name, SECRET)
    await deployed.ctl("set_user_tags", name, "monitoring", "policymaker")
    await deployed.unbind(EVENTS, QUEUE, "shop.%2A")
    subject = watched_by(deployed, name)
    assert subject.api_url is not None
    async with serving(deployed):
        status, out, err = await ran(
            "doctor", PROGRAM, "--management-url", subject.api_url, url=deployed.url
        )
        assert (status, err) == (3, ""), out
        assert "Nothing is wrong" not in out
        report = await examine(subject)
        found = found_by(report, "unseen").finding
        assert found.level is Level.WARNING
        assert f"may not see its {HIDDEN}." in found.text
        assert found.fix == (
            f"rabbitmqctl set_permissions -p {deployed.vhost} {name} '^$' '^$' '^$'",
        )
        assert out.splitlines()[-1].endswith(f"left out. First: {found.fix[0]}")
        assert "\nLeft out: " in out
        # It sees nodes, and has the tags for all that the virtual host holds.
        assert "alarm-memory" in report.done
        assert not [each for each in report.findings if "monitoring" in each.finding.text]
        await deployed.broken("unseen", Level.WARNING, subject, repaired_by="'^$' '^$' '^$'")
        left_out = set((await examine(subject)).left_out)
        assert left_out <= {"feature-flags", "default-queue-type"}
    await deployed.api("DELETE", f"users/{name}")


async def test_the_last_line_says_what_to_do(deployed: Deployment) -> None:
    """A service that is named by its name has no program that could be started."""
    arguments = ("doctor", SERVICE, "--management-url", deployed.node.management_url)
    status, out, _ = await ran(*arguments, url=deployed.url)
    assert status == 3
    start = "Start an instance: nuropb-rmq serve MODULE:CLASS."
    assert out.splitlines()[-1] == f"1 error. First: consumers: {start}"


async def test_what_is_left_out_is_named(deployed: Deployment) -> None:
    """Letters that this user may not read, and why."""
    name = f"orders-{deployed.vhost}"
    await deployed.ctl("add_user", name, SECRET)
    await deployed.ctl(
        "set_permissions", "-p", deployed.vhost, name, ".*", ".*", f"^(?!{DL_QUEUE}$)"
    )
    await deployed.publish(DL_QUEUE)
    url = with_credentials(deployed.url, name, SECRET)
    watch = deployed.node.management_url.replace("//", "//guest:guest@")
    async with serving(deployed):
        status, out, _ = await ran("doctor", PROGRAM, "--management-url", watch, url=url)
        _, told, _ = await ran("doctor", PROGRAM, "--json", "--management-url", watch, url=url)
    assert status == 3, out
    line, last = out.splitlines()[-2:]
    assert line.startswith("Left out: dlq-foreign; not seen: dead letters (")
    assert f"access to queue '{DL_QUEUE}'" in line
    assert last == f"1 warning, 1 check left out. First: nuropb-rmq dlq groups {SERVICE}"
    document = json.loads(told)
    assert document["left_out"] == {"dlq-foreign": "letters"}
    assert DL_QUEUE in document["unseen"]["letters"]
    await deployed.api("DELETE", f"users/{name}")


async def test_the_page_of_permissions(deployed: Deployment) -> None:
    """Its users are made as it says; its commands then find nothing, and see all."""
    text = page("operations/permissions.md")
    users = {"orders": f"orders-{deployed.vhost}", "shop": f"shop-{deployed.vhost}"}
    users["watch"] = f"watch-{deployed.vhost}"
    for words in commands(text):
        if words[1] == "add_user":
            await deployed.ctl("add_user", users[words[2]], SECRET)
    await deployed.ctl("add_user", users["shop"], SECRET)
    for words in commands(text):
        known = [each for each in words if each in users]
        if words[0] == "rabbitmqctl" and words[1].startswith("set_") and known:
            replaced = {**users, "VHOST": deployed.vhost}
            await deployed.ctl(*(replaced.get(each, each) for each in words[1:]))
    url = with_credentials(deployed.url, users["orders"], SECRET)
    config = dataclasses.replace(deployed.config(), amqp_url=url)
    checks = [words for words in commands(text) if words[:2] == ["nuropb-rmq", "doctor"]]
    assert len(checks) == 2
    async with Mesh(config, service=Orders(), configure=False):
        for words in checks:
            arguments = [PROGRAM if each == "orders:Orders" else each for each in words[1:]]
            user = "shop" if "--client" in arguments else "orders"
            at = arguments.index("--url") + 1
            assert arguments[at].startswith(f"amqps://{user}:")
            arguments[at] = with_credentials(deployed.url, users[user], SECRET)
            at = arguments.index("--management-url") + 1
            assert arguments[at].startswith("https://watch:")
            arguments[at] = with_credentials(deployed.node.management_url, users["watch"], SECRET)
            status, out, err = await ran(*arguments)
            assert (status, err) == (0, ""), out
            assert "warning" not in out
            lines = [each for each in out.splitlines() if each.startswith("Left out: ")]
            hidden = {each.removeprefix("Left out: ").partition(";")[0] for each in lines}
            flags = {"feature-flags"} if deployed.node.version.startswith("3.") else set()
            assert hidden == {"default-queue-type", *flags}, out
    for name in users.values():
        await deployed.api("DELETE", f"users/{name}")
