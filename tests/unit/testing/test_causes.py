"""A node that did not start: the error tells the first cause that the node wrote."""

from __future__ import annotations

import pytest

from nuropb_rmq.testing import BrokerStartError

SHORT = 1_000
"""Characters of an error that says why a node did not start."""

CLASH = """
2026-11-30 16:49:05.406773+00:00 [error] <0.760.0>     supervisor: {<0.760.0>,tcp_listener_sup}
2026-11-30 16:49:05.406773+00:00 [error] <0.760.0>     errorContext: start_error
2026-11-30 16:49:05.407025+00:00 [error] <0.666.0> Failed to start TCP listener [127.0.0.1]:378:
2026-11-30 16:49:05.407025+00:00 [error] <0.666.0>        eaddrinuse}}}}}}},
"""

ERRORS = """
2026-11-30 16:49:51.838-00:00 [info] <0.132.0> Starting
2026-11-30 16:49:51.838-00:00 [error] <0.132.0> Error preparing configuration:
2026-11-30 16:49:51.838-00:00 [error] <0.132.0>   - "abc" cannot be converted to an integer
2026-11-30 16:49:51.838-00:00 [error] <0.132.0>
2026-11-30 16:49:51.900-00:00 [error] <0.132.0> BOOT FAILED
2026-11-30 16:49:51.900-00:00 [error] <0.132.0> {error,failed_to_prepare_configuration}
"""


@pytest.mark.parametrize(
    ("log", "cause", "taken"),
    [
        (CLASH * 100, "port 378 is taken by another process (eaddrinuse)", True),
        ("epmd: address already in use", "one of its ports is taken by another process", True),
        (ERRORS, 'Error preparing configuration:\n  - "abc" cannot be converted to an int', False),
        ("a\n" * 100 + "Killed\n" + "b" * 10**6, "\na\nKilled\nbbb", False),
    ],
)
def test_what_a_node_wrote_is_told_by_its_first_cause(log: str, cause: str, taken: bool) -> None:
    error = BrokerStartError("the node did not start: exit 1", log)
    assert cause in str(error)
    assert str(error).startswith("the node did not start: exit 1: ")
    assert len(str(error)) < SHORT
    assert "BOOT" not in str(error)
    assert error.port_was_taken is taken
    assert log.endswith(error.log)
