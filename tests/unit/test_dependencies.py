"""The versions of pyproject.toml are those that scripts/test tries."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
BOUND = re.compile(r"(?P<name>[\w-]+)(?:\[\w+\])?>=(?P<version>[\d.]+)")
TRIED = ["3.11", "3.12", "3.13", "3.14"]
"""Versions of Python. 3.11 is that of .venv; scripts/test has a share for each of the others."""


def bounds() -> dict[str, str]:
    """The lowest version of each package that a user, or the tests, may have."""
    project = PYPROJECT["project"]
    named: list[str] = [*project["dependencies"], *PYPROJECT["dependency-groups"]["test"]]
    for extra in project["optional-dependencies"].values():
        named += extra
    found = [BOUND.match(each) for each in named]
    assert all(found), "each names its lowest version"
    return {each["name"]: each["version"] for each in found if each}


def digits(version: str) -> list[int]:
    """1.0 is 1.0.0."""
    numbers = [int(each) for each in version.split(".")]
    return numbers + [0] * (3 - len(numbers))


def test_the_lowest_versions_are_those_that_are_tried() -> None:
    lock = (ROOT / "requirements-lowest.lock").read_text()
    locked = dict(re.findall(r"^([\w-]+)==([\d.]+)", lock, re.MULTILINE))
    wrong = {
        name: f"{lowest} is admitted, {locked.get(name)} is tried: run scripts/lock"
        for name, lowest in bounds().items()
        if name not in locked or digits(locked[name]) != digits(lowest)
    }
    assert not wrong


def test_what_ci_runs_is_what_is_named() -> None:
    """On GitHub as well: the matrix of the unit tests, and the whole suite."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    matrix = ", ".join(f'"{each}"' for each in TRIED)
    assert f"python: [{matrix}]\n" in text
    (suite,) = re.findall(r"python-version: \|\n((?: +3\.\d+\n)+)", text)
    assert sorted(suite.split(), key=digits) == TRIED


@pytest.mark.parametrize("script", ["scripts/check", "scripts/test"])
def test_every_version_of_python_that_is_named_is_tried(script: str) -> None:
    """Types are checked for each, and tests run on each."""
    prefix = "Programming Language :: Python :: 3."
    classifiers: list[str] = PYPROJECT["project"]["classifiers"]
    named = [each.rpartition(" ")[2] for each in classifiers if each.startswith(prefix)]
    assert named == TRIED
    text = (ROOT / script).read_text()
    later = " ".join(TRIED[1:])
    assert f"for version in {' '.join(TRIED)};" in text or f"shares=({later} lowest)" in text
