"""The name that was meant."""

from __future__ import annotations

import random
import string

import pytest

from nuropb_rmq.nearest import nearest

from ..steps import steps

NAMES = ["get_total", "get_totals_of_all_orders", "place", "cancel", "recount", "on_order"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("get_totl", "get_total"),
        ("gettotal", "get_total"),
        ("GetTotal", "get_total"),
        ("get_total_", "get_total"),
        ("plcae", "place"),
        ("cancle", "cancel"),
        ("xyz", None),
        ("", None),
        ("g" * 1_000_000, None),
    ],
)
def test_the_name_that_was_meant(name: str, meant: str | None) -> None:
    assert nearest(name, NAMES) == meant
    assert nearest(name, ()) is None


def test_it_is_found_among_many_in_few_steps() -> None:
    """Of a thousand names like each other; difflib alone takes a million steps for each."""
    chosen = random.Random(1)
    letters = string.ascii_lowercase[:8]
    names = ["".join(chosen.choices(letters, k=chosen.randint(8, 30))) for _ in range(1000)]
    for name in names[::100]:
        assert nearest(f"{name}x", names) == name
    wrong = ["".join(chosen.choices(letters, k=30)) for _ in range(20)]
    assert steps(lambda: [nearest(name, names) for name in wrong]) < 40_000 * len(wrong)
