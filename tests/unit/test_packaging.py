"""The package as PyPI gets it: its metadata, its readme, and the files of the sdist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


def hatchling(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def links(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [first or second for first, second in LINK.findall(prose)]


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    """The metadata, as PyPI gets it."""
    told: dict[str, Any] = json.loads(hatchling("metadata"))
    return told


def test_links_of_the_readme_work_on_pypi(metadata: dict[str, Any]) -> None:
    source = metadata["urls"]["Source"]
    shown = links(metadata["readme"]["text"])
    assert [each for each in shown if not each.startswith("https://")] == []
    ours = [each for each in shown if each.startswith(f"{source}/blob/v{metadata['version']}/")]
    assert len(ours) > 20
    # GitHub serves pages about pictures at the one address, and pictures at the other.
    pictures = [each for each in shown if each.endswith(".svg")]
    raw = source.replace("github.com", "raw.githubusercontent.com")
    assert {each.rpartition("/v")[0] for each in pictures} == {raw}


def test_links_of_the_readme_work_in_a_clone() -> None:
    named = links((ROOT / "README.md").read_text(encoding="utf-8"))
    local = [each.partition("#")[0] for each in named if not each.startswith("https://")]
    assert [each for each in local if not (ROOT / each).is_file()] == []


def test_urls_and_licence(metadata: dict[str, Any]) -> None:
    urls = metadata["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert all(each.startswith(urls["Source"]) for each in urls.values())
    assert metadata["license"] == "Apache-2.0"
    assert metadata["keywords"]
    assert not [each for each in metadata["classifiers"] if each.startswith("License ::")]


def test_the_sdist_has_every_file_of_the_repository(tmp_path: Path) -> None:
    """So that whoever has it alone can run the tests, and build the documentation."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is an unpacked sdist")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    tracked = {each for each in listed.stdout.split("\0") if each and (ROOT / each).exists()}
    hatchling("build", "--target", "sdist", "--directory", str(tmp_path))
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as packed:
        names = {each.name.partition("/")[2] for each in packed.getmembers()}
    assert tracked - names == set()
