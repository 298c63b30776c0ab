"""docs/guides/migration.md has a true row for each member of nuropb.rmq_transport."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nuropb_rmq
from nuropb_rmq import RabbitMQConfiguration, RMQTransport

ROOT = Path(__file__).parents[2]
MEMBERS = (ROOT / "tests" / "data" / "rmq-transport-members.txt").read_text().split()
HERE = re.compile(r"^\| `(nuropb\.[\w.]+)` \| ((?:`\w+`(?:, )?)+)[^|]*\|$", re.MULTILINE)
ELSEWHERE = re.compile(r"^\| `(nuropb\.[\w.*]+)` \| ((?:`\w+`(?:, )?)+) \| (.+) \|$", re.MULTILINE)
ROW = re.compile(r"^\| `([\w.]+)` \| (\w+) \|(.*)\|$", re.MULTILINE)


def rows(document: str) -> list[tuple[str, str, str]]:
    """Member, what has become of it, and what does its work now."""
    return [(member, now, text.strip()) for member, now, text in ROW.findall(document)]


def problems(document: str) -> list[str]:
    """Return what is missing from the table, or not true."""
    found = rows(document)
    named = [member for member, _, _ in found]
    told = [f"{each}: {named.count(each)} rows" for each in MEMBERS if named.count(each) != 1]
    told += [f"{each}: no member" for each in named if each not in MEMBERS]
    transport = RMQTransport("orders", "one", "amqp://localhost/", lambda *_: None)
    for member, now, text in found:
        there = _is_there(member, transport)
        if now not in ("same", "changed", "gone"):
            told.append(f"{member}: {now!r}")
        elif there != (now != "gone"):
            told.append(f"{member}: {now}, and it is {'there' if there else 'not there'}")
        if not text and now != "same":
            told.append(f"{member}: {now}, and nothing said about it")
    return told


def _is_there(member: str, transport: RMQTransport) -> bool:
    owner, _, name = member.rpartition(".")
    match owner:
        case "RMQTransport":
            return hasattr(transport, name)
        case "RabbitMQConfiguration":
            return name in RabbitMQConfiguration.__annotations__
        case _:
            return hasattr(nuropb_rmq, name)


def names(pattern: re.Pattern[str], document: str) -> list[str]:
    """The names of nuropb's modules, with their modules, in one of the two tables of names."""
    return [
        f"{found[1]}.{name}"
        for found in pattern.finditer(document)
        for name in re.findall(r"`(\w+)`", found[2])
    ]


@pytest.fixture
def document() -> str:
    return (ROOT / "docs" / "guides" / "migration.md").read_text()


def test_every_member_has_a_true_row(document: str) -> None:
    assert len(MEMBERS) == 83
    assert problems(document) == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("| `RMQTransport.start` | changed |", "| `RMQTransport.began` | changed |", "start: 0"),
        ("| `_verbose` | gone |", "| `verbose` | gone |", "verbose: 2 rows"),
        ("| `_verbose` | gone |", "| `_verbose` | same |", "_verbose: same, and it is not there"),
        ("| `RMQTransport.stop` | changed |", "| `RMQTransport.stop` | gone |", "it is there"),
        ("| `RMQTransport.stop` | changed |", "| `RMQTransport.stop` | better |", "'better'"),
        ("| gone | `connected` |", "| gone | |", "nothing said about it"),
    ],
)
def test_what_is_missing_or_untrue_is_found(
    document: str, before: str, after: str, problem: str
) -> None:
    assert before in document
    told = problems(document.replace(before, after, 1))
    assert any(problem in each for each in told), told


def test_links_within_the_document_lead_somewhere(document: str) -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    }
    targets = set(re.findall(r"\]\(#([^)]+)\)", document))
    assert targets
    assert targets <= headings


def test_what_comes_from_nuropb_rmq_is_there(document: str) -> None:
    here = [each.rpartition(".")[2] for each in names(HERE, document)]
    assert len(here) > 60
    assert [each for each in here if each not in nuropb_rmq.__all__] == []
    assert len(set(here)) == len(here)


def test_what_does_not_is_not_there(document: str) -> None:
    """But for a variable that is a function here."""
    elsewhere = {each.rpartition(".")[2] for each in names(ELSEWHERE, document)}
    assert len(elsewhere) > 30
    assert elsewhere & set(nuropb_rmq.__all__) == {"verbose"}
