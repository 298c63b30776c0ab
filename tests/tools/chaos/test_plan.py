"""The plan: the same for the same seed, and nothing is missing in it."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from .plan import DECK, LONG, QUICK, SECONDS, Kind, plan


def test_a_seed_gives_the_same_faults_each_time() -> None:
    assert [*islice(plan(7), 100)] == [*islice(plan(7), 100)]
    assert [*islice(plan(7), 100)] != [*islice(plan(8), 100)]


def test_every_deck_has_every_kind() -> None:
    faults = [each.kind for each in islice(plan(3), 3 * len(DECK))]
    for start in range(0, len(faults), len(DECK)):
        assert Counter(faults[start : start + len(DECK)]) == Counter(DECK)
    assert set(DECK) == set(Kind)


def test_sixty_faults_hold_some_twenty_kills_of_the_broker() -> None:
    for seed in range(20):
        kills = sum(each.kind is Kind.KILL_BROKER for each in islice(plan(seed), 60))
        assert 16 <= kills <= 24


def test_only_some_kinds() -> None:
    faults = [*islice(plan(1, [Kind.KILL_BROKER, Kind.RESET]), 100)]
    assert {each.kind for each in faults} == {Kind.KILL_BROKER, Kind.RESET}
    assert all(each.also is None for each in faults)


def test_two_at_once_are_few_and_the_second_is_quick() -> None:
    faults = [*islice(plan(1), 1000)]
    doubles = [each.also for each in faults if each.also is not None]
    assert 150 < len(doubles) < 250
    assert {each.kind for each in doubles} == set(QUICK)
    assert all(each.also is None for each in doubles)


def test_lengths_are_in_their_range() -> None:
    for fault in islice(plan(1), 1000):
        low, high = SECONDS.get(fault.kind, (0.0, 0.0))
        assert low <= fault.seconds <= high or fault.seconds == LONG
    hangs = [each for each in islice(plan(1), 1000) if each.kind is Kind.HANG_BROKER]
    assert 0 < sum(each.seconds == LONG for each in hangs) < len(hangs) / 2


def test_a_fault_says_what_it_is() -> None:
    texts = {each.kind: str(each) for each in islice(plan(1), 200) if each.also is None}
    assert texts[Kind.RESET] == "TCP reset"
    assert texts[Kind.BLACK_HOLE].startswith("black hole, ")
    assert texts[Kind.SLOW].startswith("slow wire, for ")
