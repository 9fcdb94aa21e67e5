"""Bar charts as SVG text, drawn by hand: a data set card needs five of them, and no plotting library for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

COLORS = ("#3b6ea8", "#d98032", "#5a9e6f", "#a65353", "#7c6bab")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 280, 56, 44, 44


def bars(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], *, percent: bool = False) -> str:
    """A grouped bar chart: for each label one bar of each series. Values are 0 or more, shares if ``percent``."""
    most = max((value for values in series.values() for value in values), default=0.0) or 1.0
    room = (_WIDTH - _LEFT - 12) / max(1, len(labels))
    thick = room * 0.8 / max(1, len(series))
    high = _HEIGHT - _TOP - _BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for part in (0.0, 0.5, 1.0):
        y = _TOP + high * (1 - part)
        said = f"{100 * most * part:.0f} %" if percent else f"{most * part:,.0f}"
        out.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{said}</text>')
    for number, (name, values) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        for place, value in enumerate(values):
            x = _LEFT + room * place + room * 0.1 + thick * number
            tall = high * value / most
            box = f'x="{x:.1f}" y="{_TOP + high - tall:.1f}" width="{thick:.1f}" height="{tall:.1f}"'
            out.append(f'<rect {box} fill="{color}"/>')
        if len(series) > 1:
            x = _LEFT + 120 * number
            out.append(f'<rect x="{x}" y="{_HEIGHT - 14}" width="10" height="10" fill="{color}"/>')
            out.append(f'<text x="{x + 14}" y="{_HEIGHT - 5}">{escape(name)}</text>')
    for place, label in enumerate(labels):
        x = _LEFT + room * (place + 0.5)
        out.append(f'<text x="{x:.1f}" y="{_TOP + high + 16}" text-anchor="middle">{escape(label)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
