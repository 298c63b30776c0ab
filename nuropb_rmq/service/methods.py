"""The methods, event handlers and description that a service object publishes.

It publishes the public methods of its class and bases. They are found without touching the object:
no property is read, and callables stored in its attributes are never called, except for a
`_handle_event_`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..exceptions import NuropbConfigurationError, NuropbSerializationError
from ..protocol.serialization import encode_strictly
from .marks import Marks, covers_marks, generates, marks_of
from .parameters import Parameters, Unfit
from .retry import Retry
from .topics import matcher, matches
from .turns import Turns

DESCRIBE: Final = "nuropb_describe"
"""The method that every service answers without defining it."""
HANDLE_EVENT: Final = "_handle_event_"
"""The method for events without another handler."""
_EVENT_PARAMETERS: Final = frozenset({"topic", "event", "target", "context"})


@dataclass(frozen=True, slots=True)
class Method:
    """A method for requests and commands; `call` is bound."""

    name: str
    call: Callable[..., Any]
    is_async: bool
    marks: Marks
    parameters: Parameters
    direct: bool
    """True for async methods without authorize_func, context and max_concurrency: they are called
    at once."""
    turns: Turns | None

    def describe(self) -> dict[str, Any]:
        """Return its part of the service's description."""
        return {
            "description": self.marks.description or inspect.getdoc(self.call),
            "requires_encryption": self.marks.requires_encryption,
            "parameters": self.parameters.describe(),
            **self.parameters.schemas(),
        }


@dataclass(frozen=True, slots=True)
class EventHandler:
    """A method for events; called with those of topic, event, target and context that it takes."""

    name: str
    call: Callable[..., Any]
    is_async: bool
    marks: Marks
    takes: frozenset[str] | None
    """None: all four, by position, as nuropb calls `_handle_event_`."""
    parameters: Parameters
    turns: Turns | None


