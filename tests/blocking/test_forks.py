"""After a fork the parent goes on, and the child starts anew."""

from __future__ import annotations

import pytest

from .conftest import StartProgram
from .forking import FORKS


@pytest.mark.parametrize("how", ["_exit", "exit", "multiprocessing"])
def test_forks_while_threads_call(start_program: StartProgram, mesh_url: str, how: str) -> None:
    program = start_program("forking", mesh_url, how)
    assert (program.ended(), program.errors) == (0, "")
    assert program.lines == ["child: done\n"] * FORKS + ["parent: done\n"]


def test_workers_that_are_forked_before_the_start(
    start_program: StartProgram, mesh_url: str
) -> None:
    program = start_program("forking", mesh_url, "prefork")
    assert (program.ended(), program.errors) == (0, "")
    assert program.lines == ["child: done\n"] * 3 + ["parent: done\n"]
