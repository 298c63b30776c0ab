"""Ask of the built site what zensical's strict mode does not: files, titles, no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_FETCHED: Final = {
    "script": "src",
    "img": "src",
    "source": "srcset",
    "iframe": "src",
    "link": "href",
}
"""Elements whose address a browser fetches by itself."""
_ELSEWHERE: Final = re.compile(
    r"""(?:url\(|@import|\b(?:srcset|data|poster)=)\s*["']?((?:https?:)?//[^"')\s]+)"""
)
"""The same in styles, and in attributes of other elements."""
_MENTIONED: Final = ("canonical", "alternate")


@dataclass
class Page(HTMLParser):
    """A page as a reader meets it."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    """The texts of its h1."""
    _in_heading: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "h1":
            self.headings.append("")
            self._in_heading = True
        address = found.get(_FETCHED.get(tag, ""))
        if address and found.get("rel") not in _MENTIONED:
            self.fetched.append(address)

    def handle_endtag(self, tag: str) -> None:
        if tag == "h1":
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings[-1] += data


@cache
def read(path: Path) -> Page:
    """Read a page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def problems(site: Path, staged: Path) -> Iterator[str]:
    """Yield what is wrong with a built site, a line each."""
    pages = sorted(site.rglob("*.html"))
    for source in sorted(staged.rglob("*.md")):
        name = source.relative_to(staged).with_suffix(".html")
        # As MkDocs does: a README is its folder's index.
        if name.name == "README.html":
            name = name.with_name("index.html")
        if site / name not in pages:
            yield f"{name}: was not built"
    for path in pages:
        if path.name == "404.html":
            continue  # its addresses are the server's
        for problem in (*_titles(path), *_links(path, site)):
            yield f"{path.relative_to(site)}: {problem}"
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css", ".svg"):
            for found in _ELSEWHERE.finditer(path.read_text(encoding="utf-8")):
                yield f"{path.relative_to(site)}: {_fetches(found[1])}"
    yield from _navigation(site)


def _fetches(address: str) -> str:
    return f"fetches {address}: the site must work without a network"


def _titles(path: Path) -> Iterator[str]:
    headings = [text.strip("¶ \n") for text in read(path).headings]
    if len(headings) != 1 or not headings[0]:
        yield f"has {len(headings)} titles (# …), needs one: {headings}"


def _links(path: Path, site: Path) -> Iterator[str]:
    page = read(path)
    for address in page.fetched:
        if urlsplit(address).netloc:
            yield _fetches(address)
    for address in (*page.links, *page.fetched):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target == site.resolve():
            target /= "index.html"
        if not target.is_file():
            yield f"links to {address}, which is not there"
        elif parts.fragment and target.suffix == ".html":
            wanted = unquote(parts.fragment)
            if wanted not in read(target).ids and wanted != "__skip":
                yield f"links to {address}, which has no such anchor"


def _navigation(site: Path) -> Iterator[str]:
    """Yield the pages that no other page's menu leads to."""
    start = site / "index.html"
    reached = {
        (site / unquote(urlsplit(link).path)).resolve()
        for link in read(start).links
        if not urlsplit(link).scheme
    }
    for path in sorted(site.rglob("*.html")):
        if path not in (start, site / "404.html") and path.resolve() not in reached:
            yield f"{path.relative_to(site)}: is not in the menu (nav in mkdocs.yml)"
