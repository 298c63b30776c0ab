"""Ids."""

from __future__ import annotations

import uuid

from nuropb_rmq.protocol.constants import new_id


def test_ids_are_uuids_and_all_different() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for each in ids:
        made = uuid.UUID(each)
        assert (made.hex, made.version, made.variant) == (each, 4, uuid.RFC_4122)
    # All but the version and the variant is drawn: each other digit takes each of its values.
    seen = [len({each[place] for each in ids}) for place in range(32)]
    assert seen == [16] * 12 + [1] + [16] * 3 + [4] + [16] * 15
