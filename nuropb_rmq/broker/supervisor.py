"""Keep a connection and its session alive, in one supervisor task.

Why: docs/decisions/007-names-of-response-queues.md
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerUnreachableError,
    ConnectionLostError,
    InstanceInUseError,
    NuropbTransportError,
    TransportClosedError,
)
from ..safe_logging import ServiceLog, report
from ..waiting import shielded, timeout_at
from .backoff import pause
from .connecting import Connection, new_connection
from .connection import CLOSE_WITHIN
from .error_translation import ending, located
from .quiet import quietly
from .session import Role, Session
from .state import State
from .watch import noticed_after

logger = logging.getLogger("nuropb_rmq.broker")

SessionFactory = Callable[[Connection, Role, bool], Session]
"""Makes a session; the last argument is True for a response queue of another name."""
SETUP_PAUSE = 0.25
"""Seconds, about, between tries to set up a session on a connection that is up."""
SETTLED_AFTER = 5.0
"""Seconds after which a session counts as one that worked."""
UNSETTLED_FOR = 120.0
"""Seconds, about, that a cluster may take to detect a dead node (twice net_ticktime)."""
SUSPECT_AFTER = 1.0
"""Seconds that it takes, with new leaders, if the operating system reports the death."""
LOCKED_FOR = 2.0
"""Seconds for which our own response queue may stay locked before it gets another name."""
LOCKED_HEARTBEATS = 3.5
"""Heartbeats for which a lost connection of ours may lock our response queue: the broker closes
that connection after two to three."""


class Link:
    """Connects, sets up a session, waits for its end, and begins again, until stop().

    `state` is READY, BLOCKED, RECOVERING, CONNECTING, STOPPED or FAILED; `error` is the latest
    error, or the cause when FAILED. `on_change` is called after every change of either.
    """

    def __init__(
        self,
        config: TransportConfig,
        role: Role,
        *,
        instance_id: str,
        new_session: SessionFactory,
        on_change: Callable[[Link], None],
    ) -> None:
        self.role = role
        self.state = State.CONNECTING
        self.error: NuropbTransportError | None = None
        self._config = config
        self._instance_id = instance_id
        names = (config.service_name, instance_id)
        self._log = ServiceLog(logger, *names, connection=role.name.lower())
        self._new_session = new_session
        self._on_change = on_change
        self._session: Session | None = None
        self._connection: Connection | None = None
        # All times are in loop time.
        self._was_ready = False
        self._locked_since: float | None = None
        # The queue that is locked is the response queue, which may get another name.
        self._renewable = False
        # Session.refused of all sessions.
        self._refused: set[str] = set()
        # Sessions in a row that ended within SETTLED_AFTER.
        self._tries = 0
        # That of the latest session: another one means another connection.
        self._router: object = None
        # The latest new connection, perhaps to another node.
        self._moved_at = -math.inf
        self._away_since = 0.0
        # The deadlines of stop() and start().
        self._closed_by = math.inf
        self._deadline = math.inf
        # Resolved when the first session is ready.
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    def begin(self, deadline: float) -> None:
        """Begin to connect, until `deadline`, in loop time; wait with `started`."""
        if self.state is State.STOPPED:
            raise TransportClosedError("stopped before it was started")
        self._deadline = deadline
        self._task = asyncio.create_task(
            self._supervise(), name=f"nuropb-link-{self.role.name.lower()}"
        )

    async def started(self) -> None:
        """Wait until the first session is ready; raise the NuropbTransportError if it fails."""
        await shielded(self._first)

    async def stop(self, deadline: float) -> None:
        """Close session and connection; return when nothing of them is left.

        The socket is aborted if that takes until `deadline`, in loop time.
        """
        self._closed_by = deadline
        self._set(State.STOPPED, None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        # A task that is cancelled before its first step never runs, nor does its `finally`.
        self._start_failed(TransportClosedError("stopped before it was ready"))

    @property
    def cancelled(self) -> bool:
        """True while the supervisor is being cancelled, by stop() or the end of the event loop."""
        return self._task is not None and self._task.cancelling() > 0

    def abandon(self) -> None:
        """Close only the socket, because the event loop of all else is closed."""
        if self._connection is not None:
            self._connection.abandon()

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue; see Session.stop_consuming."""
        if self._session is not None:
            await self._session.stop_consuming()

    # -- the supervisor ---------------------------------------------------------------------

    @quietly
    async def _supervise(self) -> None:
        connection = self._connection = new_connection(
            self._config,
            purpose=self.role.name.lower(),
            instance_id=self._instance_id,
            on_blocked=self._blocked,
            on_lost=self._lost,
        )
        try:
            await self._open(connection)
            while True:
                async with asyncio.timeout_at(None if self._was_ready else self._due()):
                    await connection.usable()
                await self._live(connection)
        except TimeoutError as e:
            await connection.shut()
            self._fail(BrokerUnreachableError(f"{self._config.broker}: lost during start", None, e))
        except NuropbTransportError as e:
            await connection.shut()
            self._fail(e)
        except asyncio.CancelledError:
            left = self._closed_by - asyncio.get_running_loop().time()
            await connection.shut(max(0.0, min(left, CLOSE_WITHIN)))
            raise
        except Exception as e:  # noqa: BLE001 - it is the task's outermost loop
            never = "%s: the supervisor failed (a bug in nuropb_rmq)"
            report(self._log, logging.ERROR, e, never, self._config.broker)
            await connection.shut()
            self._fail(
                NuropbTransportError(f"{self._config.broker}: internal error: {e!r}", None, e)
            )
        finally:
            self._start_failed(TransportClosedError("stopped before it was ready"))

    async def _open(self, connection: Connection) -> None:
        timeout = self._config.connect_timeout
        try:
            async with timeout_at(self._deadline):
                await connection.open()
        except TimeoutError as e:
            raise BrokerUnreachableError(
                f"{self._config.broker}: no answer in {timeout:g} s (connect_timeout)"
            ) from e

    async def _live(self, connection: Connection) -> None:
        """Run one session, from setup to its end, or one failed try at it."""
        fresh, self._router = connection.router is not self._router, connection.router
        renews = self._renews(moved=fresh and self._moves())
        session = self._session = self._new_session(connection, self.role, renews)
        session.suspect_after = self._suspect_after()
        session.refused = self._refused
        session.recovers = fresh and self._was_ready
        # A new connection may make what is missing at once: others have to connect again, too. On
        # an old one, others must have time to notice that it is missing.
        missing_for = connection.retry_limit.missing_for
        session.may_declare = fresh or missing_for >= noticed_after(self._config)
        loop = asyncio.get_running_loop()
        final, lived = False, 0.0
        try:
            await self._set_up(session, connection)
            connection.settled()
            self._ready(connection)
            began = loop.time()
            trouble = ending(self._config.broker, await session.ended)
            lived = loop.time() - began
            final = connection.should_give_up(trouble)
        except NuropbTransportError as e:
            trouble = e
            self._renewable = session.declares_response_queue
            final = self._is_final(connection, e)
        except asyncio.CancelledError:
            await session.close("stopped", with_connection=True)
            raise
        self._session = None
        self._recovering(trouble)
        await session.close("the session ended", with_connection=final)
        if self.cancelled:  # aiormq may have swallowed it
            raise asyncio.CancelledError
        if final:
            raise trouble
        await asyncio.sleep(self._pause(lived))

    def _moves(self) -> bool:
        """Return whether a new connection may be to another node; note the time if so."""
        if not (self._was_ready and len(self._config.broker.hosts) > 1):
            return False
        self._moved_at = asyncio.get_running_loop().time()
        return True

    def _renews(self, *, moved: bool) -> bool:
        """Return whether the response queue gets another name in the next session.

        When a node dies, our queue dies with it, but its name stays locked until the node is back
        (from RabbitMQ 4.2 on). Before 4.2, the broker may still be deleting the old queue when we
        have declared it on another node, and delete the new one. With one host, which may stand
        for several, the name changes only when nobody but us can hold it. A configured name never
        changes, for it keeps a second instance away: the next session waits for it.
        """
        config = self._config
        configured = config.instance_id is not None or config.response_queue is not None
        if configured or self.role is Role.PUBLISHING:
            return False
        if moved or self._locked_since is None or not self._renewable:
            return moved
        locked = asyncio.get_running_loop().time() - self._locked_since
        return self._was_ready and locked > LOCKED_FOR

    def _suspect_after(self) -> float:
        """Return seconds after which a channel is suspect if it refuses; see PublisherChannel."""
        unsettled = asyncio.get_running_loop().time() - self._moved_at < UNSETTLED_FOR
        return SUSPECT_AFTER * 2**self._tries if unsettled else math.inf

    def _pause(self, lived: float) -> float:
        """Return seconds until the next try: doubling while sessions end soon after they began.

        The last try for a locked response queue is at the end of the wait for it, not later.
        """
        self._tries = 0 if lived > SETTLED_AFTER else min(self._tries + 1, 8)
        jittered = pause(self._tries, self._config.reconnect_cap, first=SETUP_PAUSE)
        return min(jittered, self._lock_wait_left())

    def _lock_wait_left(self) -> float:
        """Return seconds that are left to wait for a locked response queue."""
        if self._locked_since is None:
            return math.inf
        longest = self._config.instance_retry
        if self._was_ready:
            longest = max(longest, LOCKED_HEARTBEATS * self._config.heartbeat)
        return self._locked_since + longest - asyncio.get_running_loop().time()

    async def _set_up(self, session: Session, connection: Connection) -> None:
        timeout = self._config.connect_timeout
        try:
            async with timeout_at(self._due()):
                await session.setup()
        except TimeoutError as e:
            # A broker that does not answer this would not answer Connection.Close, either.
            connection.router.abort("channels and queues were not set up in time")
            late = f"{self._config.broker}: channels and queues were not set up in {timeout:g} s"
            raise ConnectionLostError(f"{late}{session.progress}") from e

    def _due(self) -> float:
        """Return the deadline of an attempt, in loop time.

        A start as a whole has connect_timeout, and instance_retry more while the response queue is
        locked; later each attempt has connect_timeout.
        """
        if self._was_ready:
            return asyncio.get_running_loop().time() + self._config.connect_timeout
        locked = self._locked_since is not None
        return self._deadline + (self._config.instance_retry if locked else 0.0)

    def _is_final(self, connection: Connection, error: NuropbTransportError) -> bool:
        """Return whether to give up.

        For a locked response queue there are more tries: a predecessor that crashed, or our own
        lost connection, may hold it until the broker notices. The broker's text is the same for
        both; only our history tells them apart. So it is with a service queue that has an
        exclusive consumer.
        """
        if isinstance(error, InstanceInUseError):
            if self._locked_since is None:
                self._locked_since = asyncio.get_running_loop().time()
            return self._lock_wait_left() <= 0
        self._locked_since = None
        if not self._was_ready:
            return True
        return connection.should_give_up(error)

    # -- changes ----------------------------------------------------------------------------

    def _ready(self, connection: Connection) -> None:
        if self._was_ready:
            away = self._away()
            self._log.warning("%s: back after %.1f s", self, away, seconds=round(away, 3))
        self._was_ready = True
        self._locked_since = None
        blocked = connection.router.blocked
        self._set(State.READY if blocked is None else State.BLOCKED, None)
        if not self._first.done():
            self._first.set_result(None)

    def _recovering(self, reason: NuropbTransportError) -> None:
        if self._was_ready:
            if self.state is not State.RECOVERING:
                self._away_since = asyncio.get_running_loop().time()
            if self.state is not State.RECOVERING or str(reason) != str(self.error):
                self._log.warning("%s: recovering: %s", self, reason)
            self._set(State.RECOVERING, reason)

    def _fail(self, error: NuropbTransportError) -> None:
        text = str(error)
        self._set(State.FAILED, located(self, error))
        if not self._start_failed(error):
            away = self._away()
            gave_up = "%s: gave up after %.1f s: %s"
            self._log.error(gave_up, self, away, text, seconds=round(away, 3))

    def _start_failed(self, error: NuropbTransportError) -> bool:
        if self._first.done():
            return False
        self._first.set_exception(error)
        self._first.exception()  # mark as retrieved: start() may have been cancelled
        return True

    def _lost(self, reason: ConnectionLostError) -> None:
        if self.state.up:
            self._recovering(reason)

    def _blocked(self, reason: str | None) -> None:
        if not self.state.up:
            return
        if reason is None:
            if self.state is State.BLOCKED:
                away = self._away()
                free = "%s: no longer blocked, after %.1f s"
                self._log.warning(free, self, away, seconds=round(away, 3))
            self._set(State.READY, None)
        else:
            self._away_since = asyncio.get_running_loop().time()
            self._log.warning("%s: blocked by the broker: %s", self, reason)
            problem = NuropbTransportError(f"the broker takes no messages: {reason}")
            self._set(State.BLOCKED, problem)

    def __str__(self) -> str:
        name = f"{self._config.service_name}/{self._instance_id}"
        return f"{name} at {self._config.broker} ({self.role.name.lower()})"

    def _away(self) -> float:
        """Return seconds since it was last ready."""
        return asyncio.get_running_loop().time() - self._away_since

    def _set(self, state: State, error: NuropbTransportError | None) -> None:
        changed = state is not self.state or error is not self.error
        self.state = state
        self.error = error
        if changed:
            self._on_change(self)
