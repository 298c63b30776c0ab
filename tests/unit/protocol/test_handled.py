"""Errors of calls that end with the message in whose handler they are made."""

from __future__ import annotations

import pytest

from nuropb_rmq import NuropbNotSentError, NuropbTimeoutError
from nuropb_rmq.protocol import handled


@pytest.mark.parametrize("kind", [NuropbTimeoutError, NuropbNotSentError])
def test_the_class_still_says_whether_it_was_sent(kind: type[NuropbTimeoutError]) -> None:
    error = handled.over(kind("no response within 1 s"))
    assert type(error) is kind
    assert str(error).startswith(
        "no response within 1 s: the deadline of the request being handled"
    )
