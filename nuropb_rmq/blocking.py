"""Mesh for programs without an event loop: Django, scripts, notebooks, threads.

::

    from nuropb_rmq import blocking

    with blocking.Mesh("amqp://guest:guest@localhost/") as mesh:
        order = mesh.request("orders", "get", {"number": 7}, timeout=5)

Importing nuropb_rmq does not import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from .broker.state import State, StateCallback
from .config.address import AmqpUrl
from .config.outage import Outage
from .config.settings import TransportConfig
from .config.times import grace_period
from .exceptions import NuropbTransportError
from .mesh.client import Calls, Client, new_client
from .mesh.compatibility import check
from .mesh.hosted import Hosted
from .mesh.mesh import Mesh as AwaitedMesh
from .mesh.settings import Configured
from .protocol.encryption import KEY_LIFETIME, KEY_USES
from .service.retry import Retry
from .transport.observer import Observer
from .transport.stats import Stats
from .transport.transport import DEFAULT_GRACE

__all__ = ["Mesh"]

T = TypeVar("T")


class Mesh:
    """nuropb_rmq.Mesh with calls that block: the same arguments, methods and errors, no await.

    It runs an event loop in a daemon thread of its own, from start() to stop(). Every method may
    be called from any thread, by many threads at once. The service's methods run as they do with
    nuropb_rmq.Mesh: async ones in the loop's thread, the others in a pool of threads, where they
    may use this mesh, too. Observers and callbacks are called in the loop's thread.

    Ctrl-C ends a call at once: it is cancelled in the loop, and KeyboardInterrupt is raised.

    A call raises NuropbTransportError where it would block a running event loop, except a
    notebook's, and in the loop's own thread, where it would wait for itself.

    After os.fork() it goes on in the parent. In the child it is stopped, and calls raise
    TransportClosedError, until start() is called there. So start it after the fork, for example in
    the worker processes of gunicorn.

    When the interpreter exits before stop(), it is stopped then: handlers have a second to finish,
    and other messages go back to the queue. When it is garbage collected before stop(), it is
    stopped with a ResourceWarning.

    Meshes on one memory:// broker share one loop and thread.
    """

    def __init__(
        self,
        amqp_url: AmqpUrl | TransportConfig,
        *,
        service_name: str | None = None,
        service: object | None = None,
        instance_id: str | None = None,
        event_bindings: Sequence[str] = (),
        prefetch_count: int | None = None,
        request_timeout: float | None = None,
        start_timeout: float | None = None,
        configure: Configured = True,
        management_url: str | None = None,
        sync_in_threads: bool = True,
        log_error_text: bool | None = None,
        dead_letter_requests: bool | None = None,
        retry: Retry | None = None,
        outage: Outage | None = None,
        key_uses: int = KEY_USES,
        key_lifetime: float = KEY_LIFETIME,
        health: bool = False,
    ) -> None:
        make = partial(
            AwaitedMesh,
            amqp_url,
            service_name=service_name,
            service=service,
            instance_id=instance_id,
            event_bindings=event_bindings,
            prefetch_count=prefetch_count,
            request_timeout=request_timeout,
            start_timeout=start_timeout,
            configure=configure,
            management_url=management_url,
            sync_in_threads=sync_in_threads,
            log_error_text=log_error_text,
            dead_letter_requests=dead_letter_requests,
            retry=retry,
            outage=outage,
            key_uses=key_uses,
            key_lifetime=key_lifetime,
            health=health,
        )
        self._hosted = Hosted(make)

    def __repr__(self) -> str:
        return repr(self._hosted.mesh).replace("<Mesh", "<blocking.Mesh", 1)

    # -- what it is -------------------------------------------------------------------------

    @property
    def service_name(self) -> str:
        """The name under which it serves and calls."""
        return self._hosted.mesh.service_name

    @property
    def instance_id(self) -> str:
        """Its instance id; "" before the first start() unless it was given."""
        return self._hosted.mesh.instance_id

    @property
    def state(self) -> State:
        """Its state; see State."""
        return self._hosted.mesh.state

    @property
    def error(self) -> NuropbTransportError | None:
        """The error behind the state, or None; after a failed start(), the error it raised."""
        return self._hosted.mesh.error

    def on_state_change(self, callback: StateCallback) -> Callable[[], None]:
        """Call `callback(state, error)` after every change; return a function that removes it.

        It is called in the thread of the event loop: it must be quick, must not block, and cannot
        call the mesh. Let it put a note into a queue, or set a threading.Event.
        """
        return self._hosted.listen(lambda mesh: mesh.on_state_change(callback))

    def stats(self) -> Stats:
        """Return its counts since it was made, and the levels of this moment."""
        return self._hosted.mesh.stats()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Add an observer of all messages; return a function that removes it.

        Its methods are called in the thread of the event loop; see on_state_change().
        """
        return self._hosted.listen(lambda mesh: mesh.observe(observer))

    def attach(self, add: Callable[[AwaitedMesh], Callable[[], None]]) -> Callable[[], None]:
        """Call `add` with the nuropb_rmq.Mesh behind it, and with another one after a fork.

        `add` returns a function that undoes it, and so does this. For nuropb_rmq.telemetry.
        """
        return self._hosted.listen(add)

    def wait_for(self, *states: State, timeout: float | None = None) -> State:
        """Wait up to `timeout` seconds until the state is one of `states`; return it.

        Raises NuropbTimeoutError, and TransportClosedError when it fails or stops meanwhile.
        """
        return self._hosted.call(AwaitedMesh.wait_for, *states, timeout=timeout)

    # -- start and stop ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the loop's thread, connect and serve; see nuropb_rmq.Mesh.start().

        Raises what that raises, and no thread is left then. After Ctrl-C what was begun is closed
        in the background. It can be started again after stop(), and in a forked child.
        """
        self._hosted.start()

    def stop(self, *, grace: float = DEFAULT_GRACE) -> None:
        """Stop consuming, let handlers finish for up to `grace` seconds, and end the loop's thread.

        Calls that wait in other threads end with TransportClosedError. Unfinished messages go back
        to the queue. A synchronous method that still runs is not interrupted, and the process
        cannot exit before it returns. A second call waits for the same end. After Ctrl-C it stops
        in the background, without grace. Raises NuropbTimeoutError when something blocks the loop.
        """
        self._hosted.stop(grace_period(grace))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- calling ----------------------------------------------------------------------------

    def request(
        self,
        service: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        trace_id: str | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> Any:
        """Call a method of a service and return its result.

        Arguments and errors are those of nuropb_rmq.Mesh.request(). Ctrl-C cancels: the response
        is dropped.
        """
        return self._hosted.call(
            AwaitedMesh.request,
            service,
            method,
            params,
            context=context,
            timeout=timeout,
            trace_id=trace_id,
            priority=priority,
            encrypted=encrypted,
        )

    @overload
    def client(
        self,
        interface: Callable[..., T],
        service: str | None = None,
        *,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> T: ...

    @overload
    def client(
        self,
        interface: str,
        *,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> Client[Any]: ...

    def client(
        self,
        interface: Callable[..., T] | str,
        service: str | None = None,
        *,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> T | Client[Any]:
        """Return an object whose methods call those of a service, with request().

        As nuropb_rmq.Mesh.client(), but the methods of a Protocol or ABC are declared with `def`.
        Of the service's own class, async methods cannot be called: TypeError. It is used from any
        thread, as the mesh is.
        """
        options = {
            "timeout": timeout,
            "context": context,
            "priority": priority,
            "encrypted": encrypted,
        }
        return new_client(self.request, interface, service, options, Calls.BLOCKING)

    def command(
        self,
        service: str,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        trace_id: str | None = None,
        priority: int | None = None,
        encrypted: bool | None = None,
    ) -> None:
        """Call a method without an answer; return when the broker has the command.

        Arguments and errors are those of nuropb_rmq.Mesh.command(). After Ctrl-C a command that
        was not written yet is never sent.
        """
        self._hosted.call(
            AwaitedMesh.command,
            service,
            method,
            params,
            context=context,
            ttl=ttl,
            timeout=timeout,
            trace_id=trace_id,
            priority=priority,
            encrypted=encrypted,
        )

    def publish_event(
        self,
        topic: str,
        event: Any,
        *,
        target: Sequence[Any] | None = None,
        context: Mapping[str, Any] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        trace_id: str | None = None,
        priority: int | None = None,
    ) -> None:
        """Publish an event; return when the broker has it. See nuropb_rmq.Mesh.publish_event()."""
        self._hosted.call(
            AwaitedMesh.publish_event,
            topic,
            event,
            target=target,
            context=context,
            ttl=ttl,
            timeout=timeout,
            trace_id=trace_id,
            priority=priority,
        )

    # -- what services say of themselves ------------------------------------------------------

    def check(
        self, interface: type, service: str | None = None, *, timeout: float | None = None
    ) -> None:
        """Compare an interface for client() with a service. See nuropb_rmq.Mesh.check()."""
        self._hosted.call(check, interface, service, calls=Calls.BLOCKING, timeout=timeout)

    def describe_service(
        self, service_name: str, *, refresh: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return a service's description. See nuropb_rmq.Mesh.describe_service()."""
        return self._hosted.call(
            AwaitedMesh.describe_service, service_name, refresh=refresh, timeout=timeout
        )

    def requires_encryption(self, service_name: str, method_name: str) -> bool:
        """Return whether calls of this method must be encrypted.

        Raises NuropbValidationError when the service does not have it.
        """
        return self._hosted.call(AwaitedMesh.requires_encryption, service_name, method_name)

    def has_public_key(self, service_name: str) -> bool:
        """Return whether the service has a public key, so that calls can be encrypted."""
        return self._hosted.call(AwaitedMesh.has_public_key, service_name)
