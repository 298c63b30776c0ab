"""When an outage begins, what is tried in it, when, and its end: by a clock of the test."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nuropb_rmq import NuropbNotDeliveredError, NuropbTimeoutError, Outage, State, TransportConfig
from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.protocol.acknowledgement import Outcome
from nuropb_rmq.protocol.constants import MessageType
from nuropb_rmq.transport.outage import Outages, settle_put_back

from ...support import LOG

EVERY, HANDLER_TIMEOUT, PREFETCH = 10.0, 400.0, 4
AWAY = ConnectionError()


class Timer:
    """One call at a time of the test's clock."""

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Do not call."""
        self.call = None


class Work:
    """A delivery that is handled."""

    def __init__(self, name: object = "", kind: MessageType = MessageType.COMMAND) -> None:
        self.name = name
        self.head = SimpleNamespace(kind=kind)
        self.concluded = self.stale = False
        self.seconds: float | None = None
        self.arrived = 0.0
        self.message = SimpleNamespace(payload={"method": "get"})

    def left(self) -> float | None:
        """Return the seconds until its expiration."""
        return self.seconds


class Consumer(SimpleNamespace):
    """A consumer that notes what is settled."""

    def __init__(self) -> None:
        super().__init__(port=SimpleNamespace(open=True), settled=[])

    def settle(self, content: object, settlement: Settlement) -> None:
        """Note it."""
        self.settled.append((content, settlement))


class Bench:
    """Outages on a clock that the test moves."""

    def __init__(self, **settings: Any) -> None:
        self.time = 0.0
        self.timers: list[Timer] = []
        self.states: list[State] = []
        self.begun: list[Work] = []
        self.consumer = Consumer()
        settings = {"after": 2, "probe_every": EVERY, **settings}
        config = TransportConfig(
            amqp_url="amqp://h",
            service_name="orders",
            prefetch_count=PREFETCH,
            handler_timeout=HANDLER_TIMEOUT,
            outage=Outage(**settings),
        )
        self.outages = Outages(
            config,
            begin=self._begin,
            on_change=lambda: self.states.append(self.outages.state),
            log=LOG,
            later=self._later,
            now=lambda: self.time,
        )

    def _begin(self, consumer: Any, content: Any, arrived: float) -> Any:
        work = Work(content)
        work.arrived = arrived
        self.begun.append(work)
        return work

    def _later(self, delay: float, call: Callable[[], None]) -> Any:
        self.timers.append(Timer(self.time + delay, call))
        return self.timers[-1]

    def move(self, seconds: float) -> None:
        """Let time pass."""
        end = self.time + seconds
        while due := [each for each in self.timers if each.call is not None and each.at <= end]:
            timer = min(due, key=lambda each: each.at)
            self.time, call, timer.call = timer.at, timer.call, None
            assert call is not None
            call()
        self.time = end

    def hold(self, *contents: object) -> None:
        """Let deliveries arrive."""
        for content in contents:
            self.outages.hold(self.consumer, content)  # type: ignore[arg-type]

    def fail(self, work: Work | None = None, error: BaseException = AWAY) -> bool:
        """Let a handler fail; return whether its message goes back to the queue."""
        work = work or Work()
        self.outages.failed(work, error)  # type: ignore[arg-type]
        back = self.outages.concluded(work, Outcome.FAILED)  # type: ignore[arg-type]
        self.outages.settled(work)  # type: ignore[arg-type]
        return back

    def succeed(self, work: Work | None = None) -> None:
        """Let a handler succeed."""
        work = work or Work()
        assert not self.outages.concluded(work, Outcome.DONE)  # type: ignore[arg-type]
        self.outages.settled(work)  # type: ignore[arg-type]

    @property
    def names(self) -> list[object]:
        """The deliveries that were begun."""
        return [each.name for each in self.begun]


@pytest.fixture
def bench() -> Bench:
    """One in an outage, whose first two failures were dead-lettered."""
    made = Bench()
    assert not made.fail()
    assert made.states == []
    assert not made.fail()
    assert made.states == [State.OUTAGE]
    return made


def test_one_every_ten_seconds_in_the_order_of_arrival(bench: Bench) -> None:
    bench.hold("a", "b", "c")
    bench.move(EVERY - 1)
    assert bench.names == []
    bench.move(1)
    assert bench.names == ["a"]
    assert bench.fail(bench.begun[0])
    bench.move(EVERY - 1)
    assert bench.names == ["a"]
    bench.move(1)
    assert bench.names == ["a", "b"]
    assert bench.begun[1].arrived == 0


def test_none_while_the_last_one_runs(bench: Bench) -> None:
    bench.hold("a", "b")
    bench.move(3 * EVERY)
    assert bench.names == ["a"]
    assert bench.fail(bench.begun[0])
    bench.hold("c")
    assert bench.names == ["a"]
    bench.move(EVERY)
    assert bench.names == ["a", "b"]


def test_one_that_arrives_when_it_is_due_begins_at_once(bench: Bench) -> None:
    bench.move(3 * EVERY)
    bench.hold("a", "b")
    assert bench.names == ["a"]


def test_one_that_tells_nothing_is_followed_at_once(bench: Bench) -> None:
    """It was refused, or unreadable, or its time was over."""
    bench.hold("a", "b", "c")
    bench.move(EVERY)
    assert not bench.fail(bench.begun[0], KeyError())
    assert bench.names == ["a", "b"]
    bench.outages.settled(bench.begun[1])  # type: ignore[arg-type]
    assert bench.names == ["a", "b", "c"]


def test_a_success_ends_it_and_all_that_waited_begin(bench: Bench) -> None:
    bench.hold("a", "b", "c")
    bench.move(EVERY)
    bench.succeed(bench.begun[0])
    assert bench.names == ["a", "b", "c"]
    assert bench.states == [State.OUTAGE, State.READY]
    assert (bench.outages.error, bench.outages.active) == (None, False)
    bench.move(10 * EVERY)
    assert not any(timer.call for timer in bench.timers)
    assert not bench.fail()
    assert not bench.fail()
    assert bench.states[2:] == [State.OUTAGE]


def test_so_does_one_that_ran_when_it_began(bench: Bench) -> None:
    bench.hold("a")
    bench.succeed()
    assert bench.names == ["a"]
    assert bench.outages.state is State.READY


def test_those_that_ran_when_it_began_go_back_when_they_fail(bench: Bench) -> None:
    assert bench.fail()
    assert bench.fail(Work(kind=MessageType.EVENT))


def test_a_request_never_goes_back(bench: Bench) -> None:
    assert not bench.fail(Work(kind=MessageType.REQUEST))


def test_nor_what_the_broker_delivers_again_by_itself(bench: Bench) -> None:
    work = Work()
    work.stale = True
    assert not bench.fail(work)


def test_a_success_sets_the_count_back() -> None:
    bench = Bench()
    for _ in range(5):
        bench.fail()
        bench.succeed()
    assert bench.states == []


def test_a_description_tells_nothing_about_the_handlers(bench: Bench) -> None:
    bench.hold("a", "b")
    bench.move(EVERY)
    bench.begun[0].message.payload["method"] = "nuropb_describe"
    bench.succeed(bench.begun[0])
    assert bench.outages.active
    assert bench.names == ["a", "b"]


@pytest.mark.parametrize("left", [0.01, 0, -5])
def test_a_message_whose_time_is_over_does_not_count(left: float) -> None:
    bench = Bench()
    for _ in range(5):
        work = Work(kind=MessageType.REQUEST)
        work.seconds = left
        bench.fail(work)
    assert bench.states == []


def test_nor_does_one_that_had_ended_before_its_handler_failed() -> None:
    bench = Bench()
    for _ in range(5):
        work = Work()
        work.concluded = True
        bench.outages.failed(work, AWAY)  # type: ignore[arg-type]
    assert bench.states == []


def test_deliveries_of_channels_that_have_ended_are_dropped(bench: Bench) -> None:
    bench.hold("a", "b")
    gone, bench.consumer = bench.consumer, Consumer()
    gone.port.open = False
    bench.hold("c", "d")
    bench.move(EVERY)
    assert bench.names == ["c"]
    bench.hold("e")
    bench.consumer.port.open = False
    bench.succeed(bench.begun[0])
    assert bench.names == ["c"]


def test_what_has_waited_for_half_of_handler_timeout_goes_back(bench: Bench) -> None:
    """Probes that take long must not keep the others until consumer_timeout."""
    bench.hold("a", "b")
    bench.move(HANDLER_TIMEOUT / 2 - 5)
    bench.hold("c")
    assert bench.consumer.settled == []
    bench.move(2 * EVERY)
    assert bench.consumer.settled == [("b", Settlement.REQUEUE)]
    assert bench.outages.waiting == 1


def test_stop_gives_back_what_waits_and_begins_nothing_more(bench: Bench) -> None:
    bench.hold("a", "b", "c")
    bench.move(EVERY)
    bench.outages.stop_taking()
    assert bench.consumer.settled == [("b", Settlement.REQUEUE), ("c", Settlement.REQUEUE)]
    assert bench.states == [State.OUTAGE, State.READY]
    assert bench.fail(bench.begun[0])
    bench.succeed()
    bench.move(5 * EVERY)
    assert bench.names == ["a"]
    for _ in range(5):
        assert not bench.fail()
    assert bench.outages.state is State.READY


@pytest.mark.parametrize(
    ("error", "settlement"),
    [
        (None, Settlement.ACK),
        (NuropbTimeoutError(), Settlement.REJECT),
        (NuropbNotDeliveredError(), Settlement.REQUEUE),
    ],
)
def test_the_outcome_of_the_copy_settles_the_message(error: Any, settlement: Settlement) -> None:
    settled: list[Settlement] = []
    settle_put_back(SimpleNamespace(settle=settled.append), error)  # type: ignore[arg-type]
    assert settled == [settlement]
