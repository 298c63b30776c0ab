"""The interpreter exits before stop(): in time, without a word, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from nuropb_rmq import blocking
from nuropb_rmq.testing import RabbitMQNode

from ..conformance.brokers import Place, RabbitMQ
from .conftest import StartProgram
from .exiting import Jobs
from .support import until


@pytest.fixture
def jobs(rabbitmq_node: RabbitMQNode) -> Iterator[Place]:
    """A virtual host in which the queue of Jobs is, with nobody who serves it."""
    with RabbitMQ(rabbitmq_node).place() as place:
        with blocking.Mesh(place.url, service=Jobs()):
            pass
        yield place


def depth(place: Place, queue: str) -> int:
    return asyncio.run(place.depth(queue))


def commands(place: Place) -> int:
    return depth(place, "nuropb-jobs-sq")


def dead_letters(place: Place) -> int:
    return depth(place, "nuropb-jobs-dlq")


@pytest.mark.parametrize("url", ["memory://exits", ""])
def test_a_client(start_program: StartProgram, jobs: Place, url: str) -> None:
    program = start_program("exiting", url or jobs.url, "nothing")
    assert (program.ended(), program.errors) == (0, "")


def test_confirmed_commands_are_there(start_program: StartProgram, jobs: Place) -> None:
    program = start_program("exiting", jobs.url, "commands")
    assert (program.ended(), program.errors) == (0, "")
    assert commands(jobs) == 50


def test_the_errors_of_the_program_are_its_own(start_program: StartProgram, jobs: Place) -> None:
    program = start_program("exiting", jobs.url, "error")
    assert program.ended() == 1
    assert program.errors.count("Traceback") == 1
    assert "LookupError: of the program" in program.errors


def test_daemon_threads_that_call(start_program: StartProgram, jobs: Place) -> None:
    program = start_program("exiting", jobs.url, "daemons")
    assert (program.ended(), program.errors) == (0, "")
    assert commands(jobs) > 0


def test_what_is_in_hand_goes_back(start_program: StartProgram, jobs: Place) -> None:
    program = start_program("exiting", jobs.url, "in hand")
    program.says("over")
    assert program.ended() == 0
    assert "Traceback" not in program.errors
    until(lambda: commands(jobs) == 3)
    assert dead_letters(jobs) == 0


def test_what_comes_while_the_interpreter_waits_for_a_thread_goes_back(
    start_program: StartProgram, jobs: Place
) -> None:
    """Then its pools take nothing more."""
    program = start_program("exiting", jobs.url, "threads")
    program.says("over")
    with blocking.Mesh(jobs.url) as mesh:
        for _ in range(10):
            mesh.command("jobs", "note", encrypted=False)
    program.says("received note", times=10)
    program.tell("go on")
    assert program.ended() == 0
    assert "Traceback" not in program.errors
    assert dead_letters(jobs) == 0
    until(lambda: commands(jobs) == 10)
