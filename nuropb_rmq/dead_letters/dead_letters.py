"""The dead letters of one service, for an operator: look, count, send back, drop."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from types import TracebackType
from typing import Final, Self

from ..amqp.getting import Got
from ..broker.connecting import Connection, open_connection
from ..broker.delivery_limit import Told, check_delivery_limit, told_of
from ..broker.error_translation import located
from ..config.address import AmqpUrl, typed
from ..config.settings import TransportConfig
from ..config.times import seconds
from ..exceptions import (
    BrokerUnreachableError,
    ConnectionLostError,
    NuropbConfigurationError,
    NuropbTransportError,
    TransportClosedError,
)
from ..protocol.constants import new_id
from ..safe_logging import ServiceLog
from ..waiting import time_limit
from .filters import ALL, DeadLetterFilter, now
from .groups import DeadLetterGroup, Grouping
from .letter import DeadLetter, read_letter
from .looking import Pass
from .putting import Putter
from .replaying import NOT_OWN, Consent, Replayer
from .results import DeadLetterProgress, DeadLetterResult, Tally, result_of

logger = logging.getLogger("nuropb_rmq.dead_letters")

PASS_SECONDS: Final = 600.0
"""Seconds of a pass over the queue: a third of the broker's consumer_timeout, over which it would
close the channel, and count all letters as delivered."""


class DeadLetters:
    """The dead-letter queue of one service. An async context manager, for an operator's tool.

    amqp_url: the broker's address, or the TransportConfig of the service, with its names of queues.
    service_name: the service; it may be left out beside a TransportConfig.
    api_url: the management API's address, as of configure(); it is asked about a quorum queue on
        RabbitMQ 4.x only.
    allow_delivery_limit: look at a quorum queue on RabbitMQ 4.x that has a delivery limit, too.
    pass_seconds: limits each pass over the queue, in seconds; all that it holds is given back then.
        Keep it under the broker's consumer_timeout (30 min).

    Looking changes nothing: letters keep their order, and others see them again as soon as the pass
    is over; meanwhile they do not. When a process that looks is killed, the broker puts them back.
    A quorum queue on RabbitMQ 4.x counts that, and drops what it has counted more often than its
    delivery limit: entering raises ServiceNotConfigured for one without the policy delivery-limit
    -1, and for one whose policy cannot be seen.

    Everything raises a NuropbTransportError when the broker cannot be reached or refuses something,
    and may be cancelled at any time: what is held is given back. One pass goes on at a time:
    another one ends a list() that is not at its end, as does leaving the context.

    The user needs to read the dead-letter queue, and to write amq.default for replay().
    """

    def __init__(
        self,
        amqp_url: AmqpUrl | TransportConfig,
        service_name: str | None = None,
        *,
        api_url: str | None = None,
        allow_delivery_limit: bool = False,
        pass_seconds: float = PASS_SECONDS,
    ) -> None:
        self._config = _config_of(amqp_url, service_name)
        self._api_url = api_url
        self._allowed = typed("allow_delivery_limit", allow_delivery_limit, bool, "True or False")
        self._seconds = seconds("pass_seconds", pass_seconds)
        self._is_open = False
        self._told = Told(type=None, depth=False)
        self._pass: Pass | None = None
        # Counts of that pass.
        self._tally = Tally()
        self._connections: set[Connection] = set()

    @property
    def queue(self) -> str:
        """Name of the dead-letter queue."""
        return self._config.dl_queue_name

    @property
    def progress(self) -> DeadLetterProgress:
        """The progress of the pass that goes on, or of the last one."""
        last = self._pass
        if last is None:
            return DeadLetterProgress()
        return DeadLetterProgress(
            looked_at=last.looked_at,
            waiting=last.waiting,
            done=self._tally.done,
            stopped=last.stopped,
        )

    async def __aenter__(self) -> Self:
        async with self._connected("looking") as connection:
            self._told = await told_of(connection, self._config, self.queue, self._api_url)
        if not self._allowed:
            check_delivery_limit(self.queue, self._told)
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        await self._end_pass("the context was left")
        for connection in tuple(self._connections):  # of an iteration that is not at its end
            await connection.shut()

    # -- looking ----------------------------------------------------------------------------

    async def list(
        self, matching: DeadLetterFilter = ALL, *, limit: int | None = None
    ) -> AsyncGenerator[DeadLetter, None]:
        """Yield the letters that match, the oldest first, at most `limit`.

        Of two letters of one failure, the first. They are held until the iteration ends; nobody
        else sees them meanwhile, replay() neither: it ends the iteration.
        """
        _check(limit)
        known: set[str] = set()
        count = 0
        async with self._passing() as going:
            began = now()
            while (limit is None or count < limit) and (got := await going.next()) is not None:
                letter = self._read(got)
                if matching.matches(letter, began) and _is_new(letter, known):
                    count += 1
                    yield letter
            _warn_if_stopped(going, self._config)

    async def groups(self, matching: DeadLetterFilter = ALL) -> tuple[DeadLetterGroup, ...]:
        """Count the letters that match by what failed and how; the largest group comes first."""
        grouping = Grouping()
        async with aclosing(self.list(matching)) as found:
            async for letter in found:
                grouping.add(letter)
        return grouping.largest_first()

    async def show(self, identity: str) -> tuple[DeadLetter, ...]:
        """Return the letters with this failure id or correlation id."""
        async with aclosing(self.list()) as found:
            return tuple(
                [
                    letter
                    async for letter in found
                    if identity in (letter.failure_id, letter.correlation_id)
                ]
            )

    # -- sending back, dropping -------------------------------------------------------------

    async def replay(
        self,
        matching: DeadLetterFilter = ALL,
        *,
        dry_run: bool = False,
        requests: bool = False,
        foreign: bool = False,
        expiration: float | None = None,
        limit: int | None = None,
    ) -> DeadLetterResult:
        """Send the letters that match to the service queue, in their order, at most `limit`.

        Each is published, mandatory and persistent, with its body and its headers but for what told
        of the failure, and taken out of the dead-letter queue when the broker has confirmed it.
        None is lost; when this is killed or cancelled, or a connection is lost, at most 64 come
        twice. What comes into the queue meanwhile stays.

        dry_run: count what would be replayed, and do nothing.
        requests: replay requests, too, though whoever made them has given up. Their answers go
            where they would have gone.
        foreign: replay letters of other services, and of nobody knows whom, too.
        expiration: seconds that a message has from now on; None: any time.

        Once it has begun, it reports an early end in `stopped`, and does not raise: the
        service queue does not exist, or refuses 64 in a row; nothing is confirmed for
        publish_timeout; a connection is lost; pass_seconds are over.
        """
        consent = Consent(
            requests=typed("requests", requests, bool, "True or False"),
            foreign=typed("foreign", foreign, bool, "True or False"),
        )
        _check(limit)
        expires = None if expiration is None else seconds("expiration", expiration)
        if typed("dry_run", dry_run, bool, "True or False"):
            return await self._dry_run(matching, consent, limit)
        replay_id = new_id()
        await self._end_pass("a replay has begun")
        self._pass, self._tally = None, Tally()  # for progress, until its own pass begins
        async with self._connected("replaying") as publishing, self._passing() as going:
            putter = Putter(
                publishing, self._config.service_queue_name, patience=self._config.publish_timeout
            )
            await putter.open()
            replayer = Replayer(going, putter, consent, replay_id, expiration=expires)
            self._tally = replayer.tally
            began = now()
            stopped: str | None = None
            try:
                while not replayer.is_over(limit) and (got := await going.next()) is not None:
                    letter = self._read(got)
                    if matching.matches(letter, began):
                        await replayer.replay(got, letter)
                await putter.settled()
            except (ConnectionLostError, TimeoutError) as e:
                stopped = str(e)
            finally:
                await replayer.finish()
            stopped = stopped or replayer.stopped
            return result_of(going, replayer.tally, stopped=stopped, replay_id=replay_id)

    async def _dry_run(
        self, matching: DeadLetterFilter, consent: Consent, limit: int | None
    ) -> DeadLetterResult:
        known: set[str] = set()
        async with self._passing() as going:
            tally = self._tally
            began = now()
            while (limit is None or tally.done < limit) and (got := await going.next()) is not None:
                letter = self._read(got)
                if not matching.matches(letter, began):
                    continue
                if (why := consent.missing(letter)) is not None:
                    tally.left[why] += 1
                elif _is_new(letter, known):
                    tally.done += 1
            return result_of(going, tally, dry_run=True)

    async def purge(
        self,
        matching: DeadLetterFilter = ALL,
        *,
        dry_run: bool = False,
        foreign: bool = False,
        limit: int | None = None,
    ) -> DeadLetterResult:
        """Drop the letters that match, at most `limit`; those of other services only if `foreign`.

        dry_run: count what would be dropped, and do nothing. `stopped` is as of replay().
        """
        typed("dry_run", dry_run, bool, "True or False")
        typed("foreign", foreign, bool, "True or False")
        _check(limit)
        stopped: str | None = None
        async with self._passing() as going:
            tally = self._tally
            began = now()
            try:
                while not _is_enough(tally, limit) and (got := await going.next()) is not None:
                    letter = self._read(got)
                    if not matching.matches(letter, began):
                        continue
                    if not letter.own and not foreign:
                        tally.left[NOT_OWN] += 1
                    elif dry_run or going.ack(got.tag):
                        tally.done += 1
            except ConnectionLostError as e:
                stopped = str(e)
            return result_of(going, tally, stopped=stopped, dry_run=dry_run)

    # -- one pass ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _passing(self) -> AsyncIterator[Pass]:
        """Begin a pass, on a connection of its own, and give all back at its end."""
        if not self._is_open:
            raise TransportClosedError("DeadLetters is not open: use it within `async with`")
        await self._end_pass("another pass has begun")
        self._pass, self._tally = None, Tally()
        async with self._connected("looking") as connection:
            going = Pass(
                connection,
                self.queue,
                max_body=self._config.max_body_bytes,
                seconds=self._seconds,
                grace=self._config.publish_timeout,
                told=self._told,
            )
            async with going:
                self._pass, self._tally = going, Tally()
                yield going

    async def _end_pass(self, why: str) -> None:
        """End an iteration that is not at its end; the broker has all back then."""
        if self._pass is not None:
            with suppress(ConnectionLostError):
                await self._pass.close(why)

    def _read(self, got: Got) -> DeadLetter:
        return read_letter(got, self._config.service_queue_name)

    @asynccontextmanager
    async def _connected(self, purpose: str) -> AsyncIterator[Connection]:
        config = self._config
        try:
            try:
                async with time_limit(config.connect_timeout):
                    connection = await open_connection(config, f"dead letters, {purpose}")
            except TimeoutError as e:
                raise BrokerUnreachableError(
                    f"no connection within {config.connect_timeout:g} s (connect_timeout)"
                ) from e
            self._connections.add(connection)
            try:
                yield connection
            finally:
                self._connections.discard(connection)
                await connection.shut()
        except NuropbTransportError as e:
            located(config.broker, e)
            raise


def _config_of(amqp_url: AmqpUrl | TransportConfig, service_name: str | None) -> TransportConfig:
    if isinstance(amqp_url, TransportConfig):
        if service_name not in (None, amqp_url.service_name):
            raise NuropbConfigurationError(
                "service_name",
                f"is {service_name!r}, and {amqp_url.service_name!r} in the TransportConfig",
            )
        return amqp_url
    if service_name is None:
        raise NuropbConfigurationError("service_name", "is missing: whose dead letters?")
    return TransportConfig(amqp_url=amqp_url, service_name=service_name)


def _check(limit: int | None) -> None:
    wanted = "a number from 1 on, or None"
    if limit is not None and typed("limit", limit, int, wanted) < 1:
        raise NuropbConfigurationError("limit", f"must be {wanted}, not {limit}")


def _is_enough(tally: Tally, limit: int | None) -> bool:
    return limit is not None and tally.done >= limit


def _is_new(letter: DeadLetter, known: set[str]) -> bool:
    """Return whether no letter of the same failure was seen before."""
    if letter.failure_id is None:
        return True
    if letter.failure_id in known:
        return False
    known.add(letter.failure_id)
    return True


def _warn_if_stopped(going: Pass, config: TransportConfig) -> None:
    if going.stopped is not None:
        counts = (going.looked_at, going.waiting)
        log = ServiceLog(logger, config.service_name, "")
        log.warning("looked at %d of %d dead letters: %s", *counts, going.stopped)
