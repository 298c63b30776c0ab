"""What a service object publishes: its methods, its event handlers, its description.

Published are the public methods of the object's class and its bases, found without touching the
object: no property is read, and nothing that is merely stored in an attribute is called, but for a
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
from .topics import matcher, matches

__all__ = ["DESCRIBE", "EventHandler", "Method", "Published"]

DESCRIBE: Final = "nuropb_describe"
"""The method that every service answers, and none has."""
HANDLE_EVENT: Final = "_handle_event_"
"""The method that gets the events which no other is marked for."""
_EVENT_PARAMETERS: Final = frozenset({"topic", "event", "target", "context"})


@dataclass(frozen=True, slots=True)
class Method:
    """A method that is called for requests and commands; `call` is bound."""

    name: str
    call: Callable[..., Any]
    is_async: bool
    marks: Marks
    parameters: Parameters
    direct: bool
    """Async, for anybody, and without a context: nothing stands between the message and it."""

    def describe(self) -> dict[str, Any]:
        """Its part of the description."""
        return {
            "description": self.marks.description or inspect.getdoc(self.call),
            "requires_encryption": self.marks.requires_encryption,
            "parameters": self.parameters.describe(),
        }


@dataclass(frozen=True, slots=True)
class EventHandler:
    """What is called for events, with those of topic, event, target and context that it takes."""

    name: str
    call: Callable[..., Any]
    is_async: bool
    marks: Marks
    takes: frozenset[str] | None
    """None: all four, by position, as nuropb calls `_handle_event_`."""
    parameters: Parameters


class Published:
    """The methods, handlers and description of one service object."""

    def __init__(self, service: object, service_name: str, *, checks: bool = True) -> None:
        """`checks`: what comes is checked and converted, and the service as well.

        Raises NuropbConfigurationError for methods that could never be called and, when it
        `checks`, for parameters that cannot be, and for what publishes nothing.
        """
        self.service_name = service_name
        self._service = service
        self.checks = checks
        self.methods: dict[str, Method] = {}
        self._handlers: list[EventHandler] = []
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
        self._set: tuple[object, EventHandler | None] = (None, None)
        fallback = self.fallback()  # what could never be called is told now
        if checks and not (self.methods or self._handlers or fallback):
            raise NuropbConfigurationError(
                "service",
                f"{type(service).__name__} publishes nothing: an object is needed whose class has "
                "public methods, or handlers of events",
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
                    f"{name}: is a generator, and what that returns is no result: return a list, "
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
                direct = is_async and marks.authorize is None and marks.context_parameter is None
                self.methods[name] = Method(name, call, is_async, marks, parameters, direct)

    @property
    def topics(self) -> tuple[str, ...]:
        """What the handlers of events are bound to."""
        return tuple(dict.fromkeys(topic for each in self._handlers for topic in each.marks.topics))

    @property
    def needs_private_key(self) -> tuple[str, ...]:
        """The methods that cannot be called, for want of a private key."""
        if self.private_key is not None:
            return ()
        return tuple(each.name for each in self.methods.values() if each.marks.requires_encryption)

    def handlers(self, topic: str) -> tuple[EventHandler, ...]:
        """Return those that are marked for events of this topic."""
        found = (each for expression, each in self._matchers if matches(expression, topic))
        return tuple(dict.fromkeys(found))

    def fallback(self) -> tuple[EventHandler, ...]:
        """Return `_handle_event_`, if there is one: it gets what no handler is marked for."""
        handler = self._of_the_object() or self._fallback
        return () if handler is None else (handler,)

    def _of_the_object(self) -> EventHandler | None:
        """Return the `_handle_event_` that was set on the object itself, perhaps a moment ago."""
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
        """The answer to nuropb_describe."""
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
                each.marks.requires_encryption for each in self.methods.values()
            ),
            "public_key": None if self.private_key is None else _pem(self.private_key),
            "methods": {name: each.describe() for name, each in self.methods.items()},
        }


def _functions(service: object) -> Iterator[tuple[str, object, Callable[..., Any]]]:
    """Name, function as the class has it, and the bound call, of all that may be published."""
    owner = service if isinstance(service, type) else type(service)
    names = dict.fromkeys(name for each in reversed(_classes(owner)) for name in vars(each))
    for name in sorted(names):
        if name.startswith("__"):
            continue
        function = inspect.getattr_static(owner, name)
        if not _may_be_published(function):
            continue
        of_class = isinstance(function, classmethod | staticmethod)
        if owner is service and not of_class:
            continue  # a class is served, and this is a method of its instances
        yield name, function, function.__get__(None if owner is service else service, owner)


def _classes(owner: type) -> list[type]:
    """The class and its bases: what a service has for being a dict, say, is nobody's business."""
    return [each for each in owner.__mro__ if each.__module__ != "builtins"]


