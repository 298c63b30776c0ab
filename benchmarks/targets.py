"""Each target with what was measured, and of those that are missed, why: results/targets.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from .figures import FIGURES, Figure, Results

WHY: Final[Mapping[str, str]] = {}
"""Why a figure is missed, and what would have to change, by its text."""
_UNKNOWN: Final = "Not looked into yet."


def page(results: Results) -> str:
    """Return the page."""
    return "\n".join(_parts(results))


def missed(results: Results) -> Iterator[tuple[Figure, float]]:
    """Yield each figure that is missed, and its value."""
    for figure in FIGURES:
        try:
            value = figure.value(results)
        except KeyError:  # not measured
            continue
        if not figure.held(value):
            yield figure, value


def _parts(results: Results) -> Iterator[str]:
    failing = dict(missed(results))
    yield "# Targets\n"
    yield f"Of the run of {results.date} in figures.md.\n"
    yield "| | target | measured | missed by |"
    yield "| --- | ---: | ---: | ---: |"
    for figure in FIGURES:
        bound = f"{figure.kind} {figure.bound:,g}{figure.unit}"
        try:
            value = figure.value(results)
        except KeyError:
            yield f"| {figure.text} | {bound} | - | - |"
            continue
        by = f"{abs(value / figure.bound - 1):.0%}" if figure in failing and figure.bound else ""
        shown = f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
        yield f"| {figure.text} | {bound} | {shown}{figure.unit} | {by} |"
    yield "\n## Why, and what would have to change\n"
    for figure in failing:
        yield f"**{figure.text}.** {WHY.get(figure.text, _UNKNOWN)}\n"
