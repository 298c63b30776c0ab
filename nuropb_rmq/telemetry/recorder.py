"""Record what Stats has not: durations, outcomes and errors of messages, by bounded names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from ..exceptions import NuropbException
from ..protocol.acknowledgement import DONE, Outcome
from ..protocol.constants import COMMAND, EVENT, REQUEST, MessageType
from ..service.topics import matcher, matches
from ..transport.transport import Transport
from .histograms import BOUNDS, Histogram
from .names import LONGEST, OTHER, Names

MOST_ERRORS: Final = 20
"""Classes of errors that are counted each for one method; the others count as _OTHER."""
_TOPICS_REMEMBERED: Final = 1024


class Handled(Histogram):
    """Durations of the handlers of one method, or of one binding, and their outcomes."""

    __slots__ = ("outcomes",)

    def __init__(self) -> None:
        super().__init__()
        self.outcomes = dict.fromkeys(Outcome, 0)


class Requested(Histogram):
    """Durations of the requests of one method, at their caller."""

    __slots__ = ("errors", "method", "results", "service")

    def __init__(self, service: str, method: str) -> None:
        super().__init__()
        self.service = service
        self.method = method
        self.results = 0
        """Number of those that got a result."""
        self.errors: dict[str, int] = {}
        """Number of the others, by the class name of their error."""

    def failed(self, error: str) -> None:
        """Count a request that has ended with this error."""
        name = error if error in self.errors or self._admits(error) else OTHER
        self.errors[name] = self.errors.get(name, 0) + 1

    def _admits(self, error: str) -> bool:
        """Return whether a service's word for its error may be a name of its own."""
        return len(self.errors) < MOST_ERRORS and len(error) <= LONGEST and error.isidentifier()


class Published(Histogram):
    """Times of the messages of one type, from being posted to the broker's confirm."""

    __slots__ = ("errors",)

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, int] = {}
        """Number of those that the broker has not confirmed, by the class name of their error."""

    def confirmed(self, posted_at: float, error: NuropbException | None) -> None:
        """Count the outcome of a message that was posted then, by time.monotonic()."""
        if error is None:
            seconds = monotonic() - posted_at
            self.counts[bisect_left(BOUNDS, seconds)] += 1  # as add(), without a call
            self.total += seconds
        else:
            name = type(error).__name__
            self.errors[name] = self.errors.get(name, 0) + 1


class _Shared:
    """The recorder of one transport, and how many read it."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.readers = 0


_shared: Final[WeakKeyDictionary[Transport, _Shared]] = WeakKeyDictionary()


def recording_of(transport: Transport) -> tuple[Recorder, Callable[[], None]]:
    """Return the recorder of a transport, which all registries share, and what ends its use.

    It records until nobody uses it any more. A second call of what ends it does nothing.
    """
    shared = _shared.get(transport)
    if shared is None:
        shared = _Shared(Recorder(transport.methods, transport.config.event_bindings))
        _shared[transport] = shared
        transport.record(shared.recorder)
    shared.readers += 1
    reference = ref(transport)
    ended = False

    def end() -> None:
        nonlocal ended
        if ended:  # the others still use it
            return
        ended = True
        shared.readers -= 1
        transport = reference()
        if not shared.readers and transport is not None:
            transport.record(None)
            del _shared[transport]

    return shared.recorder, end


class Recorder:
    """Adds up what happens in a transport, in the loop's thread; any thread may read it.

    `methods` are the methods that the service publishes, and `bindings` the topics, with wildcards,
    that it listens to. Other methods are admitted once they have been called with success, so that
    callers' inventions make no series; see Names. It is a Recording (transport/recording).
    """

    def __init__(self, methods: Collection[str] = (), bindings: Sequence[str] = ()) -> None:
        self.handled_by: dict[MessageType, dict[str, Handled]] = {
            REQUEST: {},
            COMMAND: {},
            EVENT: {},
        }
        """By type, and by method, or by the binding through which an event came."""
        self.requests: dict[str, Requested] = {}
        """By service/method."""
        self.published = {kind: Published() for kind in MessageType}
        self._methods = Names(methods)
        self._called = Names()
        self._binding = _binding_of(bindings)

    def handled(
        self, kind: MessageType, payload: Mapping[str, Any], outcome: Outcome, began: float
    ) -> None:
        """Count the end of a handler that began then, by time.monotonic()."""
        seconds = monotonic() - began
        # A handler may have changed its payload.
        name = payload.get("topic" if kind is EVENT else "method")
        if type(name) is not str:
            name = OTHER
        elif kind is EVENT:
            name = self._binding(name)
        found = self.handled_by[kind].get(name) or self._new_handled(kind, name, outcome)
        found.counts[bisect_left(BOUNDS, seconds)] += 1  # as add(), without a call
        found.total += seconds
        found.outcomes[outcome] += 1

    def _new_handled(self, kind: MessageType, name: str, outcome: Outcome) -> Handled:
        if kind is not EVENT:
            name = self._methods.admit(name) if outcome is DONE else self._methods.of(name)
        return self.handled_by[kind].setdefault(name, Handled())

    def request_ended(
        self, payload: Mapping[str, Any], error: str | None, posted_at: float
    ) -> None:
        """Count the end of a request that was posted then, by time.monotonic()."""
        name = f"{payload['service']}/{payload['method']}"
        found = self.requests.get(name) or self._new_requested(payload, name, error)
        seconds = monotonic() - posted_at
        found.counts[bisect_left(BOUNDS, seconds)] += 1  # as add(), without a call
        found.total += seconds
        if error is None:
            found.results += 1
        else:
            found.failed(error)

    def _new_requested(self, payload: Mapping[str, Any], name: str, error: str | None) -> Requested:
        name = self._called.admit(name) if error is None else self._called.of(name)
        if name == OTHER:
            return self.requests.setdefault(OTHER, Requested(OTHER, OTHER))
        return self.requests.setdefault(name, Requested(payload["service"], payload["method"]))


def _binding_of(bindings: Sequence[str]) -> Callable[[str], str]:
    """Return a function that tells by which of the bindings an event came."""
    matchers: Mapping[str, tuple[str, ...]] = {each: matcher(each) for each in bindings}

    @lru_cache(_TOPICS_REMEMBERED)
    def binding(topic: str) -> str:
        return next((each for each, words in matchers.items() if matches(words, topic)), OTHER)

    return binding