class Published:
    """The methods, handlers and description of one service object."""

    def __init__(self, service: object, service_name: str, *, checks: bool = True) -> None:
        """Read a service object; `checks`: check and convert the parameters of calls.

        Raises NuropbConfigurationError for methods that could never be called and, if `checks`,
        for parameters that cannot be checked and for an object that publishes nothing.
        """
        self.service_name = service_name
        self._service = service
        self.checks = checks
        self.methods: dict[str, Method] = {}
        self._handlers: list[EventHandler] = []
        # The _handle_event_ of the class.
        self._fallback: EventHandler | None = None
        doc = (service if isinstance(service, type) else type(service)).__doc__
        self._doc = inspect.cleandoc(doc) if doc else None
        self._version = _version(service)
        self.private_key = _private_key(service)
        if checks and isinstance(service, type):
            raise NuropbConfigurationError(
                "service",
                f"is the class {service.__name__}: give an instance of it, {service.__name__}()",
            )
        for name, function, call in _functions(service):
            self._add(name, function, call, _marks(service, name, function))
        # The _handle_event_ that was last found on the object itself, and its handler.
        self._set: tuple[object, EventHandler | None] = (None, None)
        fallback = self.fallback()  # raises now if it could never be called
        if checks and not (self.methods or self._handlers or fallback):
            raise NuropbConfigurationError(
                "service",
                f"{type(service).__name__} publishes nothing: expected an object whose class has "
                "public methods or event handlers",
            )
        self._matchers = [
            (matcher(topic), handler)
            for handler in self._handlers
            for topic in handler.marks.topics
        ]

    def _add(self, name: str, function: Any, call: Callable[..., Any], marks: Marks) -> None:
        is_method = not name.startswith("_") and name != DESCRIBE and not marks.hidden
        if not (name == HANDLE_EVENT or marks.topics or is_method):
            return
        if generates(getattr(function, "__func__", function)):
            if self.checks:
                raise NuropbConfigurationError(
                    "service",
                    f"{name}: is a generator, which cannot be sent as a result: return a list, "
                    "publish events, or hide the method",
                )
        elif name == HANDLE_EVENT:
            self._fallback = _event_handler(name, call, marks, takes_all=True, checks=False)
        elif marks.topics:
            handler = _event_handler(name, call, marks, takes_all=False, checks=self.checks)
            self._handlers.append(handler)
        else:
            parameters = _parameters(name, call, marks, checks=self.checks)
            if parameters is not None:
                is_async = _is_async(call)
                turns = _turns(marks)
                plain = marks.authorize is None and marks.context_parameter is None
                direct = is_async and plain and turns is None
                self.methods[name] = Method(name, call, is_async, marks, parameters, direct, turns)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of all event handlers."""
        return tuple(dict.fromkeys(topic for item in self._handlers for topic in item.marks.topics))

    @property
    def retries(self) -> tuple[Retry, ...]:
        """The Retrys of its methods and handlers."""
        marks = [method.marks for method in self.methods.values()]
        marks += [handler.marks for handler in (*self._handlers, *self.fallback())]
        return tuple(each.retry for each in marks if isinstance(each.retry, Retry))

    @property
    def needs_private_key(self) -> tuple[str, ...]:
        """Names of the methods that cannot be called because there is no private key."""
        if self.private_key is not None:
            return ()
        methods = self.methods.values()
        return tuple(method.name for method in methods if method.marks.requires_encryption)

    def handlers(self, topic: str) -> tuple[EventHandler, ...]:
        """Return the handlers whose topics match this one."""
        found = (handler for pattern, handler in self._matchers if matches(pattern, topic))
        return tuple(dict.fromkeys(found))

    def fallback(self) -> tuple[EventHandler, ...]:
        """Return the `_handle_event_`, if there is one, for events without another handler."""
        handler = self._of_the_object() or self._fallback
        return () if handler is None else (handler,)

    def _of_the_object(self) -> EventHandler | None:
        """Return the `_handle_event_` that is set on the object itself; it may change any time."""
        owner = self._service
        call = None if isinstance(owner, type) else getattr(owner, "__dict__", {}).get(HANDLE_EVENT)
        known, handler = self._set
        if call is not known:
            if call is not None and (not callable(call) or generates(call)):
                raise NuropbConfigurationError(
                    "service",
                    f"its {HANDLE_EVENT} must be a function or coroutine function, not a "
                    + ("generator function" if callable(call) else type(call).__name__),
                )
            handler = None
            if call is not None:
                marks = _marks(owner, HANDLE_EVENT, call)
                handler = _event_handler(HANDLE_EVENT, call, marks, takes_all=True, checks=False)
            self._set = call, handler
        return handler

    def describe(self) -> dict[str, Any]:
        """Return the answer to nuropb_describe."""
        warnings = []
        if self.needs_private_key:
            warnings.append(
                "no private key: methods that require encryption cannot be called: "
                + ", ".join(self.needs_private_key)
            )
        return {
            "service_name": self.service_name,
            "service_version": self._version,
            "description": self._doc,
            "warnings": warnings,
            "encrypted_methods": any(
                method.marks.requires_encryption for method in self.methods.values()
            ),
            "public_key": None if self.private_key is None else _pem(self.private_key),
            "methods": {name: method.describe() for name, method in self.methods.items()},
        }


def _functions(service: object) -> Iterator[tuple[str, object, Callable[..., Any]]]:
    """Yield name, unbound function and bound call of all methods that may be published."""
    owner = service if isinstance(service, type) else type(service)
    names = dict.fromkeys(name for kind in reversed(_classes(owner)) for name in vars(kind))
    for name in sorted(names):
        if name.startswith("__"):
            continue
        function = inspect.getattr_static(owner, name)
        if not _may_be_published(function):
            continue
        of_class = isinstance(function, classmethod | staticmethod)
        if owner is service and not of_class:
            continue  # the service is a class, and this is a method of its instances
        yield name, function, function.__get__(None if owner is service else service, owner)


def _classes(owner: type) -> list[type]:
    """Return the class and its bases without builtins: a dict's own methods are not published."""
    return [kind for kind in owner.__mro__ if kind.__module__ != "builtins"]


def _may_be_published(value: Any) -> bool:
    if isinstance(value, classmethod | staticmethod):
        return inspect.isroutine(value.__func__) and not _is_partial(value.__func__)
    return _is_method(value)


def _is_partial(value: object) -> bool:
    """Return whether it is a partial: only since Python 3.14 is that bound like a function."""
    return isinstance(value, functools.partial)


