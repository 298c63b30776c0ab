"""Row 31: no payload, password or key in any log record or repr, whatever becomes of a call.

Every logger is listened to, those of the libraries beneath us too: what is secret must not pass
through them. tests/faults/test_row_31_secrets_of_connections.py does the same for connections.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from nuropb_rmq import (
    Completion,
    Encryptor,
    Message,
    NuropbCallAgain,
    NuropbException,
    NuropbHandlingError,
    NuropbSuccess,
    NuropbValidationError,
    Outcome,
    State,
    configure,
)
from nuropb_rmq.testing import RabbitMQNode

from ..encrypting import DL_QUEUE, TAP_QUEUE, Pair, Tap, calling, private_key, serving, tapping
from ..support import Transports, Watch, command, event, eventually, request
from .ear import Ear, basic, with_credentials
from .proxy import Proxy
from .test_row_17_to_20_broken_messages import GOOD_TABLE, entry, publish_raw

USER = "robin"
PASSWORD = "p@ss/wörd:%41 of robin"  # every character that has a meaning in a URL
PARAMS = "in-the-params-7101"
CONTEXT = "in-the-context-7102"
RESULT = "in-the-result-7103"
EVENT = "in-the-event-7104"
ERROR = "in-an-error-7105"
CAUSE = "in-its-cause-7106"
HEADER = "in-a-header-7107"
BODY = "in-a-broken-body-7108"
OBJECT = "in-an-object-7109"
SECRETS = (PASSWORD, PARAMS, CONTEXT, RESULT, EVENT, ERROR, CAUSE, HEADER, BODY, OBJECT)


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Hears everything during the test; afterwards, that nothing of it was secret."""
    with Ear((*SECRETS, basic(USER, PASSWORD))) as made:
        yield made
    assert made.records["nuropb_rmq"], "nothing was heard of ours: nothing was tried"
    assert made.heard == []


@pytest.fixture
async def secret_mesh(
    mesh_url: str, rabbitmq_node: RabbitMQNode, ear: Ear
) -> AsyncIterator[Transports]:
    """A mesh whose user's password is worth keeping."""
    vhost = mesh_url.rsplit("/", 1)[1]
    user = {"password": PASSWORD, "tags": "administrator"}
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    await asyncio.to_thread(rabbitmq_node.api, "PUT", f"/api/users/{USER}", user)
    await asyncio.to_thread(
        rabbitmq_node.api, "PUT", f"/api/permissions/{vhost}/{USER}", everything
    )
    made = Transports(with_credentials(mesh_url, USER, PASSWORD))
    await configure(made.config("orders"))
    yield made
    await made.stop()
    await asyncio.to_thread(rabbitmq_node.api, "DELETE", f"/api/users/{USER}")


