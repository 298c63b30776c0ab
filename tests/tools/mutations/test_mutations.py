"""The list of mutations fits the code as it is: so it cannot rot unseen."""

from __future__ import annotations

import ast
import random
import re

import pytest

from .listed import ROOT, DoesNotApplyError, Mutation, mutations
from .pure import TESTS
from .syntax import changes

MUTATIONS = mutations()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_it_applies(mutation: Mutation) -> None:
    """Its text is there exactly once, and what comes of it is Python, and something else."""
    source = (ROOT / mutation.file).read_text()
    mutated = mutation.applied(source)
    assert mutated != source
    ast.parse(mutated)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_its_tests_are_there(mutation: Mutation) -> None:
    assert mutation.tests
    for each in mutation.tests:
        file, _, function = each.partition("::")
        name = function.partition("[")[0]
        text = (ROOT / file).read_text()
        assert re.search(rf"^(?:async )?def {name or 'test_'}", text, re.MULTILINE), each


def test_a_row_is_tested_in_a_file_that_is_named_after_it_or_by_unit_tests() -> None:
    for each in MUTATIONS:
        row = re.fullmatch(r"row (\d+)", each.row)
        for test in each.tests if row else ():
            named = re.match(r"tests/faults/test_row_(\d+)(?:_to_(\d+))?_", test)
            first, last = named.groups() if named else (None, None)
            numbers = range(int(first), int(last or first) + 1) if first else ()
            assert row
            assert not first or int(row[1]) in numbers, f"{each.name}: {test}"


def test_no_two_are_called_alike() -> None:
    assert len({each.name for each in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("source", ["", "aa"])
def test_a_text_that_is_not_there_once_is_an_error(source: str) -> None:
    mutation = Mutation(name="n", row="r", file="f", text="a", becomes="b", tests=("t",))
    assert mutation.applied("a c") == "b c"
    with pytest.raises(DoesNotApplyError, match=f"{len(source)} times"):
        mutation.applied(source)


SOURCE = """
x: Literal[1] = -1 if not (a and "é" < b) else True
if c is not None:
    raise ValueError(1)
""".encode()
MUTATED = [
    "= -2 if not",
    "= -1 if  (a",
    "a or",
    "<= b",
    "else False",
    "if c is None",
    ":\n    pass\n",
    "ValueError(2)",
]


def test_changes_by_syntax() -> None:
    every = changes(SOURCE)
    assert len(every) == len(MUTATED)
    for change, part in zip(every, MUTATED, strict=True):
        mutated = change.applied(SOURCE)
        assert part in mutated
        ast.parse(mutated)
    assert changes(SOURCE)[3].told(SOURCE).endswith("[< → <=]")
    assert changes(SOURCE)[6].told(SOURCE).startswith("4: raise ValueError(1)")


@pytest.mark.parametrize("module", TESTS)
def test_every_change_of_a_pure_module_is_python(module: str) -> None:
    source = (ROOT / f"nuropb_rmq/{module}.py").read_bytes()
    every = changes(source)
    assert len(every) >= 2
    for change in random.Random(1).sample(every, min(5, len(every))):
        ast.parse(change.applied(source))
    for name in TESTS[module].split():
        assert (ROOT / f"tests/unit/{name}.py").is_file()
