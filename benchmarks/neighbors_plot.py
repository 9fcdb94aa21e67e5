"""A plot of seconds against rows, both on scales of tens, beside the line of N^1.5."""

from __future__ import annotations

import math

Points = list[tuple[int, float]]

COLOURS = ("#14508c", "#b8460e", "#2f7d32", "#7b3fa0", "#a07800", "#00808a", "#555555")
LEFT, TOP, WIDTH, HEIGHT = 56, 24, 420, 340
LIMIT = 1.5


def exponent(points: Points) -> float:
    """The a of N^a, from the smallest to the largest size."""
    (few, fast), (many, slow) = points[0], points[-1]
    return math.log(slow / fast) / math.log(many / few) if many > few else 0.0


def drawing(series: dict[str, Points]) -> str:
    """An SVG document; each of ``series`` is drawn from its smallest size on, and named with its exponent."""
    sizes = [n for points in series.values() for n, _ in points]
    seconds = [s for points in series.values() for _, s in points]
    first, last = math.log10(min(sizes)), math.log10(max(sizes))
    low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))

    def x(n: float) -> float:
        return LEFT + WIDTH * (math.log10(n) - first) / max(last - first, 1e-9)

    def y(s: float) -> float:
        return TOP + HEIGHT * (high - math.log10(s)) / max(high - low, 1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 300}" height="{TOP + HEIGHT + 48}" '
        'font-family="sans-serif" font-size="12">',
        f'<text x="{LEFT}" y="14">CPU-seconds, one thread</text>',
        f'<text x="{LEFT + WIDTH / 2:g}" y="{TOP + HEIGHT + 40}" text-anchor="middle">rows</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        out.append(f'<path d="M{LEFT} {at:.1f}h{WIDTH}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for n in sorted(set(sizes)):
        out.append(f'<path d="M{x(n):.1f} {TOP}v{HEIGHT}" stroke="#eee"/>')
        out.append(f'<text x="{x(n):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{n // 1000}K</text>')
    # the steepest line that is allowed, through the corner where it fits
    start = min(10.0**high / (max(sizes) / min(sizes)) ** LIMIT, 10.0**high)
    out.append(
        f'<path d="M{x(min(sizes)):.1f} {y(max(start, 10.0**low)):.1f}L{x(max(sizes)):.1f} {y(10.0**high):.1f}" '
        'stroke="#999" stroke-dasharray="5 4" fill="none"/>'
    )
    out.append(f'<text x="{LEFT + WIDTH + 12}" y="{TOP + 6}" fill="#777">- - N^{LIMIT:g}</text>')
    for place, (name, points) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        line = "L".join(f"{x(n):.1f} {y(s):.1f}" for n, s in points)
        out.append(f'<path d="M{line}" stroke="{colour}" stroke-width="2" fill="none"/>')
        out += [f'<circle cx="{x(n):.1f}" cy="{y(s):.1f}" r="3" fill="{colour}"/>' for n, s in points]
        named = f"{name}: N^{exponent(points):.2f}"
        out.append(f'<text x="{LEFT + WIDTH + 12}" y="{TOP + 28 + 20 * place}" fill="{colour}">{named}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