class Unprintable:
    """Its str() fails, and says too much."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error(OBJECT)

    __repr__ = __str__


class OddMapping(Mapping[str, Any]):
    """A payload that falls apart while it is read."""

    def __getitem__(self, name: str) -> Any:
        raise LookupError(OBJECT)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError(OBJECT)

    def __len__(self) -> int:
        return 1


@dataclass
class Answer:
    """A dataclass as a result."""

    text: str


def fail_with_cause() -> None:
    try:
        raise LookupError(CAUSE)
    except LookupError as cause:
        raise RuntimeError(ERROR) from cause


def fail_in_a_group() -> None:
    raise ExceptionGroup(ERROR, [LookupError(CAUSE), NuropbHandlingError(CAUSE)])


def fail_unprintably() -> None:
    error = RuntimeError(ERROR)
    error.args = (Unprintable(ValueError),)
    raise error


def fail_as_ours() -> None:
    raise NuropbValidationError(ERROR, {"params": PARAMS}, LookupError(CAUSE))


def again() -> None:
    raise NuropbCallAgain(ERROR)


def succeed_with_events() -> None:
    raise NuropbSuccess({"text": RESULT}, events=[{"topic": "orders.x", "payload": EVENT}])


def succeed_with_bad_events() -> None:
    events: Any = [{"payload": EVENT}, EVENT]
    raise NuropbSuccess({"text": RESULT}, events=events)


def completed(*messages: Any) -> Callable[[], Completion]:
    return lambda: Completion(Outcome.DONE, messages)


RESPONSE = {"tag": "response", "result": RESULT, "error": None, "context": {"t": CONTEXT}}
HANDLERS: dict[str, Callable[[], object]] = {
    "well": lambda: {"text": RESULT},
    "dataclass": lambda: Answer(RESULT),
    "unprintable": lambda: {"text": RESULT, "odd": Unprintable(ValueError)},
    "unprintable otherwise": lambda: {"text": RESULT, "odd": Unprintable(LookupError)},
    "a set as a key": lambda: {(RESULT,): RESULT},
    "too large": lambda: RESULT * 20_000,
    "cause": fail_with_cause,
    "group": fail_in_a_group,
    "unprintable error": fail_unprintably,
    "ours": fail_as_ours,
    "again": again,
    "events": succeed_with_events,
    "bad events": succeed_with_bad_events,
    "completed": completed(RESPONSE),
    "completed with nothing": completed(),
    "completed with text": completed(RESULT),
    "completed with an odd mapping": completed(OddMapping()),
    "completed with a bad response": completed({"tag": "response", "result": RESULT}),
    "completed with a bad event": completed({"tag": "event", "event": EVENT}),
    "completed with an odd event": completed(
        {"tag": "event", "topic": "t", "event": Unprintable(TypeError)}
    ),
}


async def handle(message: Message) -> object:
    """End in the way that the method is called."""
    return HANDLERS[message.payload.get("method", "well")]()


async def outcome(call: Any, ear: Ear) -> object:
    """Return the result of a call or an error of ours, after a look for secrets in the error."""
    try:
        return await call
    except NuropbException as error:
        ear.check_error(error)
        return error


def asking(method: str) -> dict[str, Any]:
    return {**request(method, text=PARAMS), "context": {"Authorization": CONTEXT}}


async def settled(tap: Tap, queue: str = "nuropb-orders-sq") -> None:
    """Wait until the service has nothing in hand: by then it has logged all of it."""

    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while await asyncio.to_thread(tap.depth, queue):
        assert loop.time() < deadline


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("kind", ["request", "command"])
async def test_row_31_however_a_handler_ends(
    secret_mesh: Transports, ear: Ear, kind: str, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(ear, monkeypatch)
    encryptor = serving()
    service = await secret_mesh.service(
        handle,
        encryptor=encryptor,
        max_body_bytes=200_000,
        log_error_text=encrypted,  # the texts of an encrypted message's errors are never logged
    )
    client = await secret_mesh.client(encryptor=calling())
    for method in HANDLERS:
        payload = {**asking(method), "tag": kind}
        if kind == "request":
            call = client.request(payload, timeout=1, encrypted=encrypted)
            assert await outcome(call, ear) is not None
        else:
            await client.send(payload, encrypted=encrypted)
    async with tapping(secret_mesh) as tap:
        await settled(tap)
    assert (service.state, client.state) == (State.READY, State.READY)
    assert bool(keys.made) == encrypted
    assert ear.seen() == []


class Keys:
    """Every symmetric key that is made from now on, and the private one, is a secret."""

    def __init__(self, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[bytes] = []
        make = Encryptor.new_symmetric_key

        def made() -> bytes:
            key = make()
            self.made.append(key)
            ear.listen_for(key)
            return key

        monkeypatch.setattr(Encryptor, "new_symmetric_key", staticmethod(made))
        ear.listen_for(str(private_key("orders").private_numbers().d))
        ear.listen_for(str(private_key("orders").private_numbers().p))


async def test_row_31_calls_that_cannot_be_sent(secret_mesh: Transports, ear: Ear) -> None:
    client = await secret_mesh.client(outbox_messages=1, max_body_bytes=10_000)
    bad: list[Any] = [
        asking("well"),  # nobody serves it
        {**asking("well"), "params": {"odd": Unprintable(ValueError), "text": PARAMS}},
        {**asking("well"), "params": {(PARAMS, 1): PARAMS}},
        {**asking("well"), "params": PARAMS},
        {**asking("well"), "context": CONTEXT},
        {**asking("well"), "params": {"text": PARAMS * 1000}},
        {**asking("well"), "correlation_id": [PARAMS]},
        OddMapping(),
        PARAMS,
    ]
    for payload in bad:
        for encrypted in (False, True):
            for call in (client.request, client.send):
                try:
                    await call(payload, encrypted=encrypted)
                except NuropbException as error:
                    ear.check_error(error)
                except (LookupError, RuntimeError):
                    assert isinstance(payload, OddMapping)  # it is the payload's own
                else:
                    raise AssertionError(f"it was sent: {type(payload)}")
    for payload in bad[:1]:
        client.post(payload)  # nobody waits for it: its error is logged
    await eventually(lambda: any("not sent, or not deli" in text for _, text in ear.said))
    assert ear.seen() == []


async def test_row_31_messages_that_cannot_be_read(secret_mesh: Transports, ear: Ear) -> None:
    service = await secret_mesh.service(handle, max_body_bytes=10_000, max_json_depth=20)
    client = await secret_mesh.client()
    replies = client.config.response_queue_name(client.instance_id)
    bodies = [
        f'{{"tag": "request", "text": "{BODY}'.encode(),
        json.dumps([BODY]).encode(),
        json.dumps({BODY: BODY}).encode(),
        json.dumps({**asking("well"), "params": [BODY]}).encode(),
        json.dumps({**asking("well"), "correlation_id": BODY}).encode(),
        f"{BODY}\ud800".encode("utf-8", "surrogatepass"),
        BODY.encode() * 10_000,
        b"[" * 50 + BODY.encode() + b"]" * 50,
    ]
    async with tapping(secret_mesh) as tap:
        for body in bodies:
            for kind in ("request", "command", "event", "response"):
                for queue in ("nuropb-orders-sq", replies):
                    await asyncio.to_thread(tap.publish, queue, body, kind)
            await asyncio.to_thread(tap.ask, "orders", body, "c", TAP_QUEUE)
        tables = [
            GOOD_TABLE + entry(HEADER, b"T", struct.pack(">Q", 2**60)),
            GOOD_TABLE + entry("x", b"S", struct.pack(">I", 99) + HEADER.encode()),
            entry("nuropb_type", b"F", struct.pack(">I", 30) + entry(HEADER, b"t", b"\1")),
        ]
        for table in tables:
            publish_raw(client, table, b"c")
        await settled(tap)
        await eventually(lambda: service.state is State.READY)
        assert await asyncio.to_thread(tap.depth, DL_QUEUE) >= len(bodies)
    assert ear.seen() == []


async def test_row_31_calls_under_way_when_things_break(secret_mesh: Transports, ear: Ear) -> None:
    """Lost connections, timeouts, cancellations, responses too late, a stop() that cuts off."""
    begun, release = asyncio.Semaphore(0), asyncio.Event()

    async def slow(message: Message) -> object:
        begun.release()
        await release.wait()
        return {"text": RESULT}

    async with Proxy(secret_mesh.url) as proxy:
        secret_mesh.url = proxy.url
        service = await secret_mesh.service(slow)
        client = await secret_mesh.client(unknown_outcome_after=0.2)
        watches = [Watch(service), Watch(client)]
        calls = [asyncio.create_task(outcome(client.request(asking("x")), ear)) for _ in range(5)]
        late = asyncio.create_task(outcome(client.request(asking("x"), timeout=0.5), ear))
        cancelled = asyncio.create_task(outcome(client.request(asking("x")), ear))
        for _ in range(7):
            await begun.acquire()
        cancelled.cancel()
        await asyncio.wait([late, cancelled])
        proxy.reset()
        sent = await asyncio.gather(
            *(outcome(client.send({**asking("x"), "tag": "command"}), ear) for _ in range(3))
        )
        for watch in watches:
            await watch.recovered(10)
        assert len(sent) == 3
        release.set()
        assert len(await asyncio.gather(*calls)) == 5
        release.clear()
        cut = asyncio.create_task(outcome(client.request(asking("x")), ear))
        await begun.acquire()
        await service.stop(grace=0.05)
        await client.stop(grace=0.05)
        await cut
        await secret_mesh.stop()
    assert ear.seen() == []


class Foreign:
    """Another library's encryptor, which says what it should not."""

    def encrypt_payload(
        self, payload: bytes, correlation_id: str, service_name: str | None = None
    ) -> bytes:
        raise KeyError(payload, OBJECT)

    def decrypt_payload(self, payload: bytes, correlation_id: str) -> bytes:
        raise RuntimeError(payload, OBJECT)