def _marks(service: object, name: str, function: object) -> Marks:
    """Read a method's marks. Raises NuropbConfigurationError if it drops guards of a base."""
    try:
        marks = marks_of(function)
        if covers_marks(function, name):
            raise TypeError(
                "a decorator hides the publish_to_mesh below it: use functools.wraps in that "
                "decorator, or put publish_to_mesh above it"
            )
        if not marks.hidden:
            owner = service if isinstance(service, type) else type(service)
            _check_override(owner, name, function, marks)
    except TypeError as e:
        raise NuropbConfigurationError("service", f"{name}: {e}") from e
    return marks


def _check_override(owner: type, name: str, function: object, marks: Marks) -> None:
    """Raise TypeError when a base guards the method, and the override does not repeat that."""
    versions = [vars(kind)[name] for kind in _classes(owner) if name in vars(kind)]
    overridden = [
        marks_of(base) for base in versions if base is not function and _may_be_published(base)
    ]
    for argument, none in (("authorize_func", "None"), ("requires_encryption", "False")):
        for found in (marks, *overridden):
            if found.has(argument) and found is not marks:
                raise TypeError(
                    f"it overrides a method that has {argument}, and drops it: pass it to "
                    f"publish_to_mesh again, or {argument}={none} if that is meant"
                )
            if found.has(argument) or argument in found.arguments:
                break


def _is_method(function: Any) -> bool:
    """Return whether it becomes a bound method on look-up; other callables are mere values."""
    if not inspect.isroutine(function) or inspect.ismethod(function) or _is_partial(function):
        return False
    return callable(function) and hasattr(type(function), "__get__")


def _parameters(
    name: str, call: Callable[..., Any], marks: Marks, *, checks: bool
) -> Parameters | None:
    """Read the parameters of a method; None when it has no signature (written in C)."""
    try:
        return Parameters(call, without=marks.context_parameter, checks=checks)
    except ValueError:
        return None
    except Unfit as e:
        raise NuropbConfigurationError("service", f"{name}: {e}") from e


def _event_handler(
    name: str, call: Callable[..., Any], marks: Marks, *, takes_all: bool, checks: bool
) -> EventHandler:
    if marks.requires_encryption:
        raise NuropbConfigurationError(
            "service", f"{name}: requires encryption, and events are never encrypted"
        )
    parameters = _parameters(name, call, marks, checks=checks)
    if parameters is None:
        raise NuropbConfigurationError("service", f"{name} has no signature")
    if takes_all:
        return EventHandler(name, call, _is_async(call), marks, None, parameters, _turns(marks))
    unknown = parameters.fields.required - _EVENT_PARAMETERS
    if unknown:
        raise NuropbConfigurationError(
            "service",
            f"{name}: an event handler gets {', '.join(sorted(_EVENT_PARAMETERS))}, "
            f"not {', '.join(sorted(unknown))}",
        )
    takes = _EVENT_PARAMETERS
    if not parameters.fields.any_name:
        takes = _EVENT_PARAMETERS.intersection(parameters.fields.converters)
    return EventHandler(name, call, _is_async(call), marks, takes, parameters, _turns(marks))


def _turns(marks: Marks) -> Turns | None:
    return None if marks.max_concurrency is None else Turns(marks.max_concurrency)


def _is_async(call: Callable[..., Any]) -> bool:
    # nuropb's own decorators hide an async method in a plain wrapper.
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(inspect.unwrap(call))


def _private_key(service: object) -> rsa.RSAPrivateKey | None:
    key = getattr(service, "_private_key", None)
    if key is not None and not isinstance(key, rsa.RSAPrivateKey):
        raise NuropbConfigurationError(
            "service", f"its _private_key must be an RSAPrivateKey, not {type(key).__name__}"
        )
    return key


def _version(service: object) -> Any:
    """Return the service's _version, as text if it has no form in JSON."""
    version = getattr(service, "_version", None)
    try:
        encode_strictly({"service_version": version})
    except NuropbSerializationError:
        return str(version)
    return version


def _pem(private_key: rsa.RSAPrivateKey) -> str:
    public = private_key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
