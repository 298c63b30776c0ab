"""A broker in memory for tests: holds it, records its messages, and starts meshes on it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from .recorded import RecordedMessage, recorded

if TYPE_CHECKING:
    from ..memory.message import Stored
    from ..mesh.mesh import Mesh

__all__ = ["MemoryBroker", "MemoryMesh", "memory_broker"]

DESCRIBE = "nuropb_describe"
"""The method by which a mesh asks a service what it has, before the first call."""
GRACE = 1.0
"""Seconds that handlers have left at the end of a test."""

_numbers = count(1)


class MemoryBroker:
    """The messages of one broker in memory, in the order in which it took them.

    commands(), requests(), events() and dead_letters() return what came so far. command(),
    request(), event() and dead_letter() wait for one: they return a message that came already,
    unless they have returned it before, or the next that comes, and fail with an AssertionError
    when `timeout` seconds pass without one.
    """

    def __init__(self, name: str) -> None:
        self.name: str = name
        # What came and nobody has looked at: few tests look at all of it, and reading takes time.
        self._unread: deque[tuple[Stored, bool]] = deque()
        self._read: list[RecordedMessage] = []
        self._reading = threading.Lock()
        self._numbers = count(1)
        self._returned: set[int] = set()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def __repr__(self) -> str:
        return f"<MemoryBroker {self.url}>"

    @property
    def url(self) -> str:
        """The URL for Mesh, TransportConfig and all else that takes one."""
        return f"memory://{self.name}"

    # -- what came so far -------------------------------------------------------------------

    @property
    def messages(self) -> list[RecordedMessage]:
        """All of them: responses, and requests for a service's description, too."""
        with self._reading:
            while self._unread:
                message, dead = self._unread.popleft()
                self._read.append(recorded(message, next(self._numbers), dead=dead))
            return self._read.copy()

    def requests(
        self, service: str | None = None, method: str | None = None
    ) -> list[RecordedMessage]:
        """Return the requests to a service (None: any), for a method (None: any).

        Requests for a description, which a mesh makes by itself, are left out, unless `method` is
        "nuropb_describe". A request or command that is called again counts once.
        """
        return self._calls("request", service, method)

    def commands(
        self, service: str | None = None, method: str | None = None
    ) -> list[RecordedMessage]:
        """Return the commands to a service (None: any), for a method (None: any)."""
        return self._calls("command", service, method)

    def events(self, pattern: str = "#") -> list[RecordedMessage]:
        """Return the events whose topic matches; `*` is one word, `#` any number of words."""
        from ..service.topics import matcher, matches

        words = matcher(pattern)
        return [each for each in self._sent("event") if matches(words, each.topic or "")]

    def dead_letters(self, service: str | None = None) -> list[RecordedMessage]:
        """Return what the queue of a service (None: any) gave up: failed, expired, too many.

        A service with a queue of another name (`service_queue`) is found by that name, too.
        """
        return [
            each
            for each in self.messages
            if each.queue is not None
            and service in {None, each.service, each.queue, _service_of(each.queue)}
        ]

    def clear(self) -> None:
        """Forget what came so far."""
        with self._reading:
            self._unread.clear()
            self._read.clear()

    # -- waiting for one --------------------------------------------------------------------

    async def request(
        self, service: str | None = None, method: str | None = None, *, timeout: float = 1.0
    ) -> RecordedMessage:
        """Wait for a request; see requests()."""
        __tracebackhide__ = True
        wanted = f"a request to {_called(service, method)}"
        return await self._next(wanted, lambda: self.requests(service, method), timeout)

    async def command(
        self, service: str | None = None, method: str | None = None, *, timeout: float = 1.0
    ) -> RecordedMessage:
        """Wait for a command; see commands()."""
        __tracebackhide__ = True
        wanted = f"a command to {_called(service, method)}"
        return await self._next(wanted, lambda: self.commands(service, method), timeout)

    async def event(self, pattern: str = "#", *, timeout: float = 1.0) -> RecordedMessage:
        """Wait for an event; see events()."""
        __tracebackhide__ = True
        return await self._next(f"an event {pattern!r}", lambda: self.events(pattern), timeout)

    async def dead_letter(
        self, service: str | None = None, *, timeout: float = 1.0
    ) -> RecordedMessage:
        """Wait for a dead letter; see dead_letters()."""
        __tracebackhide__ = True
        wanted = f"a dead letter of {service or 'any service'}"
        return await self._next(wanted, lambda: self.dead_letters(service), timeout)

    async def _next(
        self, wanted: str, find: Callable[[], list[RecordedMessage]], timeout: float
    ) -> RecordedMessage:
        __tracebackhide__ = True
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        waiting = loop, came
        # Before the first look: the broker may be in another thread, as with a TestClient.
        self._waiting.append(waiting)
        deadline = loop.time() + timeout
        try:
            while True:
                came.clear()
                for each in find():
                    if each.number not in self._returned:
                        self._returned.add(each.number)
                        return each
                try:
                    async with asyncio.timeout_at(deadline):
                        await came.wait()
                except TimeoutError:
                    break
        finally:
            self._waiting.remove(waiting)
        before = len(find())
        returned = f" ({before} came, and had been returned before)" if before else ""
        raise AssertionError(
            f"expected {wanted} within {timeout:g} s{returned}; all that came: {self._all()}"
        )

    def _all(self) -> str:
        """Say what was sent, without payloads."""
        sent = [m for m in self.messages if m.kind != "response" and m.method != DESCRIBE]
        counted = Counter(map(str, sent))
        named = (what if n == 1 else f"{what} ({n} times)" for what, n in counted.items())
        return ", ".join(named) or "nothing"

    # -- recording --------------------------------------------------------------------------

    def record(self, message: Stored, dead: bool) -> None:
        """Take note of a message; the broker calls it."""
        self._unread.append((message, dead))
        for loop, came in tuple(self._waiting):
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(came.set)

    def _sent(self, kind: str) -> list[RecordedMessage]:
        # A message that is called again comes by the default exchange, which has no name.
        return [
            each
            for each in self.messages
            if each.kind == kind and each.queue is None and each.exchange
        ]

    def _calls(self, kind: str, service: str | None, method: str | None) -> list[RecordedMessage]:
        return [
            each
            for each in self._sent(kind)
            if service in {None, each.service}
            and (each.method == method if method else each.method != DESCRIBE)
        ]