def _may_be_published(value: Any) -> bool:
    if isinstance(value, classmethod | staticmethod):
        return inspect.isroutine(value.__func__) and not _is_partial(value.__func__)
    return _is_method(value)


def _is_partial(value: object) -> bool:
    """Before Python 3.14 it is a value like another; since then it is bound as a function is."""
    return isinstance(value, functools.partial)


def _marks(service: object, name: str, function: object) -> Marks:
    """What the decorators say of a method, which may drop nothing of what it overrides."""
    try:
        marks = marks_of(function)
        if covers_marks(function, name):
            raise TypeError(
                "a decorator hides what publish_to_mesh says below it: use functools.wraps in that "
                "decorator, or put publish_to_mesh above it"
            )
        if not marks.hidden:
            owner = service if isinstance(service, type) else type(service)
            _check_override(owner, name, function, marks)
    except TypeError as e:
        raise NuropbConfigurationError("service", f"{name}: {e}") from e
    return marks


def _check_override(owner: type, name: str, function: object, marks: Marks) -> None:
    """Raises TypeError when a base guards the method, and the override does not say so anew."""
    versions = [vars(each)[name] for each in _classes(owner) if name in vars(each)]
    overridden = [
        marks_of(each) for each in versions if each is not function and _may_be_published(each)
    ]
    for argument, none in (("authorize_func", "None"), ("requires_encryption", "False")):
        for each in (marks, *overridden):
            if each.has(argument) and each is not marks:
                raise TypeError(
                    f"it overrides a method that has {argument}, and drops it: give it to "
                    f"publish_to_mesh again, or {argument}={none} if that is meant"
                )
            if each.has(argument) or argument in each.said:
                break


def _is_method(function: Any) -> bool:
    """A function that is bound to the object when it is looked up; other callables are values."""
    if not inspect.isroutine(function) or inspect.ismethod(function) or _is_partial(function):
        return False
    return callable(function) and hasattr(type(function), "__get__")


def _parameters(
    name: str, call: Callable[..., Any], marks: Marks, *, checks: bool
) -> Parameters | None:
    """None: it is written in C and has no signature, so nobody can know how to call it."""
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
        return EventHandler(name, call, _is_async(call), marks, None, parameters)
    unknown = parameters.fields.required - _EVENT_PARAMETERS
    if unknown:
        raise NuropbConfigurationError(
            "service",
            f"{name}: a handler of events is given {', '.join(sorted(_EVENT_PARAMETERS))}, "
            f"not {', '.join(sorted(unknown))}",
        )
    takes = _EVENT_PARAMETERS
    if not parameters.fields.any_name:
        takes = _EVENT_PARAMETERS.intersection(parameters.fields.converters)
    return EventHandler(name, call, _is_async(call), marks, takes, parameters)


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
    """Its _version, as text when JSON has no other form for it."""
    version = getattr(service, "_version", None)
    try:
        encode_strictly({"service_version": version})
    except NuropbSerializationError:
        return str(version)
    return version


def _pem(private_key: rsa.RSAPrivateKey) -> str:
    public = private_key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
