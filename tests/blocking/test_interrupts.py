"""Ctrl-C ends a call at once."""

from __future__ import annotations

import pytest

from .conftest import StartProgram


@pytest.mark.parametrize("where", ["call", "start", "stop"])
def test_ctrl_c(start_program: StartProgram, where: str) -> None:
    program = start_program("interrupted", where)
    program.says("waiting")
    program.interrupt()
    program.says("interrupted")
    assert program.ended() == 0
    assert "Traceback" not in program.errors
