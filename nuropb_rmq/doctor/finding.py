"""Findings, and the checks that make them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from .facts import Facts


class Level(StrEnum):
    """The severity of a finding; the worst comes first."""

    ERROR = "error"
    """Calls or messages fail, or are lost."""
    WARNING = "warning"
    """It works, and will not under some conditions."""
    NOTE = "note"
    """Good to know."""


class Area(StrEnum):
    """Part of a deployment; findings are shown in this order."""

    WAY = "Way to the broker"
    BROKER = "Broker"
    EXCHANGES = "Exchanges"
    QUEUE = "Service queue"
    INSTANCES = "Instances"
    LETTERS = "Dead letters"
    OTHERS = "Other queues"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `fix`: commands for a shell that repair it, if there are any.

    `do`: the end of `text`, where it says what to do in place of the first command, or what to
    know before that is run.
    """

    level: Level
    text: str
    fix: tuple[str, ...] = ()
    do: str = ""


Look = Callable[[Facts], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: a function of the facts. It raises Unseen when a fact is missing."""

    name: str
    about: str
    """Which faults it finds, for the manual."""
    look: Look


def error(text: str, *fix: str, do: str = "") -> Finding:
    """Return a finding of this level, with what to do, and the commands that repair it."""
    return Finding(Level.ERROR, f"{text} {do}".rstrip(), fix, do)


def warning(text: str, *fix: str, do: str = "") -> Finding:
    """Return a finding of this level, with what to do, and the commands that repair it."""
    return Finding(Level.WARNING, f"{text} {do}".rstrip(), fix, do)


def note(text: str, *fix: str) -> Finding:
    """Return a finding of this level, with the commands that repair it."""
    return Finding(Level.NOTE, text, fix)


def shell(*words: object) -> str:
    """Return a command for a shell: words are quoted where they must be."""
    return shlex.join(str(word) for word in words)


def ctl(facts: Facts, verb: str, *words: object) -> str:
    """Return a rabbitmqctl command for the virtual host."""
    return shell("rabbitmqctl", verb, "-p", facts.vhost, *words)
