"""The decorators and the context of a call, without a mesh: as tests of a service use them."""

from __future__ import annotations

from typing import Any

import pytest

from nuropb_rmq.exceptions import NuropbAuthorizationError, NuropbValidationError
from nuropb_rmq.service.decorators import (
    NuropbContextManager,
    mesh_event,
    nuropb_context,
    publish_to_mesh,
)
from nuropb_rmq.service.marks import admitted, marks_of

EVENT = {"topic": "orders.created", "event": {"id": 1}}


def claims_of(token: str) -> dict[str, str] | None:
    return {"user": token} if token.startswith("good") else None


async def claims_later(token: str) -> dict[str, str] | None:
    return claims_of(token)


class Orders:
    @nuropb_context
    @publish_to_mesh(authorize_func=claims_of)
    def mine(self, ctx: NuropbContextManager, order: str = "A") -> Any:
        return order, ctx.user_claims

    @publish_to_mesh(authorize_func=claims_of, context_token_key="token")
    @nuropb_context(context_parameter="context")
    def other_way_round(self, order: str, context: NuropbContextManager) -> Any:
        return order, context.user_claims

    @nuropb_context
    @publish_to_mesh(authorize_func=claims_later)
    def later(self, ctx: NuropbContextManager) -> None: ...

    @publish_to_mesh(
        hide_method=True, requires_encryption=True, description="Said", in_thread=False
    )
    def marked(self) -> None: ...

    @publish_to_mesh
    def plain(self) -> None: ...

    @publish_to_mesh(hide_method=True)
    @classmethod
    def of_class(cls) -> None: ...

    @staticmethod
    @mesh_event("orders.*", "#.eu")
    def on_order(event: Any) -> None: ...


TOKEN = {"Authorization": "good one"}
CLAIMS = {"user": "good one"}


def test_a_context_is_given_first_or_by_name_as_a_dict_or_as_it_is() -> None:
    orders = Orders()
    assert orders.mine(TOKEN) == ("A", CLAIMS)
    assert orders.mine(TOKEN, "B") == ("B", CLAIMS)
    assert orders.mine(order="B", ctx=TOKEN) == ("B", CLAIMS)
    assert orders.mine(NuropbContextManager(TOKEN), order="B") == ("B", CLAIMS)


def test_the_context_may_be_any_parameter_and_have_any_name() -> None:
    assert Orders().other_way_round({"token": "good"}, "B") == ("B", {"user": "good"})
    assert Orders().other_way_round("B", context={"token": "good"}) == ("B", {"user": "good"})


@pytest.mark.parametrize("arguments", [(), ("B",), (None,), (7,)])
def test_a_call_without_a_context_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="ctx: expected a NuropbContextManager or a dict"):
        Orders().mine(*arguments)


def test_a_second_context_by_name_is_refused() -> None:
    with pytest.raises(TypeError, match="ctx: passed twice"):
        Orders().mine(TOKEN, ctx=TOKEN)
    with pytest.raises(TypeError, match="context: passed twice"):
        Orders().other_way_round(NuropbContextManager({}), context={"token": "good"})


@pytest.mark.parametrize("context", [{"Authorization": "bad"}, {"authorization": "good"}, {}])
def test_a_direct_call_is_authorized_too(context: dict[str, str]) -> None:
    with pytest.raises(NuropbAuthorizationError):
        Orders().mine(context)


def test_claims_that_are_there_are_not_asked_for_again() -> None:
    ctx = NuropbContextManager({})
    ctx.user_claims = {"user": "tester"}
    assert Orders().mine(ctx) == ("A", {"user": "tester"})


def test_an_async_authorize_func_cannot_be_waited_for_in_a_direct_call() -> None:
    with pytest.raises(TypeError, match="only the mesh can await"):
        Orders().later(TOKEN)


@pytest.mark.parametrize("claims", [None, False])
def test_a_refusal(claims: Any) -> None:
    with pytest.raises(NuropbAuthorizationError, match="refused"):
        admitted(claims)


@pytest.mark.parametrize("claims", [{}, {"user": 1}, True, "user"])
def test_any_other_claims_are_no_refusal(claims: Any) -> None:
    assert admitted(claims) == claims


