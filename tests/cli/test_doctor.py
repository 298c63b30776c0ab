"""The verb `doctor`: what it prints for people and programs, and its exit status."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from nuropb_rmq.cli import main

from .command import ROOT, environment, ran
from .doctoring import PROGRAM, Deployment
from .test_doctor_broker import serving

NARROW = """\
Way to the broker
  error reach: 127.0.0.1:1 accepts no connection (connection
  refused): does RabbitMQ run there, on this port?
Left out: permissions-client, permissions-service, version, erlang, cluster and 41 more; \
not seen: login, overview, nodes, limits, defaults of the virtual host, feature flags, \
deprecated, exchanges, policies, queues, consumers, connections, bindings, dead letters.
1 error, 46 checks left out. First: reach: 127.0.0.1:1 accepts no connection (connection \
refused): does RabbitMQ run there, on this port?
"""
NO_EXCHANGES = """\
Exchanges
  error exchange-missing: Exchanges are missing in
  '{vhost}': nuropb-rpc-exchange,
  nuropb-events-exchange, nuropb-dl-exchange. Services do
  not start, calls fail.
    $ nuropb-rmq configure
1 error. First: nuropb-rmq configure
"""


async def narrow(*arguments: str, url: str = "", columns: int = 60) -> tuple[int, str, str]:
    """Run the command in a narrow window."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nuropb_rmq", *arguments),
        env={**environment(url), "COLUMNS": str(columns)},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def trimmed(text: str) -> str:
    """Without the spaces that fill lines."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


async def test_no_broker() -> None:
    status, out, err = await narrow("doctor", "orders", url="amqp://o:s3cret@127.0.0.1:1/")
    assert (status, trimmed(out), err) == (3, NARROW, "")


async def test_nothing_was_made(deployment: Deployment) -> None:
    """Sixty columns are enough, and a command is one line."""
    arguments = ("doctor", "--management-url", deployment.node.management_url)
    status, out, err = await narrow(*arguments, url=deployment.url)
    found = trimmed(out)
    found = found[found.index("Exchanges") :]  # notes are about the version
    assert (status, found, err) == (3, NO_EXCHANGES.format(vhost=deployment.vhost), "")


async def test_all_is_well(deployed: Deployment) -> None:
    arguments = ("doctor", PROGRAM, "--management-url", deployed.node.management_url)
    async with serving(deployed):
        status, out, err = await narrow(*arguments, url=deployed.url, columns=80)
        assert (status, err) == (0, ""), out
        assert "Nothing is wrong: " in out.splitlines()[-1]
        assert "error" not in out
        assert "warning" not in out
        # A line of a command is not broken, so that it can be copied.
        assert any(line.startswith("    $ rabbitmqctl set_policy") for line in out.splitlines())
    status, out, _ = await narrow(*arguments, url=deployed.url)
    assert status == 3
    assert out.splitlines()[-1] == f"1 error. First: nuropb-rmq serve {PROGRAM}"


async def test_json(deployment: Deployment) -> None:
    arguments = ("doctor", "--json", "--management-url", deployment.node.management_url)
    status, out, err = await ran(*arguments, url=deployment.url)
    assert (status, err) == (3, "")
    told = json.loads(out)
    (found,) = (each for each in told["findings"] if each["level"] == "error")
    assert found["check"] == told["first"] == "exchange-missing"
    assert found["area"] == "Exchanges"
    assert found["fix"] == ["nuropb-rmq configure"]
    assert told["left_out"] == {}
    assert "reach" in told["done"]
    assert "guest:guest" not in out


async def test_the_url_of_an_option_is_not_that_of_the_commands(deployment: Deployment) -> None:
    arguments = (
        "doctor",
        "--url",
        deployment.url,
        "--management-url",
        deployment.node.management_url,
    )
    _, out, _ = await narrow(*arguments)
    assert "The commands above take the broker from NUROPB_RMQ_URL." in out


@pytest.mark.parametrize(
    ("arguments", "url", "text"),
    [
        (["doctor"], "", "--url is missing"),
        (["doctor"], "http://localhost/", "amqp_url"),
        (["doctor"], "memory://shop", "there is nothing to look at"),
        (["doctor", "nowhere:Orders"], "amqp://localhost/", "there is no module 'nowhere'"),
        (["doctor", "--client"], "amqp://localhost/", "--client: name the client"),
        (["configure", "a:b", "--queue-type", "quorum"], "amqp://localhost/", "no module 'a'"),
        (["configure", "--queue-type", "quorum"], "amqp://localhost/", "for a SERVICE"),
        (["configure", "orders", "--queue-type", "odd"], "amqp://localhost/", "classic or quorum"),
        (["configure", "orders", "--retry-delays", "1,x"], "amqp://localhost/", "expected seconds"),
        (["configure", "orders", "--retry-delays", "-1"], "amqp://localhost/", "retry_delays"),
        (["configure", "orders", "--event-binding", "a"], "amqp://localhost/", "--queue-type, too"),
        (["configure", "orders", "--unbind", "x:y"], "amqp://localhost/", "--unbind: expected"),
        (["configure", "orders"], "memory://shop", "there is nothing to look at"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    url: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NUROPB_RMQ_URL", url)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1