class MemoryMesh:
    """Makes meshes on a broker in memory and starts them; the fixture `memory_mesh`."""

    def __init__(self, url: str) -> None:
        self.url: str = url
        self._made: list[Mesh] = []

    async def __call__(self, service: object | None = None, **options: Any) -> Mesh:
        """Return a started Mesh that serves an object, or with None only calls.

        `options` are those of Mesh: service_name, request_timeout, … It is stopped at the end of
        the test, and may be stopped before. Raises what Mesh() and Mesh.start() raise.
        """
        from ..mesh.mesh import Mesh

        made = Mesh(options.pop("amqp_url", self.url), service=service, **options)
        self._made.append(made)
        await made.start()
        return made

    async def stop(self, *, grace: float = GRACE) -> None:
        """Stop all meshes; handlers have `grace` seconds to end. The fixture calls it."""
        made, self._made = self._made, []
        await asyncio.gather(*(each.stop(grace=grace) for each in made))


@contextmanager
def memory_broker(name: str | None = None) -> Iterator[MemoryBroker]:
    """Hold the broker `memory://NAME` of this process, and record its messages.

    Without a name it has one that no other broker of this machine has. It keeps its queues while
    no mesh is connected, and ends with this context and its last mesh. Meshes of one event loop
    at a time can use it. Raises NuropbConfigurationError for a name that cannot stand in a URL.
    """
    from ..config.address import Broker
    from ..memory.host import held

    made = MemoryBroker(unique_name("broker") if name is None else name)
    Broker.parse(made.url)
    with held(made.name, made.record):
        yield made


def unique_name(text: str) -> str:
    """Return a name for a broker that no other test has, in whichever process."""
    readable = "".join(each if each.isalnum() or each in "_-." else "-" for each in text[:60])
    return f"{readable}-{os.getpid()}-{next(_numbers)}"


def _service_of(queue: str) -> str:
    """Return the service whose queue has this name by default."""
    return queue.removeprefix("nuropb-").removesuffix("-sq")


def _called(service: str | None, method: str | None) -> str:
    return f"{service or 'any service'}{f'.{method}' if method else ''}"