def test_marks() -> None:
    marked = marks_of(Orders.__dict__["marked"])
    assert (marked.hidden, marked.requires_encryption, marked.in_thread) == (True, True, False)
    assert marked.description == "Said"
    plain = marks_of(Orders.__dict__["plain"])
    assert (plain.hidden, plain.requires_encryption, plain.in_thread) == (False, False, True)
    assert (plain.authorize, plain.description, plain.context_parameter) == (None, None, None)
    assert marks_of(Orders.__dict__["mine"]).context_parameter == "ctx"
    assert marks_of(Orders.__dict__["other_way_round"]).context_parameter == "context"
    assert marks_of(Orders.__dict__["other_way_round"]).token_key == "token"
    assert marks_of(Orders.__dict__["of_class"]).hidden
    assert marks_of(Orders.__dict__["on_order"]).topics == ("orders.*", "#.eu")
    assert marks_of(print).topics == ()


def test_decorators_refuse_what_makes_no_sense() -> None:
    with pytest.raises(TypeError, match="authorize_func"):
        publish_to_mesh(authorize_func="claims_of")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no parameter 'ctx'"):
        nuropb_context(lambda self: None)
    with pytest.raises(TypeError, match="expected topics"):
        mesh_event()
    with pytest.raises(TypeError, match="expected topics"):
        mesh_event(lambda self: None)  # type: ignore[arg-type]


# -- the context as a context manager -------------------------------------------------------


def test_events_stay_when_the_block_succeeds() -> None:
    with NuropbContextManager({"user": 1}) as ctx:
        ctx.add_event(EVENT)
    assert ctx.events == [EVENT]
    assert ctx.error is None
    assert ctx.context == {"user": 1}


def test_events_are_discarded_when_the_block_fails() -> None:
    ctx = NuropbContextManager({}, suppress_exceptions=False)

    def fails() -> None:
        with ctx:
            ctx.add_event(EVENT)
            raise LookupError("no such order")

    with pytest.raises(LookupError):
        fails()
    assert ctx.events == []
    assert ctx.error == {"error": "LookupError", "description": "no such order"}


async def test_exceptions_are_suppressed_when_asked() -> None:
    async with NuropbContextManager({}) as ctx:
        ctx.add_event(EVENT)
        raise LookupError("no such order")
    assert ctx.events == []
    assert ctx.error is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_only_exceptions_are_suppressed(error: type[BaseException]) -> None:
    with pytest.raises(error), NuropbContextManager({}):
        raise error


def test_a_context_is_entered_once() -> None:
    ctx = NuropbContextManager({})
    with ctx, pytest.raises(RuntimeError, match="entered already"):
        ctx.__enter__()
    with pytest.raises(RuntimeError, match="left already"):
        ctx.__enter__()
    with pytest.raises(RuntimeError, match="left already"):
        ctx.__exit__(None, None, None)


def test_claims_are_set_once() -> None:
    ctx = NuropbContextManager({})
    ctx.user_claims = {"user": 1}
    with pytest.raises(ValueError, match="once"):
        ctx.user_claims = {"user": 2}


def test_a_context_needs_a_context() -> None:
    with pytest.raises(TypeError, match="context"):
        NuropbContextManager(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (None, "a mapping"),
        ([], "a mapping"),
        ({"event": 1}, "'topic'"),
        ({"topic": 7, "event": 1}, "'topic'"),
        ({"topic": "t"}, "'event'"),
        ({"topic": "t", "event": 1, "context": []}, "'context'"),
    ],
)
def test_an_event_that_cannot_be_one(event: Any, says: str) -> None:
    with pytest.raises(NuropbValidationError, match=says):
        NuropbContextManager({}).add_event(event)


@pytest.mark.parametrize("event", [EVENT, {"topic": "t", "payload": None}])
def test_events_with_nuropbs_two_names_for_what_they_say(event: dict[str, Any]) -> None:
    ctx = NuropbContextManager({})
    ctx.add_event(event)
    assert ctx.events == [event]


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "4"])
def test_max_concurrency_is_an_integer_above_0(value: Any) -> None:
    with pytest.raises(TypeError, match=r"max_concurrency: expected an integer above 0.* got"):
        publish_to_mesh(max_concurrency=value)
    with pytest.raises(TypeError, match="max_concurrency"):
        mesh_event("a", max_concurrency=value)


def test_max_concurrency_of_several_decorators() -> None:
    def method(self: object) -> None:
        """A method."""

    assert marks_of(method).max_concurrency is None
    marked = mesh_event("a", max_concurrency=2)(mesh_event("b")(method))
    assert marks_of(marked).max_concurrency == 2
    assert marks_of(publish_to_mesh(max_concurrency=2)(marked)).max_concurrency == 2
    with pytest.raises(TypeError, match="has another value"):
        publish_to_mesh(max_concurrency=3)(marked)
