"""A connection and the session on it, kept alive by one supervisor task.

Why: docs/decisions/007-names-of-response-queues.md
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from ..amqp.router import FrameRouter
from ..config.settings import TransportConfig
from ..exceptions import (
    BrokerUnreachableError,
    ConnectionLostError,
    InstanceInUseError,
    NuropbTransportError,
    TransportClosedError,
)
from ..safe_logging import report
from ..shielded import shielded
from .backoff import pause
from .connection import CLOSE_WITHIN, BrokerConnection
from .error_translation import ending, located
from .quiet import quietly
from .session import Role, Session
from .state import State
from .watch import noticed_after

logger = logging.getLogger("nuropb_rmq.broker")

SessionFactory = Callable[[BrokerConnection, Role, bool], Session]
"""Makes a session; the last argument is whether the response queue gets another name."""
SETUP_PAUSE = 0.25
"""Seconds, about, between two tries to set up a session on a connection that is up."""
SETTLED_AFTER = 5.0
"""Seconds after which a session counts as one that worked."""
UNSETTLED_FOR = 120.0
"""Seconds, about, that a cluster may take to notice that a node is gone (twice net_ticktime)."""
SUSPECT_AFTER = 1.0
"""Seconds after which it has, where the operating system tells it, and has other leaders."""
LOCKED_FOR = 2.0
"""Seconds for which our own response queue may stay locked before it gets another name."""
LOCKED_HEARTBEATS = 3.5
"""Heartbeats for which our own response queue may stay locked by a connection that was lost: the
broker gives that up after two to three."""


class Link:
    """Connects, sets up, waits for the end, and begins again, until told to stop.

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
        self._new_session = new_session
        self._on_change = on_change
        self._session: Session | None = None
        self._connection: BrokerConnection | None = None
        self._was_ready = False
        self._locked_since: float | None = None
        self._renewable = False
        """Whether it is the response queue that is locked."""
        self._refused: set[str] = set()
        self._tries = 0
        self._router: FrameRouter | None = None
        self._moved_at = -math.inf
        self._away_since = 0.0
        self._closed_by = math.inf
        self._deadline = math.inf
        """In loop time: of the start."""
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    def begin(self, deadline: float) -> None:
        """Begin to bring the link up, until `deadline`, in loop time: see `started`."""
        if self.state is State.STOPPED:
            raise TransportClosedError("stopped before it was started")
        self._deadline = deadline
        self._task = asyncio.create_task(
            self._supervise(), name=f"nuropb-link-{self.role.name.lower()}"
        )

    async def started(self) -> None:
        """Wait until it is up. Raises the NuropbTransportError that it failed of."""
        await shielded(self._first)

    async def stop(self, deadline: float) -> None:
        """Close session and connection; returns when nothing of them is left.

        The socket is aborted when that has not come to its end at `deadline`, in loop time.
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
        """Whether the supervisor is being cancelled: by stop(), or because the event loop ends."""
        return self._task is not None and self._task.cancelling() > 0

    def abandon(self) -> None:
        """Close the socket, and nothing else: the event loop that all is made for is closed."""
        if self._connection is not None:
            self._connection.abandon()

    async def stop_consuming(self) -> None:
        """Take nothing more from the service queue; see Session.stop_consuming."""
        if self._session is not None:
            await self._session.stop_consuming()

    # -- the supervisor ---------------------------------------------------------------------

    @quietly
    async def _supervise(self) -> None:
        connection = self._connection = BrokerConnection(
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
            never = "%s: the supervisor failed, which it never should"
            report(logger, logging.ERROR, e, never, self._config.broker)
            await connection.shut()
            self._fail(
                NuropbTransportError(f"{self._config.broker}: internal error: {e!r}", None, e)
            )
        finally:
            self._start_failed(TransportClosedError("stopped before it was ready"))

    async def _open(self, connection: BrokerConnection) -> None:
        timeout = self._config.connect_timeout
        try:
            async with asyncio.timeout_at(self._deadline):
                await connection.open()
        except TimeoutError as e:
            raise BrokerUnreachableError(
                f"{self._config.broker}: no answer in {timeout:g} s (connect_timeout)"
            ) from e
        _heed_cancellation()

    async def _live(self, connection: BrokerConnection) -> None:
        """One session, from setup to its end, or one failed try at it."""
        fresh, self._router = connection.router is not self._router, connection.router
        renews = self._renews(moved=fresh and self._moves())
        session = self._session = self._new_session(connection, self.role, renews)
        session.suspect_after = self._suspect_after()
        session.refused = self._refused
        session.recovers = fresh and self._was_ready
        # After a new connection everybody begins anew. Else others have to notice what is missing.
        missing_for = connection.patience.missing_for
        session.may_configure = fresh or missing_for >= noticed_after(self._config)
        loop = asyncio.get_running_loop()
        final, lived = False, 0.0
        try:
            await self._set_up(session, connection)
            connection.settled()
            self._ready(connection)
            began = loop.time()
            trouble = ending(self._config.broker, await session.ended)
            lived = loop.time() - began
            final = connection.given_up(trouble)
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
        _heed_cancellation()
        if final:
            raise trouble
        await asyncio.sleep(self._pause(lived))

    def _moves(self) -> bool:
        """Return whether another connection than before may be to another node."""
        if not (self._was_ready and len(self._config.broker.hosts) > 1):
            return False
        self._moved_at = asyncio.get_running_loop().time()
        return True

    def _renews(self, *, moved: bool) -> bool:
        """Whether the response queue gets another name in the next session.

        A node that dies takes our queue along, but not its name: from RabbitMQ 4.2 on that stays
        locked until the node is back, and before, the broker may still be deleting the queue when
        we have declared it anew elsewhere, and delete the new one. With one host, which may stand
        for several, a name is given up only when nobody but us can hold it. A name that somebody
        configured is what keeps a second instance away: it is waited for, and never given up.
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
        """When a refused message may be the channel's fault: see PublisherChannel."""
        unsettled = asyncio.get_running_loop().time() - self._moved_at < UNSETTLED_FOR
        return SUSPECT_AFTER * 2**self._tries if unsettled else math.inf

    def _pause(self, lived: float) -> float:
        """Seconds until the next try: doubling while sessions end soon after they began.

        The last try for a locked response queue is when the patience for it ends, not later.
        """
        self._tries = 0 if lived > SETTLED_AFTER else min(self._tries + 1, 8)
        jittered = pause(self._tries, self._config.reconnect_cap, first=SETUP_PAUSE)
        return min(jittered, self._patience_left())

    def _patience_left(self) -> float:
        """Seconds for which a locked response queue is waited for yet."""
        if self._locked_since is None:
            return math.inf
        patience = self._config.instance_retry
        if self._was_ready:
            patience = max(patience, LOCKED_HEARTBEATS * self._config.heartbeat)
        return self._locked_since + patience - asyncio.get_running_loop().time()

    async def _set_up(self, session: Session, connection: BrokerConnection) -> None:
        timeout = self._config.connect_timeout
        try:
            async with asyncio.timeout_at(self._due()):
                await session.setup()
        except TimeoutError as e:
            # Who does not answer this answers no Connection.Close, either.
            connection.router.abort("channels and queues were not set up in time")
            late = f"{self._config.broker}: channels and queues were not set up in {timeout:g} s"
            raise ConnectionLostError(f"{late}{session.progress}") from e
        _heed_cancellation()

    def _due(self) -> float:
        """When an attempt has to have come to its end, in loop time.

        A start as a whole has connect_timeout, and instance_retry more while the response queue is
        locked; later each attempt has connect_timeout.
        """
        if self._was_ready:
            return asyncio.get_running_loop().time() + self._config.connect_timeout
        locked = self._locked_since is not None
        return self._deadline + (self._config.instance_retry if locked else 0.0)

    def _is_final(self, connection: BrokerConnection, error: NuropbTransportError) -> bool:
        """Return whether trying again makes no sense.

        A locked response queue is waited for: a predecessor that crashed, or our own lost
        connection, may hold it until the broker notices. The broker's words are the same for
        both; only our history tells them apart. A service queue with an exclusive consumer is
        waited for, too.
        """
        if isinstance(error, InstanceInUseError):
            if self._locked_since is None:
                self._locked_since = asyncio.get_running_loop().time()
            return self._patience_left() <= 0
        self._locked_since = None
        if not self._was_ready:
            return True
        return connection.given_up(error)

    # -- changes ----------------------------------------------------------------------------

    def _ready(self, connection: BrokerConnection) -> None:
        if self._was_ready:
            logger.warning("%s: back after %.1f s", self, self._away())
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
                logger.warning("%s: recovering: %s", self, reason)
            self._set(State.RECOVERING, reason)

    def _fail(self, error: NuropbTransportError) -> None:
        text = str(error)
        self._set(State.FAILED, located(self, error))
        if not self._start_failed(error):
            logger.error("%s: given up after %.1f s: %s", self, self._away(), text)

    def _start_failed(self, error: NuropbTransportError) -> bool:
        if self._first.done():
            return False
        self._first.set_exception(error)
        self._first.exception()  # start() may have been cancelled: then nobody else asks for it
        return True

    def _lost(self, reason: ConnectionLostError) -> None:
        if self.state in (State.READY, State.BLOCKED):
            self._recovering(reason)

    def _blocked(self, reason: str | None) -> None:
        if self.state not in (State.READY, State.BLOCKED):
            return
        if reason is None:
            if self.state is State.BLOCKED:
                logger.warning("%s: not blocked any more, after %.1f s", self, self._away())
            self._set(State.READY, None)
        else:
            self._away_since = asyncio.get_running_loop().time()
            logger.warning("%s: blocked by the broker: %s", self, reason)
            problem = NuropbTransportError(f"the broker takes no messages: {reason}")
            self._set(State.BLOCKED, problem)

    def __str__(self) -> str:
        name = f"{self._config.service_name}/{self._instance_id}"
        return f"{name} at {self._config.broker} ({self.role.name.lower()})"

    def _away(self) -> float:
        """Seconds since it was ready."""
        return asyncio.get_running_loop().time() - self._away_since

    def _set(self, state: State, error: NuropbTransportError | None) -> None:
        changed = state is not self.state or error is not self.error
        self.state = state
        self.error = error
        if changed:
            self._on_change(self)


def _heed_cancellation() -> None:
    """Raise the CancelledError that asyncio.wait_for, deep in aiormq, may have swallowed.

    Before Python 3.12 it does so when what it waits for is done in the same moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