async def test_row_31_what_cannot_be_encrypted_or_decrypted(
    secret_mesh: Transports, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(ear, monkeypatch)
    pair = Pair(secret_mesh)
    await pair.start(handle)
    assert await outcome(pair.call("well", text=PARAMS), ear)
    wrong = Encryptor("orders", private_key("another"))
    await pair.service.stop()
    for theirs in (wrong, Encryptor("orders"), Foreign(), None):
        service = await secret_mesh.service(handle, encryptor=theirs)
        call = pair.client.request(asking("well"), encrypted=True, timeout=5)
        assert isinstance(await outcome(call, ear), NuropbException)
        await service.stop()
    foreign = await secret_mesh.client(encryptor=Foreign())
    with pytest.raises(NuropbException) as caught:
        await foreign.request(asking("well"), encrypted=True)
    assert OBJECT not in f"{caught.value} {caught.value!r}"  # in its cause, which is theirs
    with pytest.raises(NuropbException) as refused:
        await pair.client.send(event("orders.x", EVENT), encrypted=True)
    ear.check_error(refused.value)
    assert keys.made
    assert ear.seen() == []


async def test_row_31_the_ear_hears(ear: Ear) -> None:
    """Each way in which a record, or a repr, could tell a secret; else this file proves nothing."""
    logger = logging.getLogger("nuropb_rmq.planted")
    for secret in SECRETS:
        logger.debug("%s", secret)
    logger.debug("%r", {"x": PARAMS.encode()})
    logger.debug("told by its level only", extra={"odd": PARAMS})
    logger.info("%s", with_credentials("amqp://h/", USER, PASSWORD))
    logger.info("%s", basic(USER, PASSWORD))
    try:
        fail_with_cause()
    except RuntimeError:
        logger.exception("failed")
    assert len(ear.heard) == len(SECRETS) + 5
    silent = Completion(Outcome.DONE, [{"result": RESULT}])
    assert ear.seen() == []
    error = NuropbException(ERROR)
    (told,) = ear.seen()
    assert told.startswith("NuropbException: ")
    with pytest.raises(AssertionError):
        ear.check_error(error)
    with pytest.raises(AssertionError):
        ear.check_chain(error)
    assert silent.messages
    ear.forget()


async def test_row_31_commands_and_events(secret_mesh: Transports, ear: Ear) -> None:
    service = await secret_mesh.service(handle, event_bindings=["orders.#"], log_error_text=False)
    client = await secret_mesh.client()
    await client.send(command("cause", text=PARAMS))
    await client.send(event("orders.made", {"text": EVENT}))
    await outcome(client.send(event("orders.made", {(1,): EVENT})), ear)
    await outcome(client.send(command(text=PARAMS), timeout=-1), ear)
    async with tapping(secret_mesh) as tap:
        await settled(tap)
        dead = await asyncio.to_thread(tap.take, DL_QUEUE, 1)
        assert PARAMS.encode() in dead[0][1]
    assert service.state is State.READY
    assert ear.seen() == []
