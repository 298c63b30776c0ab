"""Tests of the log of a service: handlers that fail, and messages that are refused."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from nuropb_rmq import (
    Mesh,
    NuropbContextManager,
    NuropbException,
    NuropbRemoteError,
    NuropbValidationError,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.transport.repeats import SHOWN

from ..encrypting import private_key
from ..support import eventually
from .support import Meshes

SECRET = "hush-4711"


def deny(token: str) -> None:
    if token == "raise":
        raise LookupError(SECRET)


class NotInStockError(NuropbValidationError):
    """A refusal of the service's own."""


class Orders:
    _service_name = "orders"

    mesh: Mesh

    def __init__(self, key: rsa.RSAPrivateKey | None = None) -> None:
        self._private_key = key

    async def fail(self, text: str = SECRET) -> None:
        cause = LookupError(text)
        cause.add_note(text)
        raise KeyError(text) from cause

    def fail_in_thread(self) -> None:
        raise ValueError("in a thread")

    async def number(self, n: int) -> int:
        return n

    async def refuse(self, by: str = "") -> None:
        if by:
            raise NotInStockError("two are left")
        await self.mesh.request("orders", "number", {"n": "x"})

    @nuropb_context
    def fail_with_context(self, ctx: NuropbContextManager) -> None:
        raise ValueError(ctx.trace_id)

    @publish_to_mesh(authorize_func=deny)
    async def guarded(self) -> None:
        """Never runs."""

    @mesh_event("orders.made")
    async def made(self) -> None:
        raise ValueError("an event's")


class Log:
    """The records of this library at WARNING and above."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def records(self) -> list[logging.LogRecord]:
        return [
            each
            for each in self._caplog.records
            if each.name.startswith("nuropb_rmq") and each.levelno >= logging.WARNING
        ]

    def texts(self) -> list[str]:
        formatter = logging.Formatter("%(levelname)s %(message)s")
        return [formatter.format(each) for each in self.records()]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


async def fails(call: Any) -> None:
    with pytest.raises(NuropbException):
        await call


async def test_a_failure_has_its_method_ids_and_traceback(meshes: Meshes, log: Log) -> None:
    await meshes.serve(Orders(), instance_id="7")
    client = await meshes.client()
    await fails(client.request("orders", "fail", {"text": "no such order"}, trace_id="t-1"))
    (text,) = log.texts()
    first, *rest = text.splitlines()
    assert first.startswith("ERROR orders.fail failed with KeyError (request ")
    assert first.endswith(", trace t-1, instance 7)")
    assert rest[0] == "LookupError: no such order"
    assert "KeyError: 'no such order'" in rest
    assert any("in fail" in each for each in rest), "the line that raised"
    assert log.records()[0].exc_info is not None
    await fails(client.request("orders", "fail_in_thread"))
    assert "ERROR orders.fail_in_thread failed with ValueError" in log.texts()[-1]
    await client.publish_event("orders.made", {})
    await eventually(lambda: len(log.texts()) == 3)
    assert log.texts()[-1].startswith(
        "ERROR orders: event orders.made failed with ValueError (even"
    )


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("method", ["fail", "fail_in_thread", "fail_with_context", "refuse"])
async def test_a_traceback_begins_at_the_handler(
    meshes: Meshes, log: Log, method: str, texts: bool
) -> None:
    service = Orders()
    await meshes.serve(service, log_error_text=texts)
    service.mesh = client = await meshes.client()
    await fails(client.request("orders", method))
    tracebacks = log.texts()[-1].split("ERROR orders.")[1].split("\n\n")
    files = [re.findall(r'File "([^"]+)"', each) for each in tracebacks]
    assert [each[0] for each in files if each] == [__file__]
    # Below the handler, the frames of the library say where it has failed.
    assert (len(files[-1]) == 1) is (method != "refuse")


@pytest.mark.parametrize("encrypted", [False, True], ids=["turned off", "encrypted"])
async def test_texts_are_left_out(meshes: Meshes, log: Log, encrypted: bool) -> None:
    await meshes.serve(Orders(private_key("orders")), log_error_text=encrypted)
    client = await meshes.client()
    await fails(client.request("orders", "fail", encrypted=encrypted))
    await fails(client.request("orders", "number", {"n": SECRET}, encrypted=encrypted))
    failure, refusal = log.texts()
    assert failure.splitlines()[0].startswith("ERROR orders.fail failed with KeyError")
    assert any("in fail" in each for each in failure.splitlines())
    assert refusal.startswith("WARNING orders.number refused: NuropbValidationError (request")
    assert SECRET not in failure + refusal
    assert all(each.exc_info is None for each in log.records())


async def test_the_sender_s_mistakes_are_a_line_each(meshes: Meshes, log: Log) -> None:
    await meshes.serve(Orders())
    client = await meshes.client()
    await fails(client.request("orders", "number", {"n": "x"}))
    await fails(client.request("orders", "nu\nmber"))
    await fails(client.request("orders", "guarded"))
    await fails(client.request("orders", "guarded", context={"Authorization": "no"}))
    with pytest.raises(NuropbRemoteError):
        await client.request("orders", "guarded", context={"Authorization": "raise"})
    texts = log.texts()
    assert [each.splitlines() for each in texts] == [[each] for each in texts], "one line each"
    assert all(each.startswith("WARNING orders.") for each in texts)
    told = [each.split(" (request")[0].removeprefix("WARNING orders.") for each in texts]
    assert told[0].startswith("number refused: NuropbValidationError: params.n: ")
    assert told[1].startswith("nu\\nmber refused: NuropbHandlingError: Unknown method")
    assert told[2] == (
        "guarded refused: NuropbAuthorizationError: context['Authorization'] is missing: the token"
    )
    assert told[3] == (
        "guarded refused: NuropbAuthorizationError: authorize_func has refused this token"
    )
    assert told[4].startswith("guarded refused: LookupError, raised by authorize_func at ")
    assert SECRET not in "".join(texts)


async def test_a_handler_s_refusal_is_a_line_each(meshes: Meshes, log: Log) -> None:
    service = Orders()
    await meshes.serve(service)
    service.mesh = client = await meshes.client()
    await fails(client.request("orders", "refuse", {"by": "me"}))
    (own,) = log.texts()
    said = "WARNING orders.refuse refused: NotInStockError: two are left, raised by the handler at "
    assert own.startswith(f"{said}{__file__}:")
    assert own.count("\n") == 0
    await fails(client.request("orders", "refuse"))
    _, cause, passed_on = log.texts()
    assert cause.startswith("WARNING orders.number refused: NuropbValidationError: params.n: ")
    assert passed_on.startswith("ERROR orders.refuse failed with RemoteValidationError (request ")
    assert "in refuse" in passed_on


async def test_many_alike_are_summed_up(meshes: Meshes, log: Log) -> None:
    service = await meshes.serve(Orders())
    client = await meshes.client()
    for _ in range(SHOWN + 5):
        await fails(client.request("orders", "nothing"))
    await fails(client.request("orders", "number", {"n": "x"}))
    assert len(log.texts()) == SHOWN + 1, "others are shown"
    await service.stop()
    assert log.texts()[-1] == (
        "WARNING orders.nothing refused: NuropbHandlingError: 5 more like these"
    )
