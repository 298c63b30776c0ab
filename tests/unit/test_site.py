"""The documentation site: what is staged for it, and what a check of the built one notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.site.checking import problems, read
from tests.tools.site.staging import PAGES, ROOT, STAGED, place, rewritten, stage

HTML = '<html><body><h1 id="a">{title}</h1>{body}</body></html>'


def site(folder: Path, **pages: str) -> list[str]:
    """Build pages, a.html and so on; return what is wrong with them."""
    read.cache_clear()
    built, staged = folder / "site", folder / "staged"
    links = "".join(f'<a href="{name}.html">{name}</a>' for name in pages)
    for name, html in {"index": HTML.format(title="Home", body=links), **pages}.items():
        for path, text in ((built / f"{name}.html", html), (staged / f"{name}.md", "")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return list(problems(built, staged))


def test_a_good_site(tmp_path: Path) -> None:
    good = HTML.format(title="A", body='<a href="index.html#a">x</a> <a href="#a">y</a>')
    assert site(tmp_path, good=good) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="b.html">b</a>', "a.html: links to b.html, which is not there"),
        ('<img src="b.png">', "a.html: links to b.png, which is not there"),
        ('<a href="index.html#b">b</a>', "links to index.html#b, which has no such anchor"),
        ('<a href="#b">b</a>', "links to #b, which has no such anchor"),
        ('<script src="https://example.org/x.js"></script>', "fetches https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "fetches //example.org/x.css"),
        (
            "<style>@import url(https://example.org/x.css)</style>",
            "fetches https://example.org/x.css",
        ),
        ('<p style="background:url(//example.org/x.png)">b</p>', "fetches //example.org/x.png"),
        ('<object data="https://example.org/x"></object>', "fetches https://example.org/x"),
        ("<h1>second</h1>", "has 2 titles"),
    ],
)
def test_a_page_with_a_fault(tmp_path: Path, body: str, problem: str) -> None:
    found = site(tmp_path, a=HTML.format(title="A", body=body))
    assert len(found) == 1
    assert problem in found[0]


def test_a_picture_that_fetches_a_font(tmp_path: Path) -> None:
    assert site(tmp_path) == []
    font = "@font-face { src: local('Mono'), url('https://example.org/mono.woff2') }"
    (tmp_path / "site" / "b.svg").write_text(f"<svg><style>{font}</style></svg>", encoding="utf-8")
    assert len(site(tmp_path)) == 1
    assert site(tmp_path)[0].startswith("b.svg: fetches https://example.org/mono.woff2: ")


def test_a_page_without_a_title(tmp_path: Path) -> None:
    assert "has 0 titles" in site(tmp_path, a="<p>no title</p>")[0]
    assert "has 1 titles" in site(tmp_path, a="<h1> </h1>")[0]


def test_a_page_that_no_menu_has(tmp_path: Path) -> None:
    assert site(tmp_path) == []
    hidden = tmp_path / "site" / "hidden.html"
    hidden.write_text(HTML.format(title="Hidden", body=""), encoding="utf-8")
    assert site(tmp_path) == ["hidden.html: is not in the menu (nav in mkdocs.yml)"]


def test_a_page_that_was_not_built(tmp_path: Path) -> None:
    site(tmp_path)
    (tmp_path / "staged" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    assert site(tmp_path) == ["forgotten.html: was not built"]


# -- staging --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "there"),
    [
        ("docs/guides/testing.md", "guides/testing.md"),
        ("CHANGELOG.md", "changelog.md"),
        ("benchmarks/results/rpc-dark.svg", "images/benchmarks/results/rpc-dark.svg"),
        ("tests/faults/common.py", "source/tests/faults/common.py.txt"),
    ],
)
def test_where_a_file_is(source: str, there: str) -> None:
    assert place(source) == there


def test_links_say_where_it_is() -> None:
    page = (
        "[a](testing.md#top) [b](../../SECURITY.md) [c](https://example.org) [d](#here)\n"
        "[e](../../tests/conftest.py)\n```\n[f](../../SECURITY.md)\n```\n"
    )
    text, named = rewritten(page, "docs/guides/failures.md")
    assert text == (
        "[a](testing.md#top) [b](../security-policy.md) [c](https://example.org) [d](#here)\n"
        "[e](../source/tests/conftest.py.txt)\n```\n[f](../../SECURITY.md)\n```\n"
    )
    assert named == {"tests/conftest.py"}


def test_pictures_for_light_and_dark() -> None:
    page = (
        '<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="images/doctor.svg">\n'
        '  <img alt="What" src="images/doctor.svg">\n</picture>\n'
    )
    assert rewritten(page, "docs/index.md")[0] == (
        "![What](images/doctor.svg#only-dark){.wide}\n![What](images/doctor.svg#only-light){.wide}\n"
    )


def test_all_pages_are_staged(tmp_path: Path) -> None:
    (tmp_path / "old.md").write_text("# Old\n", encoding="utf-8")
    stage(tmp_path)
    staged = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.md")}
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    beside = {
        there for name, there in PAGES.items() if name != "README.md" and (ROOT / name).exists()
    }
    assert staged - pages == beside
    assert pages <= staged
    assert STAGED.name == "docs"
