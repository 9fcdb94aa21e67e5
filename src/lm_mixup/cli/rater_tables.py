"""Tables of the commands on raters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from lm_mixup.cli import console

if TYPE_CHECKING:
    from lm_mixup.raters.compare import Comparison
    from lm_mixup.raters.training import Interval, Report

_CONFUSIONS_SHOWN = 6


def head_figures(report: Report) -> dict[str, Any]:
    """The figures of a head's cross-validation, as they go into its card."""

    def interval(value: Interval) -> dict[str, float]:
        return {"value": round(value.value, 4), "low": round(value.low, 4), "high": round(value.high, 4)}

    return {
        "rows": report.rows,
        "spearman": interval(report.spearman),
        "spearman_without_damage": _number(report.merit_alone),
        "length_alone": interval(report.length),
        "beyond_length": interval(report.beyond_length),
        "high_auc": _number(report.high_auc),
        "class_shares": [round(v, 4) for v in report.shares[:, 0].tolist()],
        "class_shares_of_rater": [round(v, 4) for v in report.shares[:, 1].tolist()],
    }


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def print_heads(heads: Mapping[str, Mapping[str, Any]]) -> None:
    """The cross-validated figures of trained heads."""
    table = Table(title="five-fold cross-validation, 95 % intervals", header_style="bold", title_justify="left")
    for name in ("head", "rows", "Spearman", "length alone", "beyond length", "AUC of high", "largest share gap"):
        table.add_column(name, justify="left" if name == "head" else "right")
    for name, told in heads.items():
        gap = max(abs(a - b) for a, b in zip(told["class_shares"], told["class_shares_of_rater"], strict=True))
        cells = [_shown(told[part]) for part in ("spearman", "length_alone", "beyond_length")]
        auc = "–" if told["high_auc"] is None else f"{told['high_auc']:.3f}"
        table.add_row(escape(name), f"{told['rows']:,}", *cells, auc, f"{100 * gap:.1f} points")
    console.out.print(table)


def _shown(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return "–"
    return f"{interval['value']:.3f} \\[{interval['low']:.3f}, {interval['high']:.3f}]"


def print_library(told: Mapping[str, Any]) -> None:
    """What library.json says of each shelf."""
    title = f"ratings by {told['rater']}, each row held out; k = {told['settings']['neighbors']}"
    table = Table(title=escape(title), header_style="bold", title_justify="left")
    for name in ("shelf", "rows", "temperature", "calibration error", "at temperature 1", "off by", "mean alone"):
        table.add_column(name, justify="left" if name == "shelf" else "right")
    for kind, shelf in told["shelves"].items():
        figures = shelf["figures"]
        parts = ("calibration_error", "calibration_error_before", "error", "error_of_shelf_mean")
        cells = [f"{figures[part]:.3f}" for part in parts]
        table.add_row(kind, f"{shelf['rows']:,}", f"{shelf['temperature']:.2f}", *cells)
    console.out.print(table)


def print_comparison(found: Comparison) -> None:
    """Raters alone, in pairs, against themselves; confusions of the first pairs."""

    def table(title: str, *names: str) -> Table:
        made = Table(title=title, header_style="bold", title_justify="left")
        for name in names:
            made.add_column(name, justify="left" if name in ("rater", "pair", "") else "right")
        return made

    alone = table("raters", "rater", "rows", "classes 0–5, %", "with length", "beyond length", "")
    for name in found.raters:
        shares = " ".join(f"{100 * share:.0f}" for share in found.shares[name])
        length = found.lengths.get(name)
        cells = [_interval(length.correlation), _interval(length.beyond), length.verdict] if length else ["–", "–", ""]
        alone.add_row(escape(name), f"{found.rows[name]:,}", shares, *cells)
    console.out.print(alone)
    if found.pairs:
        names = ("pair", "rows", "Spearman", "exact", "within 1", "kappa", "quadratic", "bias", "calibration error")
        pairs = table("pairs (bias: first − second; calibration error: of the first by the second, and back)", *names)
        for pair in found.pairs:
            pairs.add_row(
                escape(f"{pair.first} – {pair.second}"),
                f"{pair.rows:,}",
                _interval(pair.correlation),
                f"{pair.exact:.2f}",
                f"{pair.within_one:.2f}",
                f"{pair.kappa:.3f}",
                f"{pair.weighted_kappa:.3f}",
                f"{pair.bias:+.2f}",
                f"{pair.calibration_error:.2f}, {pair.back_error:.2f}",
            )
        console.out.print(pairs)
        matrix = table("agreement (Spearman)", "", *(escape(name) for name in found.raters))
        for name, row in zip(found.raters, found.agreement.tolist(), strict=True):
            matrix.add_row(escape(name), *("–" if math.isnan(v) else f"{v:.2f}" for v in row))
        console.out.print(matrix)
    for name, draws in found.draws.items():
        console.out.print(
            f"{name} against itself ({draws.draws} draws of {draws.rows:,} rows): Spearman {draws.correlation:.2f}, "
            f"exact {draws.exact:.2f}, within one {draws.within_one:.2f}, spread {draws.spread:.2f} points, "
            f"reliability {draws.reliability:.2f}",
            markup=False,
        )
    for pair in found.pairs[:_CONFUSIONS_SHOWN]:
        title = escape(f"{pair.first} (rows) by {pair.second} (columns)")
        counts = table(title, "", *map(str, range(6)), "mean of second")
        for number, (row, mean) in enumerate(zip(pair.confusion.tolist(), pair.calibration.tolist(), strict=True)):
            counts.add_row(str(number), *(f"{count:,}" for count in row), "–" if math.isnan(mean) else f"{mean:.2f}")
        console.out.print(counts)
    for note in found.notes:
        console.out.print(note, markup=False)


def _interval(value: Interval | None) -> str:
    return "–" if value is None else f"{value.value:.3f} \\[{value.low:.3f}, {value.high:.3f}]"
