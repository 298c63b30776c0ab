"""doctor looks at the way to the broker: each fault is made, seen, repaired, and gone."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuropb_rmq import Mesh, NuropbConfigurationError, TransportConfig
from nuropb_rmq.doctor.checklist import Report, examine
from nuropb_rmq.doctor.facts import Subject
from nuropb_rmq.doctor.finding import Level
from nuropb_rmq.testing import RabbitMQNode, TLSFiles

from ..certificates import CertificatePaths, make_ca_and_cert
from ..faults import console
from ..faults.ear import with_credentials
from .deployed import Orders
from .doctoring import EVENTS, PROGRAM, QUEUE, RPC, Deployment, found_by

SECRET = "a-s3cret"


def client_at(url: str) -> Subject:
    """A client at an address of which nothing is known."""
    config = TransportConfig(amqp_url=url, service_name="shop", client_only=True, connect_timeout=6)
    return Subject(config=config, target="shop")


def bad(report: Report) -> list[str]:
    """The checks that find errors or warnings."""
    return [each.check for each in report.findings if each.finding.level is not Level.NOTE]


def of_user(subject: Subject, url: str, name: str) -> Subject:
    """The same for another user."""
    url = with_credentials(url, name, SECRET)
    return dataclasses.replace(subject, config=dataclasses.replace(subject.config, amqp_url=url))


# -- network --------------------------------------------------------------------------------


async def test_a_name_without_address() -> None:
    report = await examine(client_at(f"amqp://guest:{SECRET}@broker.invalid/"))
    assert bad(report) == ["resolve", "plain-text", "guest"]
    assert report.first is not None
    assert report.first.check == "resolve"
    assert SECRET not in repr(report)


async def test_nobody_listens() -> None:
    report = await examine(client_at("amqp://shop:s@127.0.0.1:1/"))
    assert bad(report) == ["reach"]
    assert found_by(report, "reach").finding.level is Level.ERROR


async def test_one_of_two_hosts_works(deployed: Deployment) -> None:
    config = deployed.config("")
    hosts = ["amqp://guest:guest@127.0.0.1:1/%2F", deployed.node.amqp_url]
    config = dataclasses.replace(config, amqp_url=hosts)
    report = await examine(Subject(config=config))
    assert found_by(report, "reach").finding.level is Level.WARNING
    assert "version" in report.done


# -- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificatePaths:
    """Those of a broker whose days are counted."""
    return make_ca_and_cert(tmp_path_factory.mktemp("tls"), days=5.5)


@pytest.fixture(scope="module")
def tls_node(certificates: CertificatePaths) -> Iterator[RabbitMQNode]:
    """A node with TLS, of an old version."""
    files = TLSFiles(certificates.cafile, certificates.certfile, certificates.keyfile)
    with RabbitMQNode(tls=files, extra_config="ssl_options.versions.1 = tlsv1.2") as node:
        yield node


async def test_tls(tls_node: RabbitMQNode, certificates: CertificatePaths, tmp_path: Path) -> None:
    url = f"{tls_node.amqps_url}?cafile={certificates.cafile}"
    report = await examine(client_at(url))
    assert "in 5 days" in found_by(report, "tls-expiry").finding.text
    assert "speaks TLSv1.2" in found_by(report, "tls-version").finding.text
    assert {"tls-trust", "tls-verify", "login"} <= set(report.done)

    another = make_ca_and_cert(tmp_path / "another")
    report = await examine(client_at(f"{tls_node.amqps_url}?cafile={another.cafile}"))
    assert bad(report) == ["tls-trust"]
    assert "is not trusted here: check cafile" in found_by(report, "tls-trust").finding.text
    assert "is for localhost, 127.0.0.1" in found_by(report, "tls-trust").finding.text

    report = await examine(client_at(f"{tls_node.amqps_url}?verify=false"))
    assert "tls-verify" in bad(report)

    with pytest.raises(NuropbConfigurationError, match="cafile"):
        await examine(client_at(f"{tls_node.amqps_url}?cafile={tmp_path}/none.pem"))


async def test_a_certificate_of_another_host(
    tls_node: RabbitMQNode, certificates: CertificatePaths
) -> None:
    url = tls_node.amqps_url.replace("localhost", "ip6-localhost.localhost")
    report = await examine(client_at(f"{url}?cafile={certificates.cafile}"))
    assert bad(report) in (["tls-trust"], ["resolve"])


async def test_tls_at_the_plain_port(deployment: Deployment) -> None:
    port = deployment.node.port
    report = await examine(client_at(f"amqps://guest:guest@localhost:{port}/"))
    assert "is this the port for plain AMQP?" in found_by(report, "tls-trust").finding.text


# -- login ----------------------------------------------------------------------------------


async def test_a_wrong_password(deployment: Deployment) -> None:
    name = f"shop-{deployment.vhost}"
    await deployment.user(name, SECRET)
    report = await examine(client_at(with_credentials(deployment.url, name, "wr0ng")))
    found = found_by(report, "login")
    assert found.finding.level is Level.ERROR
    assert f"'{name}'" in found.finding.text
    assert found.finding.fix == (f"rabbitmqctl authenticate_user {name}",)
    assert "wr0ng" not in repr(report)
    await deployment.clean("login", client_at(with_credentials(deployment.url, name, SECRET)))
    await deployment.api("DELETE", f"users/{name}")


async def test_no_virtual_host(deployment: Deployment) -> None:
    subject = client_at(f"{deployment.url}-other")
    found = await deployment.sees("vhost", subject)
    await deployment.repair(found)
    await deployment.repair(await deployment.sees("vhost-access", subject))
    await deployment.clean("vhost", subject)
    await deployment.api("DELETE", f"vhosts/{deployment.vhost}-other")


async def test_a_virtual_host_that_a_user_may_not_enter(deployment: Deployment) -> None:
    name = f"shop-{deployment.vhost}"
    await deployment.user(name, SECRET)
    await deployment.api("DELETE", f"permissions/{{vhost}}/{name}")
    subject = client_at(with_credentials(deployment.url, name, SECRET))
    await deployment.broken("vhost-access", Level.ERROR, subject, repaired_by="set_permissions")
    await deployment.clean("permissions-client", subject)
    await deployment.api("DELETE", f"users/{name}")


async def test_no_more_connections(deployment: Deployment) -> None:
    limits = '{"max-connections": 0, "max-queues": 100}'
    await deployment.ctl("set_vhost_limits", "-p", deployment.vhost, limits)
    by_client = await deployment.sees("connection-limit", client_at(deployment.url))
    assert by_client.finding.fix == ()  # other limits, which would be lost, are not seen
    await deployment.broken("connection-limit", Level.ERROR, repaired_by="set_vhost_limits")
    (told,) = await deployment.api("GET", "vhost-limits/{vhost}")
    assert told["value"] == {"max-connections": -1, "max-queues": 100}


async def test_no_more_connections_of_a_node(deployment: Deployment) -> None:
    if deployment.node.version.startswith("3."):  # which has no such limit
        await deployment.clean("connection-limit")
        return
    await deployment.eval("application:set_env(rabbit, connection_max, 0).")
    try:
        found = await deployment.sees("connection-limit", text="raise connection_max")
    finally:
        await deployment.eval("application:set_env(rabbit, connection_max, infinity).")
    assert (found.finding.level, found.finding.fix) == (Level.ERROR, ())
    await deployment.clean("connection-limit")


async def test_no_more_connections_of_a_user(deployment: Deployment) -> None:
    name = f"shop-{deployment.vhost}"
    await deployment.user(name, SECRET)
    await deployment.ctl("set_user_limits", name, '{"max-connections": 0, "max-channels": 9}')
    subject = client_at(with_credentials(deployment.url, name, SECRET))
    await deployment.broken("connection-limit", Level.ERROR, subject, repaired_by="clear_user_")
    assert "max-channels" in await deployment.ctl("list_user_limits", "--user", name)
    await deployment.api("DELETE", f"users/{name}")


# -- permissions ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [PROGRAM, "shop"], ids=["service", "client"])
async def test_a_user_without_permissions(deployed: Deployment, target: str) -> None:
    """Those that are proposed are enough, and asking leaves nothing behind."""
    name = f"orders-{deployed.vhost}"
    await deployed.user(name, SECRET)
    asked = deployed.subject(target)
    if target == "shop":
        asked = dataclasses.replace(
            asked, config=dataclasses.replace(asked.config, client_only=True)
        )
    subject = of_user(asked, deployed.url, name)
    await asyncio.to_thread(console.permit, deployed.node, deployed.url, name, "^$", "^$", "^$")
    check = "permissions-client" if target == "shop" else "permissions-service"
    before = await deployed.api("GET", "queues/{vhost}?disable_stats=true")
    found = await deployed.broken(check, Level.ERROR, subject, repaired_by="set_permissions")
    assert f"write exchange '{RPC if target == 'shop' else 'amq.default'}'" in found.finding.text
    await deployed.clean("permissions-client", subject)
    after = await deployed.api("GET", "queues/{vhost}?disable_stats=true")
    assert [each["name"] for each in before] == [each["name"] for each in after]
    assert await deployed.api("GET", "consumers/{vhost}") == []
    if target == PROGRAM:
        async with Mesh(subject.config, service=Orders(), configure=False) as mesh:
            assert await mesh.request("orders", "get", {"number": 1}) == 1
    await deployed.api("DELETE", f"users/{name}")


async def test_nobody_is_named(deployed: Deployment) -> None:
    """Then it is not known what the user is for: nothing is proposed that replaces permissions."""
    name = f"orders-{deployed.vhost}"
    await deployed.user(name, SECRET)
    subject = of_user(deployed.subject(""), deployed.url, name)
    await asyncio.to_thread(console.permit, deployed.node, deployed.url, name, "^$", "^$", "^$")
    report = await examine(subject)
    assert not [each for each in report.done if each.startswith("permissions-client")]
    await deployed.api("DELETE", f"permissions/{{vhost}}/{name}")
    closed = await examine(subject)
    assert found_by(closed, "vhost-access").finding.level is Level.ERROR
    for each in (*report.findings, *closed.findings):
        assert not [fix for fix in each.finding.fix if "set_permissions" in fix]
    await deployed.api("DELETE", f"users/{name}")


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_one_permission_is_missing(deployment: Deployment, kind: str) -> None:
    """Each is asked for alone; messages stay, and count as never delivered."""
    await deployment.make(PROGRAM if kind == "classic" else "tests.cli.deployed:quorum")
    await deployment.publish(QUEUE)
    for permitted, told in (
        (("^$", ".*", ".*"), f"configure queue '{QUEUE}'"),
        ((".*", f"^({QUEUE}|nuropb-.*-exchange)$", ".*"), "write exchange 'amq.default'"),
        ((".*", "^(nuropb-.*-exchange|amq.default)$", ".*"), f"write queue '{QUEUE}'"),
        ((".*", ".*", f"^({QUEUE}|nuropb-rpc-exchange)$"), f"read exchange '{EVENTS}'"),
        ((".*", ".*", "^nuropb-.*-exchange$"), f"read queue '{QUEUE}'"),
    ):
        await asyncio.to_thread(
            console.permit, deployment.node, deployment.url, "guest", *permitted
        )
        found = await deployment.sees("permissions-service")
        assert told in found.finding.text
    await asyncio.to_thread(console.permit, deployment.node, deployment.url, "guest")
    await deployment.clean("permissions-service")
    (message,) = await deployment.api(
        "POST",
        f"queues/{{vhost}}/{QUEUE}/get",
        {"count": 9, "ackmode": "ack_requeue_false", "encoding": "auto"},
    )
    assert message["redelivered"] is False


# -- the management API ---------------------------------------------------------------------


async def test_no_management_api(deployed: Deployment) -> None:
    report = await examine(deployed.subject(api_url="http://127.0.0.1:1"))
    found = found_by(report, "management")
    assert found.finding.level is Level.WARNING
    assert found.finding.fix == ("rabbitmq-plugins enable rabbitmq_management",)
    assert len(report.left_out) > 20
    assert "permissions-service" in report.done


async def test_another_user_of_the_management_api(deployed: Deployment) -> None:
    """It is the one who is told of, not the user of the login; and tags mend no wrong password."""
    name = f"watch-{deployed.vhost}"
    await deployed.user(name, SECRET)
    api_url = with_credentials(deployed.node.management_url, name, "wr0ng")
    report = await examine(deployed.subject(api_url=api_url))
    found = found_by(report, "management").finding
    assert f"tells user '{name}' nothing" in found.text
    assert "password" in found.text
    assert found.fix == ()
    assert "wr0ng" not in repr(report)
    subject = deployed.subject(api_url=with_credentials(deployed.node.management_url, name, SECRET))
    await deployed.broken("management", Level.WARNING, subject, repaired_by=f"tags {name} mon")
    await deployed.api("DELETE", f"users/{name}")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("404 Not Found", "expected an object at /api/whoami, got 404 Not Found"),
        ("200 OK", "expected an object at /api/vhosts, got list"),
    ],
)
async def test_something_else_answers(deployed: Deployment, answer: str, text: str) -> None:
    """Nothing is taken for missing because that does not know it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = "{}" if b"/whoami" in head or b"/overview" in head else "[]"
        writer.write(
            f"HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        report = await examine(deployed.subject(api_url=f"http://127.0.0.1:{port}"))
    assert bad(report) == ["management"]
    found = found_by(report, "management")
    assert text in found.finding.text
    assert "is this RabbitMQ's management API?" in found.finding.text
    assert {"queue-missing", "exchange-missing"} <= set(report.left_out)


async def test_a_user_without_tags(deployed: Deployment) -> None:
    """A service has none: another user is proposed, not tags for it."""
    name = f"orders-{deployed.vhost}"
    await deployed.user(name, SECRET)
    subject = of_user(deployed.subject(api_url=deployed.node.management_url), deployed.url, name)
    report = await examine(subject)
    assert {"queue-missing", "alarm-memory"} <= set(report.left_out)
    found = found_by(report, "management")
    assert (found.finding.level, found.finding.fix) == (Level.WARNING, ())
    assert "--management-url https://USER:PASSWORD@HOST:PORT" in found.finding.do
    await deployed.user(name, SECRET, "management")
    found = await deployed.sees("tags", subject, text="may not see nodes, connections")
    assert found.finding.fix == ()
    assert "Users of services and clients need no tag." in found.finding.text
    await deployed.api("DELETE", f"users/{name}")


async def test_a_user_without_tags_of_the_management_api(deployed: Deployment) -> None:
    """It is told nothing; then what is its own; then all but what administrators may see."""
    name = f"watch-{deployed.vhost}"
    await deployed.user(name, SECRET)
    subject = deployed.subject(api_url=with_credentials(deployed.node.management_url, name, SECRET))
    await deployed.broken("management", Level.WARNING, subject, repaired_by="set_user_tags")
    assert {"queue-missing", "alarm-memory", "queue-lifetime"} <= set((await examine(subject)).done)
    await deployed.user(name, SECRET, "management")
    found = await deployed.sees("tags", subject, text="may not see nodes")
    assert found.finding.level is Level.NOTE
    assert "queue-missing" in (await examine(subject)).done
    await deployed.repair(found)
    await deployed.clean("alarm-memory", subject)
    await deployed.clean("queue-lifetime", subject)
    await deployed.api("DELETE", f"users/{name}")
