"""Tests of the marks of decorators: they count in any order, and no override drops one silently."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from nuropb_rmq import NuropbConfigurationError, mesh_event, nuropb_context, publish_to_mesh
from nuropb_rmq.exceptions import NuropbAuthorizationError, NuropbHandlingError
from nuropb_rmq.service.marks import Marks, admitted, marks_of
from nuropb_rmq.service.methods import Published


def claims_of(token: str) -> dict[str, str] | None:
    return {"user": token} if token == "good" else None


def other_claims_of(token: str) -> dict[str, str] | None:
    return claims_of(token)


async def claims_later(token: str) -> dict[str, str] | None:
    return claims_of(token)


def claims_by_and_by(token: str) -> Iterator[dict[str, str] | None]:
    yield claims_of(token)


async def claims_at_last(token: str) -> AsyncIterator[dict[str, str] | None]:
    yield claims_of(token)


class ByAndBy:
    def __call__(self, token: str) -> Iterator[None]:
        yield None


def third(method: Callable[..., Any]) -> Any:
    """A decorator of somebody else's."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return wrapper


# nuropb's own decorators, as far as marks are concerned.
_NUROPB = {"__name__": "nuropb.contexts.context_manager_decorator", "wraps": functools.wraps}
exec(  # its module is how it is known
    """
class NuropbContextManager:
    def __init__(self, context, suppress_exceptions=True):
        self.context = context
        self._user_claims = None
    @property
    def user_claims(self):
        return self._user_claims
    @user_claims.setter
    def user_claims(self, claims):
        self._user_claims = claims

def nuropb_context(method):
    suppress_exceptions = False
    @wraps(method)
    def wrapper(*args, **kwargs):
        suppress_exceptions
        authorize = getattr(wrapper, "__nuropb_authorise_func__", None)
        if authorize is not None:
            key = getattr(wrapper, "__nuropb_context_token_key__")
            args[1].user_claims = authorize(args[1].context[key])
        return method(*args, **kwargs)
    wrapper.__nuropb_context__ = True
    wrapper.__nuropb_context_arg__ = "ctx"
    return wrapper
""",
    _NUROPB,
)
theirs: Any = _NUROPB["nuropb_context"]


def their_publish(authorize: Any = None, encryption: bool = False, hide: bool = False) -> Any:
    """nuropb's publish_to_mesh: it says everything, None and False as well."""

    def decorate(method: Callable[..., Any]) -> Any:
        wrapper = third(method)
        wrapper.__nuropb_mesh_hidden__ = hide
        wrapper.__nuropb_context_token_key__ = "Authorization"
        wrapper.__nuropb_authorise_func__ = authorize
        wrapper.__nuropb_requires_encryption__ = encryption
        return wrapper

    return decorate


def method(self: Any, ctx: Any) -> Any:
    return ctx.user_claims


def plain() -> Any:
    """The method again, not decorated: our decorators mark the function that they are given."""
    return lambda self, ctx: ctx.user_claims


guard = publish_to_mesh(authorize_func=claims_of)
# (decorators from the inside out, does nuropb's own ask?)
ORDERS: dict[str, tuple[list[Callable[[Any], Any]], bool]] = {
    "theirs, as documented": ([their_publish(claims_of), theirs], True),
    "theirs, the other way round": ([theirs, their_publish(claims_of)], False),
    "theirs, twice": ([their_publish(claims_of), theirs, their_publish()], True),
    "ours above theirs": ([theirs, guard], True),
    "ours below theirs": ([guard, theirs], True),
    "ours above a third above theirs": ([theirs, third, guard], False),
    "theirs above a third above theirs": ([theirs, third, their_publish(claims_of)], False),
    "ours": ([nuropb_context, guard], False),
    "ours, as documented": ([guard, nuropb_context], False),
    "ours, with a third between": ([nuropb_context, third, guard], False),
    "a plain one above": ([guard, nuropb_context, third, publish_to_mesh], False),
}


@pytest.mark.parametrize(("decorators", "asks"), ORDERS.values(), ids=ORDERS)
def test_authorize_func_is_asked_once_in_whatever_order(
    decorators: list[Callable[[Any], Any]], asks: bool
) -> None:
    made = plain()
    for each in decorators:
        made = each(made)
    marks = marks_of(made)
    assert marks.authorize is claims_of
    assert marks.context_parameter == "ctx"
    assert marks.context_class is not None
    assert marks.authorizes_itself is asks


