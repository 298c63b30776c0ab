"""Every figure in the pages is of the run that is committed beside them."""

from __future__ import annotations

from benchmarks import run, targets
from benchmarks.figures import Results
from benchmarks.pages import RESULTS, written
from benchmarks.peers import ROOT


def test_pages_and_pictures_are_made_of_the_committed_runs() -> None:
    differ = [
        path.relative_to(ROOT).as_posix()
        for path, text in written()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    assert not differ, "run: .venv/bin/python -m benchmarks.pages"


def test_each_target_that_is_missed_has_a_reason() -> None:
    missed = {figure.text for figure, _ in targets.missed(Results(run.read(RESULTS / "run.json")))}
    assert missed <= set(targets.WHY)
