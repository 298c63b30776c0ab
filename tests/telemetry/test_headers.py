"""Contexts in headers: what goes out, what comes in, and what hostile senders write there."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased

from nuropb_rmq import Message, NuropbRemoteError, Observer, Transport, TransportConfig
from nuropb_rmq.protocol.constants import HEADER_TRACE_ID, HEADER_TRACEPARENT

from ..conformance.raw import raw
from ..encrypting import private_key
from ..support import command, event, eventually
from .support import Recorded, Traced, attributes_of, links_of, parent_of, trace_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


class Writes(TextMapPropagator):
    """A propagator that writes these headers, and nothing that it should."""

    def __init__(self, headers: dict[Any, Any]) -> None:
        self._headers = headers

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        for name, value in self._headers.items():
            setter.set(carrier, name, value)

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        return Context()

    @property
    def fields(self) -> set[str]:
        return set(self._headers)


class Seen:
    """A handler that keeps headers, and what was current."""

    def __init__(self) -> None:
        self.headers: list[dict[str, Any]] = []
        self.spans: list[trace.SpanContext] = []
        self.baggage: list[dict[str, object]] = []

    async def __call__(self, message: Message) -> None:
        self.headers.append(message.headers)
        self.spans.append(trace.get_current_span().get_span_context())
        self.baggage.append(dict(baggage.get_all()))


OWN = {"nuropb_protocol", "nuropb_version", "nuropb_type", "encrypted", "trace_id"}


async def start(meshes: Traced, seen: Seen) -> tuple[Transport, Transport]:
    """A service on a bare transport, and a client."""
    client = (await meshes.client()).transport  # first: it makes the exchanges
    service = await meshes.bare(seen, "orders")
    meshes.instrument(service)
    return service, client


async def test_what_goes_along(meshes: Traced, recorded: Recorded) -> None:
    seen = Seen()
    _, client = await start(meshes, seen)
    token = context.attach(baggage.set_baggage("tenant", "blue"))
    await client.send(command(n=1))
    context.detach(token)
    await eventually(lambda: seen.headers)
    (headers,) = seen.headers
    assert list(headers)[-2:] == [HEADER_TRACE_ID, HEADER_TRACEPARENT], "where it is read quickly"
    assert set(headers) - OWN == {"traceparent", "baggage"}
    sent = recorded.named("publish nuropb-rpc-exchange:orders")
    assert headers["traceparent"] == written(sent.context)
    assert seen.baggage == [{"tenant": "blue"}]


def written(span: trace.SpanContext | None) -> str:
    """The traceparent of a span."""
    assert span is not None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


HOSTILE: dict[Any, Any] = {
    **dict.fromkeys(("CC", "bcc", "x-death", "X-Match", "nuropb_type", "NUROPB_error"), "1"),
    "encrypted": "yes",
    "Trace_ID": "other",
    "": "nameless",
    "n" * 129: "long",
    "number": 1,
    "none": None,
    "bytes": b"1",
    7: "seven",
    "line\n": "break",
    "ümlaut": "ü",
    "control": "\x00",
    "huge": "x" * 5000,
    "good": "text",
    HEADER_TRACEPARENT: GOOD,
    **{f"filler-{number}": "x" for number in range(30)},
}


async def test_what_a_propagator_may_not_write(meshes: Traced, recorded: Recorded) -> None:
    """Reserved names, other types, what is too long or too many: left out, and the rest is sent."""
    meshes.options = {"propagator": Writes(HOSTILE)}
    seen = Seen()
    _, client = await start(meshes, seen)
    await client.send(command(n=1))
    await eventually(lambda: seen.headers)
    (headers,) = seen.headers
    ours = {name: value for name, value in headers.items() if name not in OWN}
    assert len(ours) == 16
    assert ours.pop(HEADER_TRACEPARENT) == GOOD
    assert ours.pop("good") == "text"
    assert all(name.startswith("filler-") for name in ours)
    assert (headers["nuropb_type"], headers["encrypted"]) == ("command", "")


async def test_all_of_them_are_bounded(in_memory: Traced, recorded: Recorded) -> None:
    in_memory.options = {"propagator": Writes({f"name-{n}": "x" * 250 for n in range(10)})}
    seen = Seen()
    _, client = await start(in_memory, seen)
    await client.send(command(n=1))
    await eventually(lambda: seen.headers)
    sizes = [len(each) + len(seen.headers[0][each]) for each in seen.headers[0] if each not in OWN]
    assert (len(sizes), sum(sizes) <= 1024) == (4, True)


@pytest.mark.parametrize("size", [100, 2000, 4000])
async def test_baggage_is_left_out_before_the_trace_and_the_rest(
    in_memory: Traced, recorded: Recorded, size: int
) -> None:
    """Whatever is written first; a message whose headers fill a frame could not be sent."""
    written = {
        "baggage": "b=" + "x" * size,
        HEADER_TRACEPARENT: GOOD,
        "tracestate": "t=" + "x" * 900,
        "x-b3": "never",
        "b3": "x" * 950,
    }
    in_memory.options = {"propagator": Writes(written)}
    seen = Seen()
    _, client = await start(in_memory, seen)
    await client.send(command(n=1))
    await eventually(lambda: seen.headers)
    assert set(seen.headers[0]) - OWN == {HEADER_TRACEPARENT, "tracestate", "b3"}


async def test_a_tracestate_that_is_too_long_is_left_out(
    in_memory: Traced, recorded: Recorded
) -> None:
    written = {HEADER_TRACEPARENT: GOOD, "tracestate": "t=" + "x" * 1100, "baggage": "b=1"}
    in_memory.options = {"propagator": Writes(written)}
    seen = Seen()
    _, client = await start(in_memory, seen)
    await client.send(command(n=1))
    await eventually(lambda: seen.headers)
    assert set(seen.headers[0]) - OWN == {HEADER_TRACEPARENT, "baggage"}


BROKEN: dict[str, Any] = {
    "no hex": f"00-{'g' * 32}-{SPAN}-01",
    "zeros": f"00-{'0' * 32}-{SPAN}-01",
    "no span": f"00-{TRACE}-{'0' * 16}-01",
    "version": f"ff-{TRACE}-{SPAN}-01",
    "short": "00-1-1-01",
    "empty": "",
    "long": GOOD + "-" + "x" * 2000,
    "number": 7,
    "a list": [GOOD],
    "a table": {"traceparent": GOOD},
    "bytes": bytearray(b"\xff\xfe"),
    "as long as it should be": "x" * 55,
}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
async def test_a_broken_one_is_a_new_root_and_counted(
    in_memory: Traced, recorded: Recorded, value: Any
) -> None:
    seen = Seen()
    service, _ = await start(in_memory, seen)
    await send_raw(in_memory.url, service.config, {"traceparent": value})
    await recorded.whole(1)
    assert parent_of(recorded.spans[0]) == 0
    assert len(seen.spans) == 1
    assert trace_id(recorded.spans[0]) == seen.spans[0].trace_id
    assert recorded.total("nuropb.telemetry.broken_contexts") == 1
    assert recorded.total("nuropb.telemetry.failures") == 0


async def test_one_of_a_foreign_sender(meshes: Traced, recorded: Recorded) -> None:
    """It stands where its sender put it, and with a tracestate."""
    seen = Seen()
    service, _ = await start(meshes, seen)
    headers = {"traceparent": GOOD, "tracestate": "rojo=00f067aa0ba902b7", "zebra": "z"}
    await send_raw(meshes.url, service.config, headers)
    await recorded.whole(1)
    assert parent_of(recorded.spans[0]) == int(SPAN, 16)
    assert seen.spans[0].trace_id == int(TRACE, 16)
    assert seen.spans[0].trace_state == {"rojo": "00f067aa0ba902b7"}


async def send_raw(url: str, config: TransportConfig, headers: dict[str, Any]) -> None:
    """A command with these headers besides those of the protocol."""
    body = (
        b'{"tag":"command","service":"orders","method":"note","params":{},'
        b'"correlation_id":"c","context":{},"trace_id":"t"}'
    )
    protocol = {"nuropb_protocol": "0.1.1", "nuropb_type": "command", "nuropb_version": "0.1.8"}
    async with raw(url) as connection:
        channel = await connection.channel()
        channel.put(
            *("orders", body),
            exchange=config.rpc_exchange,
            headers={**protocol, **headers, "trace_id": "t"},
            correlation_id="c",
        )
        await eventually(lambda: channel.confirms)


# -- what is not sampled -----------------------------------------------------------------------


async def test_what_is_not_sampled_travels_all_the_same(meshes: Traced) -> None:
    """One decision, at the root: nobody makes a span below, and the trace id is the same."""
    meshes.recorded = recorded = Recorded(ALWAYS_OFF)
    seen = Seen()
    service, client = await start(meshes, seen)
    await client.request({**command(n=1), "tag": "request"})
    await client.send(command(n=2))
    await client.send(event("orders.placed", 3))
    await eventually(lambda: len(seen.spans) == 2)
    assert recorded.spans == []
    asked, told = seen.spans
    assert asked.is_valid
    assert not asked.trace_flags.sampled
    assert asked.trace_id != told.trace_id
    assert seen.headers[0]["traceparent"] == written(asked)
    assert service.stats().received == 2


async def test_a_senders_decision_holds_for_all_that_follows(meshes: Traced) -> None:
    """The service's own sampler would take them."""
    meshes.recorded = recorded = Recorded(TraceIdRatioBased(1))
    seen = Seen()
    service, _ = await start(meshes, seen)
    await send_raw(meshes.url, service.config, {"traceparent": f"00-{TRACE}-{SPAN}-00"})
    await eventually(lambda: seen.spans)
    assert seen.spans[0].trace_id == int(TRACE, 16)
    assert recorded.spans == []


