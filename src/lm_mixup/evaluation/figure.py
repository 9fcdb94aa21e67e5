"""An evaluation as a figure: every measure with its interval, the rating by type, differences. Needs matplotlib."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_mixup.errors import MissingExtraError
from lm_mixup.evaluation import measures as m
from lm_mixup.evaluation.bootstrap import MACRO, ROWS, Figure
from lm_mixup.evaluation.mixture import Evaluation
from lm_mixup.evaluation.report import types_of
from lm_mixup.files import replacing

PANELS = (
    m.RATING, m.RATING_AT_LENGTH, "format", m.ALIGNMENT, "rouge_l",
    "coverage", "reference_coverage", "grounding", "surplus", m.WORDS,
)  # fmt: skip
COMPARED = (m.RATING, m.RATING_AT_LENGTH, "coverage", "grounding", "rouge_l")
COLUMNS = 5


def draw(found: Evaluation, path: Path) -> None:
    """Write an SVG; the same evaluation gives the same bytes. Raises MissingExtraError without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        figures = importlib.import_module("matplotlib.figure")
        importlib.import_module("matplotlib.backends.backend_svg")
    except ImportError as error:
        raise MissingExtraError("a figure", "report", "matplotlib") from error
    kinds = list(types_of(found))
    height = 1.2 + 0.22 * len(found.entrants)
    with matplotlib.rc_context({"svg.hashsalt": "lm-mixup", "font.size": 8, "svg.fonttype": "none"}):
        figure = figures.Figure(figsize=(14, 4 * height + 0.6), layout="constrained")
        rows = figure.subplots(4, COLUMNS, sharey=True)
        for axes, measure in zip(rows[:2].ravel(), PANELS, strict=True):
            _forest(axes, found, {name: found.figures[name][measure] for name in found.entrants}, (ROWS, MACRO))
            axes.set_title(m.MEASURES[measure].head)
        for axes, kind in zip(rows[2], kinds, strict=False):
            _forest(axes, found, {name: found.figures[name][m.RATING] for name in found.entrants}, (kind,))
            axes.set_title(f"rating: {kind}")
        for axes, measure in zip(rows[3], COMPARED, strict=True):
            _forest(axes, found, _less_first(found, measure), (ROWS, MACRO))
            axes.axvline(0, color="lightgrey", zorder=0)
            axes.set_title(f"{m.MEASURES[measure].head}, less {_plain(found.entrants[0])}")
        for axes in rows[2, len(kinds) :]:
            axes.set_visible(False)
        figure.suptitle(
            f"{len(found.rows.rows):,} rows of MIXTURE, rated by {_plain(found.judge)}; 95 % intervals; "
            "● over rows, ○ mean of the types"
        )
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": "lm-mixup"})


def _plain(name: str) -> str:
    """A name that matplotlib does not take for a formula."""
    return name.replace("$", r"\$")


def _less_first(found: Evaluation, measure: str) -> dict[str, dict[str, Figure]]:
    """The differences of each entrant from the first one, row by row."""
    out = {}
    for pair in found.pairs:
        if pair.first == found.entrants[0]:
            turned = pair.differences[measure].items()
            out[pair.second] = {scope: Figure(f.rows, -f.value, -f.high, -f.low) for scope, f in turned}
    return out


def _forest(axes: Any, found: Evaluation, told: Mapping[str, Mapping[str, Figure]], scopes: tuple[str, ...]) -> None:
    """A line an entrant: a point and its interval for each scope."""
    for number, entrant in enumerate(found.entrants):
        for scope, shift in zip(scopes, (0.12, -0.12), strict=False):
            figure = told[entrant][scope] if entrant in told else None
            if figure is None or math.isnan(figure.value):
                continue
            place = number + (shift if len(scopes) > 1 else 0.0)
            if not math.isnan(figure.low):
                axes.plot([figure.low, figure.high], [place, place], color="grey", linewidth=1)
            face = "white" if scope == MACRO else "black"
            axes.plot([figure.value], [place], "o", color="black", markerfacecolor=face, markersize=4)
    axes.set_yticks(range(len(found.entrants)), [_plain(name) for name in found.entrants])
    axes.set_ylim(len(found.entrants) - 0.5, -0.5)
    axes.grid(axis="x", color="whitesmoke")
