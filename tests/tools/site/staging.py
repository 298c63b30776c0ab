"""Write the folder that the site is built from: docs/, and what its pages link to beside it.

Pages are written for readers of the repository. On the site there is none, so a page, a picture or
a file that a page links to comes along, and the link says where it is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
STAGED: Final = ROOT / "build" / "docs"

PAGES: Final = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "README.md": "index.md",  # the site's first page stands in for it
    "benchmarks/README.md": "measured/how.md",
    "benchmarks/results/figures.md": "measured/figures.md",
    "benchmarks/results/scale.md": "measured/scale.md",
}
"""Pages outside docs/ that the site has, and where."""

_FENCE: Final = re.compile(r"^ *(```|~~~)")
_LINK: Final = re.compile(r"(\]\(|\b(?:src|href)=\")([^)\s\"#]+)")
_PICTURE: Final = re.compile(
    r'<picture>\s*<source [^>]*srcset="([^"]+)">\s*<img alt="([^"]*)" src="([^"]+)">\s*</picture>'
)
_PICTURES: Final = (".svg", ".png")


def stage(target: Path = STAGED) -> None:
    """Write all pages to a folder, and remove what is no longer theirs. Unchanged ones stay."""
    written = dict(_staged())
    for name, content in written.items():
        path = target / name
        if path.is_file() and path.read_bytes() == content:
            continue  # a server that watches the folder would build it anew
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target).as_posix() not in written:
            path.unlink()


def _staged() -> Iterator[tuple[str, bytes]]:
    """Yield each file of the site's source by its name, with what links to it brings along."""
    docs = [path for path in sorted((ROOT / "docs").rglob("*")) if path.is_file()]
    beside = [name for name in PAGES if name != "README.md" and (ROOT / name).is_file()]
    todo = [*(path.relative_to(ROOT).as_posix() for path in docs), *beside]
    seen = set(todo)
    for source in todo:  # grows, by what the pages name
        path = ROOT / source
        if path.suffix != ".md":
            yield place(source), path.read_bytes()
            continue
        text, named = rewritten(path.read_text(encoding="utf-8"), source)
        todo += sorted(named - seen)
        seen |= named
        yield place(source), text.encode()


def place(source: str) -> str:
    """Return where a file of the repository is on the site."""
    if source in PAGES:
        return PAGES[source]
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    if source.endswith(_PICTURES):
        return f"images/{source}"
    return f"source/{source}.txt"  # shown by every browser, as it is


def rewritten(text: str, source: str) -> tuple[str, set[str]]:
    """Return a page with its links as the site has them, and the files outside docs/ it names."""
    named: set[str] = set()
    folder = os.path.dirname(place(source)) or "."

    def moved(match: re.Match[str]) -> str:
        before, url = match.groups()
        if ":" in url:
            return match[0]
        linked = os.path.normpath(os.path.join(os.path.dirname(source), url))
        if not (ROOT / linked).is_file():
            return match[0]  # the check of the built site says so
        if not linked.startswith("docs/") and linked not in PAGES:
            named.add(linked)
        return before + os.path.relpath(place(linked), folder)

    text = _PICTURE.sub(r"![\2](\1#only-dark){.wide}\n![\2](\3#only-light){.wide}", text)
    lines, fenced = [], False
    for line in text.splitlines(keepends=True):
        fenced ^= _FENCE.match(line) is not None
        lines.append(line if fenced else _LINK.sub(moved, line))
    return "".join(lines), named