# -- encrypted ---------------------------------------------------------------------------------


class Vault:
    """Needs encryption."""

    _service_name = "vault"
    _private_key = private_key("vault")

    def __init__(self) -> None:
        self.baggage: list[dict[str, object]] = []

    async def open(self, pin: str) -> str:
        """Answer with a secret."""
        self.baggage.append(dict(baggage.get_all()))
        return f"opened with {pin}"

    async def fail(self, pin: str) -> None:
        """Quote the secret."""
        raise LookupError(f"no box for {pin}")


class Wire(Observer):
    """Keeps the headers of what arrives."""

    def __init__(self) -> None:
        self.headers: list[dict[str, Any]] = []

    def received(self, message: Message) -> None:
        self.headers.append(message.headers)


async def test_encrypted_messages_carry_the_trace_alone(meshes: Traced, recorded: Recorded) -> None:
    """No baggage in either direction, and no text of an error."""
    vault, wire = Vault(), Wire()
    (await meshes.serve(vault)).observe(wire)
    client = await meshes.client()
    token = context.attach(baggage.set_baggage("pin", "s3cret"))
    assert await client.request("vault", "open", {"pin": "s3cret"}, encrypted=True)
    with pytest.raises(Exception, match="no box for s3cret"):
        await client.request("vault", "fail", {"pin": "s3cret"}, encrypted=True)
    context.detach(token)
    assert vault.baggage == [{}]
    encrypted = [each for each in wire.headers if each["encrypted"] == "yes"]
    assert [set(each) - OWN for each in encrypted] == [{"traceparent"}] * 2
    await recorded.whole(10)
    text = "".join(each.to_json() for each in recorded.spans)
    assert "s3cret" not in text
    assert all(attributes_of(each)["nuropb.encrypted"] is True for each in recorded.spans)
    assert len({trace_id(each) for each in recorded.spans}) == 2
    caller = recorded.spans[0]
    assert len(links_of(caller)) == 1


async def test_a_method_of_an_encrypted_call_that_nobody_knows_is_not_told(
    in_memory: Traced, recorded: Recorded
) -> None:
    """It may be anything; one that is known is told."""
    await in_memory.serve(Vault())
    client = await in_memory.client()
    await client.request("vault", "open", {"pin": "1"}, encrypted=True)
    with pytest.raises(NuropbRemoteError, match="Unknown method"):
        await client.request("vault", "s3cret", encrypted=True)
    await recorded.whole(10)
    text = "".join(each.to_json() for each in recorded.spans) + str(recorded.metrics)
    assert "s3cret" not in text
    assert "vault/open" in text


async def test_the_baggage_of_a_foreign_sender_is_not_believed_on_an_encrypted_message(
    in_memory: Traced,
) -> None:
    vault = Vault()
    await in_memory.serve(vault)
    client = await in_memory.client()
    in_memory.removers[-1]()
    in_memory.options = {"propagator": Writes({"baggage": "admin=yes"})}
    in_memory.instrument(client)
    await client.request("vault", "open", {"pin": "1"}, encrypted=True)
    assert vault.baggage == [{}]
