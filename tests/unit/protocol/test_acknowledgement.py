"""The table of what becomes of a handled message, row by row."""

from __future__ import annotations

import pytest

from nuropb_rmq.amqp.settlement import Settlement
from nuropb_rmq.protocol.acknowledgement import Answer, Decision, Outcome, decide
from nuropb_rmq.protocol.constants import MessageType

REQUEST, COMMAND, EVENT = MessageType.REQUEST, MessageType.COMMAND, MessageType.EVENT
DONE, FAILED, AGAIN = Outcome.DONE, Outcome.FAILED, Outcome.CALL_AGAIN
NOTHING, OUTCOME, REJECTED = Answer.NOTHING, Answer.OUTCOME, Answer.CALL_AGAIN_REJECTED

ROWS = [
    # type, outcome, was called again → delivery, answer
    (REQUEST, DONE, False, Settlement.ACK, OUTCOME),
    (REQUEST, DONE, True, Settlement.ACK, OUTCOME),
    (REQUEST, FAILED, False, Settlement.REJECT, OUTCOME),
    (REQUEST, FAILED, True, Settlement.REJECT, OUTCOME),
    (REQUEST, AGAIN, False, Settlement.CALL_AGAIN, NOTHING),
    (REQUEST, AGAIN, True, Settlement.REJECT, REJECTED),
    (COMMAND, DONE, False, Settlement.ACK, NOTHING),
    (COMMAND, DONE, True, Settlement.ACK, NOTHING),
    (COMMAND, FAILED, False, Settlement.REJECT, NOTHING),
    (COMMAND, FAILED, True, Settlement.REJECT, NOTHING),
    (COMMAND, AGAIN, False, Settlement.CALL_AGAIN, NOTHING),
    (COMMAND, AGAIN, True, Settlement.REJECT, NOTHING),
    (EVENT, DONE, False, Settlement.ACK, NOTHING),
    (EVENT, DONE, True, Settlement.ACK, NOTHING),
    (EVENT, FAILED, False, Settlement.REJECT, NOTHING),
    (EVENT, FAILED, True, Settlement.REJECT, NOTHING),
    (EVENT, AGAIN, False, Settlement.ACK, NOTHING),
    (EVENT, AGAIN, True, Settlement.ACK, NOTHING),
    *(
        (kind, Outcome.RETRY, again, Settlement.RETRY, NOTHING)
        for kind in (REQUEST, COMMAND, EVENT)
        for again in (False, True)
    ),
]


@pytest.mark.parametrize(("kind", "outcome", "again", "settlement", "answer"), ROWS)
def test_each_row(
    kind: MessageType, outcome: Outcome, again: bool, settlement: Settlement, answer: Answer
) -> None:
    for count in (1, 2, 1000) if again else (0,):
        assert decide(kind, outcome, count) == Decision(settlement, answer)


def test_every_combination_has_its_row() -> None:
    combinations = {(row[0], row[1], row[2]) for row in ROWS}
    assert len(combinations) == len(ROWS) == 3 * len(Outcome) * 2


@pytest.mark.parametrize("outcome", Outcome)
def test_a_response_is_never_decided_upon(outcome: Outcome) -> None:
    with pytest.raises(KeyError):
        decide(MessageType.RESPONSE, outcome, 0)


def test_only_a_request_is_answered() -> None:
    answered = {row[0] for row in ROWS if row[4] is not NOTHING}
    assert answered == {REQUEST}


def test_nothing_is_ever_requeued_by_the_table() -> None:
    """Requeueing is for what was not handled; a handled message would go round for ever."""
    assert Settlement.REQUEUE not in {row[3] for row in ROWS}
