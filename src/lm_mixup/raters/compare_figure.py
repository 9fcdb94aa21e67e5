"""A comparison of raters as a figure: agreement, classes, length, calibration. Needs matplotlib (extra: report)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from lm_mixup.errors import MissingExtraError
from lm_mixup.files import replacing
from lm_mixup.raters.compare import CLASSES, Comparison

PAIRS_DRAWN = 6
"""Curves of calibration; more could not be told apart."""


def draw(found: Comparison, path: Path) -> None:
    """Write an SVG; the same comparison gives the same bytes. Raises MissingExtraError without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        figures = importlib.import_module("matplotlib.figure")
        importlib.import_module("matplotlib.backends.backend_svg")
    except ImportError as error:
        raise MissingExtraError("a figure", "report", "matplotlib") from error
    with matplotlib.rc_context({"svg.hashsalt": "lm-mixup", "font.size": 8, "svg.fonttype": "none"}):
        figure = figures.Figure(figsize=(11, 8.5), layout="constrained")
        (agreement, shares), (lengths, calibration) = figure.subplots(2, 2)
        _agreement(agreement, found)
        _shares(shares, found)
        _lengths(lengths, found)
        _calibration(calibration, found)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": "lm-mixup"})


def _plain(name: str) -> str:
    """A name that matplotlib does not take for a formula."""
    return name.replace("$", r"\$")


def _agreement(axes: Any, found: Comparison) -> None:
    names = [_plain(name) for name in found.raters]
    table = np.tril(found.agreement) + np.triu(found.weighted_kappa, 1)
    axes.imshow(table, vmin=-1, vmax=1, cmap="PuOr")
    for (row, column), value in np.ndenumerate(table):
        if row != column:
            axes.text(column, row, "–" if np.isnan(value) else f"{value:.2f}", ha="center", va="center")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title("Agreement: below the diagonal Spearman, above it quadratic kappa")


def _shares(axes: Any, found: Comparison) -> None:
    width = 0.8 / len(found.raters)
    for number, name in enumerate(found.raters):
        axes.bar(np.arange(CLASSES) + number * width - 0.4 + width / 2, found.shares[name], width, label=_plain(name))
    axes.set_xlabel("class")
    axes.set_ylabel("share of rows")
    axes.set_title("Classes given")
    axes.legend()


def _lengths(axes: Any, found: Comparison) -> None:
    axes.set_title("Length: rank correlation with it (o), with the other raters beyond it (x)")
    if not found.lengths:
        axes.text(0.5, 0.5, "lengths are not known: name the pool", ha="center", transform=axes.transAxes)
        return
    for number, told in enumerate(found.lengths.values()):
        for value, mark, shift in ((told.correlation, "o", -0.1), (told.beyond, "x", 0.1)):
            if value is not None:
                axes.plot([value.low, value.high], [number + shift] * 2, color="grey")
                axes.plot([value.value], [number + shift], mark, color="black")
        if told.verdict:
            axes.text(0.02, number + 0.3, told.verdict, color="firebrick", transform=axes.get_yaxis_transform())
    axes.axvline(0, color="lightgrey", zorder=0)
    axes.set_yticks(range(len(found.lengths)), [_plain(name) for name in found.lengths])
    axes.set_ylim(len(found.lengths) - 0.5, -0.5)


def _calibration(axes: Any, found: Comparison) -> None:
    axes.plot([0, CLASSES - 1], [0, CLASSES - 1], color="lightgrey")
    for pair in found.pairs[:PAIRS_DRAWN]:
        axes.plot(range(CLASSES), pair.calibration, "o-", label=_plain(f"{pair.second} where {pair.first} says so"))
    axes.set_xlabel("class by the first")
    axes.set_ylabel("mean rating by the second")
    axes.set_title("Calibration")
    if found.pairs:
        axes.legend()
