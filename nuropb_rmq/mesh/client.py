"""Clients of one service, with its methods: calls that editors and type checkers see."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from ..exceptions import NuropbConfigurationError, UnexpectedResultError
from ..nearest import nearest
from ..service.converters import Converters
from ..service.marks import marks_of
from ..service.signatures import result_hint, signature_of
from ..service.type_hints import Converter, Mismatch, Uncheckable

T = TypeVar("T")
R = TypeVar("R")

_EMPTY: Final = inspect.Parameter.empty
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Calls(Enum):
    """The way to call a client's methods; the value says why another method cannot be called."""

    AWAITED = "is not async: declare it with `async def` in a Protocol, for calls are awaited"
    BLOCKING = "is async: declare it with `def` in a Protocol, for calls are not awaited here"

    def takes(self, function: Any) -> bool:
        """Return whether a method of an interface is declared so that it is called like this."""
        plain = not inspect.iscoroutinefunction(function)
        if self is Calls.BLOCKING or not plain:
            return plain is (self is Calls.BLOCKING)
        # nuropb_context wraps a coroutine function in a plain one.
        has_context = marks_of(function).context_parameter is not None
        return has_context and inspect.iscoroutinefunction(inspect.unwrap(function))


class Request(Protocol):
    """Calls a method of the service, as Mesh.request does, with the client's options.

    Its result is to be awaited, unless it is that of a blocking mesh.
    """

    def __call__(self, method: str, params: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Stub:
    """One method of an interface: how a call becomes parameters, and its result a value."""

    name: str
    function: Callable[..., Any]
    context_parameter: str | None
    """The parameter that no caller passes; see nuropb_context."""
    signature: inspect.Signature
    positional: tuple[str, ...]
    """The parameters that may be given by position, in order."""
    names: frozenset[str]
    required: frozenset[str]
    others: str
    """The name of its parameter for all other names, **kwargs; "" when it has none."""
    convert: Converter | None
    problem: str = ""
    """Why it cannot be called; "" when it can."""

    def params(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of a call; raise TypeError as the method itself would."""
        # As signature.bind() would, in a third of its time.
        params = {**dict(zip(self.positional, args, strict=False)), **kwargs} if args else kwargs
        if len(params) == len(args) + len(kwargs) and self.required <= params.keys() <= self.names:
            return params
        params = self.signature.bind(*args, **kwargs).arguments
        others = params.pop(self.others, {}) if self.others else {}
        return {**params, **others}

    def result(self, service: str, result: Any) -> Any:
        """Return a result as the annotation has it. Raises UnexpectedResultError."""
        if self.convert is None:
            return result
        try:
            return self.convert(result)
        except Mismatch as e:
            text = e.describe("result")
            raise UnexpectedResultError(f"{service}.{self.name}: {text}") from None


class Client(Generic[R]):
    """Calls any method of a service by its name: `await orders.total(order_id="A-1")`."""

    def __init__(self, service: str, request: Request) -> None:
        self._service = service
        self._request = request

    def __repr__(self) -> str:
        return f"<client of service {self._service!r}>"

    def __getattr__(self, name: str) -> Callable[..., R]:
        if name.startswith("_"):
            raise AttributeError(f"{name}: methods of services have no underscore in front")
        request = self._request

        def call(**params: Any) -> R:
            return cast(R, request(name, params))

        call.__name__ = call.__qualname__ = name
        self.__dict__[name] = call
        return call


UntypedClient = Client[Coroutine[Any, Any, Any]]


class TypedClient(Client[Any]):
    """Calls the methods of an interface; converts their results to the annotated types."""

    def __init__(
        self, service: str, request: Request, stubs: Mapping[str, Stub], calls: Calls
    ) -> None:
        super().__init__(service, request)
        self._stubs = stubs
        self._caller = _awaited if calls is Calls.AWAITED else _blocking

    def __getattr__(self, name: str) -> Callable[..., Any]:
        stub = self._stubs.get(name)
        if stub is None:
            near = nearest(name, self._stubs)
            hint = f"did you mean {near}?" if near else f"it has {', '.join(self._stubs)}"
            raise AttributeError(f"{name}: the interface has no such method; {hint}")
        if stub.problem:
            raise TypeError(f"{self._service}.{name} {stub.problem}")
        call = self._caller(self._service, self._request, stub)
        call.__name__ = call.__qualname__ = name
        self.__dict__[name] = call
        return call


def _awaited(service: str, request: Request, stub: Stub) -> Callable[..., Any]:
    name, params, convert = stub.name, stub.params, partial(stub.result, service)

    async def call(*args: Any, **kwargs: Any) -> Any:
        return convert(await request(name, params(args, kwargs)))

    return call


def _blocking(service: str, request: Request, stub: Stub) -> Callable[..., Any]:
    name, params, convert = stub.name, stub.params, partial(stub.result, service)

    def call(*args: Any, **kwargs: Any) -> Any:
        return convert(request(name, params(args, kwargs)))

    return call


def new_client(
    call: Callable[..., R],
    interface: Callable[..., T] | str,
    service: str | None,
    options: Mapping[str, Any],
    calls: Calls = Calls.AWAITED,
) -> T | Client[R]:
    """Return a client that calls by `call(service, method, params, **options)`; see Mesh.client."""
    if isinstance(interface, str):
        return Client(interface, partial(call, interface, **options))
    name = service_of(interface, service)
    request = partial(call, name, **options)
    return cast(T, TypedClient(name, request, stubs_of(interface, calls), calls))


def service_of(interface: Callable[..., Any], service: str | None) -> str:
    """Return the name of the service that an interface is for; raises NuropbConfigurationError."""
    if not isinstance(interface, type):
        raise NuropbConfigurationError(
            "interface", f"expected a class or the name of a service, got {interface!r}"
        )
    name = service or getattr(interface, "_service_name", None)
    if not isinstance(name, str):
        raise NuropbConfigurationError(
            "service", f"is missing: give it, or give {interface.__name__} a _service_name"
        )
    return name


@lru_cache(maxsize=256)
def stubs_of(interface: type, calls: Calls = Calls.AWAITED) -> Mapping[str, Stub]:
    """Return the methods of a Protocol, an ABC or a service class, by name.

    Raises NuropbConfigurationError for a method that nobody could call, or whose result cannot be
    checked, and for an interface without methods.
    """
    declares = getattr(interface, "_is_protocol", False) or inspect.isabstract(interface)
    stubs = {}
    for name, function in inspect.getmembers(interface, inspect.isfunction):
        if not name.startswith("_"):
            problem = "" if calls.takes(function) else calls.value
            if problem and declares:
                where = f"{interface.__name__}.{name}"
                raise NuropbConfigurationError("interface", f"{where} {problem}")
            stubs[name] = _stub(interface, name, function, problem)
    if not stubs:
        raise NuropbConfigurationError(
            "interface", f"{interface.__name__} has no public methods, so nothing can be called"
        )
    return stubs


def _stub(interface: type, name: str, function: Any, problem: str) -> Stub:
    where = f"{interface.__name__}.{name}"
    signature = signature_of(function)
    context = marks_of(function).context_parameter
    is_static = isinstance(inspect.getattr_static(interface, name), staticmethod)
    parameters = [*signature.parameters.values()][0 if is_static else 1 :]  # without self
    parameters = [parameter for parameter in parameters if parameter.name != context]
    others = ""
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            others = parameter.name
        elif parameter.kind not in _BY_NAME:
            raise NuropbConfigurationError(
                "interface", f"{where}: parameter {parameter.name!r} cannot be passed by name"
            )
    return Stub(
        name,
        function,
        context,
        signature.replace(parameters=parameters),
        tuple(item.name for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD),
        frozenset(item.name for item in parameters if item.name != others),
        frozenset(
            item.name for item in parameters if item.default is _EMPTY and item.name != others
        ),
        others,
        None if problem else _result(where, function, signature),
        problem,
    )


def _result(where: str, function: Any, signature: inspect.Signature) -> Converter | None:
    hint = result_hint(function, signature)
    if hint is _EMPTY:
        return None
    try:
        return Converters(drops_unknown=True).of(hint)
    except Uncheckable as e:
        raise NuropbConfigurationError(
            "interface", f"{where}: its result: {e}; use a type that can be made from JSON, or Any"
        ) from e