def test_what_stands_above_each_other_is_merged() -> None:
    merged = publish_to_mesh(requires_encryption=True)(
        publish_to_mesh(authorize_func=claims_of, context_token_key="token")(plain())
    )
    assert (marks_of(merged).authorize, marks_of(merged).token_key) == (claims_of, "token")
    assert marks_of(merged).requires_encryption
    theirs_too = their_publish()(their_publish(claims_of, encryption=True, hide=True)(plain()))
    marks = marks_of(theirs_too)
    assert (marks.authorize, marks.requires_encryption, marks.hidden) == (claims_of, True, True)
    heard = mesh_event("a", "b")(third(mesh_event("b", "c")(plain())))
    assert marks_of(heard).topics == ("a", "b", "c")
    again = publish_to_mesh(authorize_func=claims_of)(merged)
    assert marks_of(again).authorize is claims_of


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ({"authorize_func": claims_of}, {"authorize_func": other_claims_of}, "authorize_func"),
        ({"authorize_func": claims_of}, {"authorize_func": None}, "authorize_func"),
        ({"requires_encryption": True}, {"requires_encryption": False}, "requires_encryption"),
        ({"hide_method": True}, {"hide_method": None}, "hide_method"),
        ({"description": "a"}, {"description": "b"}, "description"),
    ],
)
def test_a_mark_that_would_be_lost_is_refused(first: Any, second: Any, name: str) -> None:
    for made in (plain, lambda: third(plain())):
        marked = publish_to_mesh(**first)(made())
        with pytest.raises(TypeError, match=name):
            publish_to_mesh(**second)(third(marked))


def refused(why: str, function: Any) -> None:
    with pytest.raises(NuropbConfigurationError, match=why):
        Published(type("Orders", (), {"open": function})(), "orders")


def test_what_cannot_be_done_is_refused_when_the_service_is_made() -> None:
    two = their_publish(claims_of)(their_publish(other_claims_of)(plain()))
    refused("open: two publish_to_mesh", two)
    refused("open: authorize_func is async", theirs(their_publish(claims_later)(plain())))
    for each in (claims_by_and_by, claims_at_last, ByAndBy(), functools.partial(claims_by_and_by)):
        refused("open: authorize_func is a generator", their_publish(each)(plain()))
        with pytest.raises(TypeError, match="a generator function decides nothing"):
            publish_to_mesh(authorize_func=each)


def test_a_decorator_that_hides_a_guard_is_refused() -> None:
    """It calls the method all the same, and nobody would be asked."""

    def forgetful(function: Callable[..., Any]) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    def open(self: Any) -> None: ...  # noqa: A001 - the method's name

    Published(type("Orders", (), {"open": forgetful(open)})(), "orders")
    for guarded in ({"authorize_func": claims_of}, {"requires_encryption": True}):
        marked = publish_to_mesh(**guarded)(third(open))
        refused("open: a decorator hides", forgetful(marked))
        refused("open: a decorator hides", third(forgetful(marked)))
    unseen = publish_to_mesh(hide_method=True)(third(open))
    refused("open: a decorator hides", publish_to_mesh(forgetful(unseen)))
    other = publish_to_mesh(authorize_func=claims_of)(third(open))
    other.__name__ = "another"
    Published(type("Orders", (), {"open": forgetful(other)})(), "orders")  # it guards another one
    guarded_anew = publish_to_mesh(authorize_func=claims_of)(forgetful(third(open)))
    Published(type("Orders", (), {"open": guarded_anew})(), "orders")


async def test_claims_that_decide_nothing_yet_are_none() -> None:
    for claims in (claims_by_and_by("good"), claims_at_last("good"), claims_later("good")):
        with pytest.raises(NuropbHandlingError, match="authorize_func"):
            admitted(claims)
    with pytest.raises(NuropbAuthorizationError):
        admitted(None)


# -- overrides ------------------------------------------------------------------------------


class Base:
    @publish_to_mesh(authorize_func=claims_of, requires_encryption=True)
    def open(self) -> None: ...

    @mesh_event("a.b")
    @publish_to_mesh(authorize_func=claims_of)
    def on_event(self) -> None: ...


def derived(*layers: dict[str, Any]) -> Marks:
    """The marks of `open` in a class below Base, and others between."""
    made: type = Base
    for layer in layers:

        def open_anew(self: Any) -> None: ...

        made = type("Derived", (made,), {"open": publish_to_mesh(**layer)(open_anew)})
    return Published(made(), "orders").methods["open"].marks


SAID = {"authorize_func": None, "requires_encryption": False}


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([{}], "authorize_func"),
        ([{"requires_encryption": True}], "authorize_func=None"),
        ([{"authorize_func": other_claims_of}], "requires_encryption=False"),
        ([{"authorize_func": claims_of, "requires_encryption": True}, {}], "authorize_func"),
        ([{"authorize_func": None}], "requires_encryption"),
    ],
)
def test_an_override_may_not_drop_a_guard(layers: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(NuropbConfigurationError, match=f"open: it overrides .*{why}"):
        derived(*layers)


def test_an_override_may_say_that_it_drops_a_guard() -> None:
    assert not derived(SAID).has("authorize_func")
    assert not derived(SAID, {}).requires_encryption
    kept = derived({"authorize_func": other_claims_of, "requires_encryption": True})
    assert kept.authorize is other_claims_of


def test_an_override_without_decorators_drops_them_too() -> None:
    class Derived(Base):
        def on_event(self) -> None: ...

    with pytest.raises(NuropbConfigurationError, match="on_event"):
        Published(Derived(), "orders")


def test_what_nobody_can_call_needs_no_guard() -> None:
    class Derived(Base):
        open = None  # type: ignore[assignment]

        @publish_to_mesh(hide_method=True)
        def on_event(self) -> None: ...

    assert not Published(Derived(), "orders", checks=False).methods
