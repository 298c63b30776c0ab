"""Show docstrings as they are meant: an extension of griffe, which the site's API pages load.

They are written to be read in the source: a paragraph of `name: text` lines describes arguments,
`::` begins a block of code, other paragraphs are text. As Markdown the first would run together.
"""

from __future__ import annotations

import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any, Final

try:
    from griffe import Extension
except ImportError:  # in the tests, which ask only for `markdown`
    Extension = object

_ITEM: Final = re.compile(r"(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?P<text>.+)", re.DOTALL)
_RAISED: Final = re.compile(r"(?<![\w.])(?P<name>[A-Z]\w+)")
_CODE: Final = re.compile(r"\b(?:async|await|class|def|except|import|with) ")


class Docstrings(Extension):  # type: ignore[misc, valid-type, unused-ignore]
    """Turn each docstring into Markdown, when griffe has read it."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = linked(markdown(obj.docstring.value))


@cache
def exceptions() -> frozenset[str]:
    """Return the names of the package's exceptions; the package is not imported for the site."""
    source = Path(__file__).parents[3] / "nuropb_rmq" / "exceptions.py"
    return frozenset(re.findall(r"^class (\w+)\(", source.read_text("utf-8"), re.MULTILINE))


def linked(text: str) -> str:
    """Return Markdown of an API page with its exceptions linked to where they are explained."""

    def link(found: re.Match[str]) -> str:
        name = found["name"]
        return f"[{name}](../exceptions.md#{name.lower()})" if name in exceptions() else name

    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.DOTALL)  # code stays as it is
    return "".join(
        _RAISED.sub(link, part) if at % 2 == 0 else part for at, part in enumerate(parts)
    )


def markdown(docstring: str) -> str:
    """Return a docstring of this package as Markdown."""
    blocks = re.split(r"\n{2,}", textwrap.dedent(docstring).strip("\n"))
    made: list[str] = []
    code: list[str] = []
    for block in [*blocks, ""]:
        if code and block.startswith("    "):
            code.append(block)
            continue
        if len(code) > 1:
            made.append(_fenced(textwrap.dedent("\n\n".join(code[1:]))))
        code = []
        text = block
        if block.endswith("::"):
            code = [""]
            text = block.removesuffix("::").rstrip()
            text += ":" if text else ""
        if text:
            made.append(_listed(text))
    return "\n\n".join(made)


def _fenced(code: str) -> str:
    language = "python" if _CODE.search(code) else "text"
    return f"```{language}\n{code}\n```"


def _listed(block: str) -> str:
    """Return a paragraph, or a list where each of its lines describes an argument."""
    items = [textwrap.dedent(item) for item in re.split(r"\n(?! )", block)]
    found = [_ITEM.fullmatch(item) for item in items]
    if not all(found) or not found:
        return block
    lines = []
    for item in found:
        assert item is not None
        names = ", ".join(f"`{name}`" for name in item["names"].split(", "))
        lines.append(f"- {names}: {' '.join(item['text'].split())}")
    return "\n".join(lines)
