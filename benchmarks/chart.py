"""Bars as SVG, by hand: one picture for a light page and one for a dark one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_BAR: Final = 20
_GAP: Final = 8
_LABELS: Final = 170
_BARS: Final = 210
_PANEL: Final = _LABELS + _BARS + 70
_TOP: Final = 64


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours."""

    name: str
    text: str
    faint: str
    ours: str
    theirs: str
    floor: str


THEMES: Final = (
    Theme("light", "#1f2328", "#59636e", "#0969da", "#afb8c1", "#d8dee4"),
    Theme("dark", "#f0f6fc", "#9198a1", "#4493f8", "#656c76", "#3d444d"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `kind` is ours, theirs or floor."""

    label: str
    value: float
    low: float
    high: float
    kind: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one unit."""

    title: str
    bars: Sequence[Bar]


def draw(title: str, panels: Sequence[Panel], theme: Theme) -> str:
    """The SVG's text."""
    rows = max(len(panel.bars) for panel in panels)
    width, height = _PANEL * len(panels), _TOP + rows * (_BAR + _GAP) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<text x="0" y="18" font-size="16" font-weight="600" fill="{theme.text}">'
        f"{escape(title)}</text>",
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * _PANEL, theme)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, left: int, theme: Theme) -> list[str]:
    largest = max(bar.high for bar in panel.bars)
    parts = [f'<text x="{left}" y="46" fill="{theme.faint}">{escape(panel.title)}</text>']
    for number, bar in enumerate(panel.bars):
        top = _TOP + number * (_BAR + _GAP)
        middle = top + _BAR / 2
        start = left + _LABELS
        scale = _BARS / largest
        fill = {"ours": theme.ours, "theirs": theme.theirs}.get(bar.kind, theme.floor)
        weight = ' font-weight="600"' if bar.kind == "ours" else ""
        low, high = start + bar.low * scale, start + bar.high * scale
        parts += [
            f'<text x="{start - 8}" y="{middle + 5:g}" text-anchor="end" fill="{theme.text}"'
            f"{weight}>{escape(bar.label)}</text>",
            f'<rect x="{start}" y="{top}" width="{max(1.0, bar.value * scale):.1f}" '
            f'height="{_BAR}" rx="3" fill="{fill}"/>',
            f'<path d="M{low:.1f} {middle:g}H{high:.1f}" stroke="{theme.faint}"/>',
            f'<text x="{max(high, start + bar.value * scale) + 6:.1f}" y="{middle + 5:g}" '
            f'fill="{theme.text}"{weight}>{bar.value:,.0f}</text>',
        ]
    return parts
