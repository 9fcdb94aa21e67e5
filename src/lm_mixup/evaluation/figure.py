"""An evaluation as a figure: every measure with its interval, and the rating by task type. Needs matplotlib."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from lm_mixup.errors import MissingExtraError
from lm_mixup.evaluation import measures as m
from lm_mixup.evaluation.bootstrap import MACRO, ROWS, Figure
from lm_mixup.evaluation.mixture import Evaluation
from lm_mixup.evaluation.report import types_of
from lm_mixup.files import replacing

PANELS = (m.RATING, m.RATING_AT_LENGTH, "format", m.ALIGNMENT, "coverage", "reference_coverage", "grounding", "rouge_l")


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
        figure = figures.Figure(figsize=(12, 3 * height + 0.6), layout="constrained")
        panels = figure.subplots(3, 4, sharey=True).ravel()
        for axes, measure in zip(panels, PANELS, strict=False):
            _forest(axes, found, measure, (ROWS, MACRO), m.MEASURES[measure].head)
        for axes, kind in zip(panels[len(PANELS) :], kinds, strict=False):
            _forest(axes, found, m.RATING, (kind,), f"rating: {kind}")
        for axes in panels[len(PANELS) + len(kinds) :]:
            axes.set_visible(False)
        figure.suptitle(
            f"{len(found.rows.rows):,} rows of MIXTURE, judge {found.judge}; 95 % intervals; "
            "● over rows, ○ mean of the types"
        )
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": "lm-mixup"})


def _forest(axes: Any, found: Evaluation, measure: str, scopes: tuple[str, ...], title: str) -> None:
    for number, entrant in enumerate(found.entrants):
        for scope, mark, shift in zip(scopes, ("o", "o"), (0.12, -0.12), strict=False):
            told: Figure = found.figures[entrant][measure][scope]
            if math.isnan(told.value):
                continue
            place = number + (shift if len(scopes) > 1 else 0.0)
            if not math.isnan(told.low):
                axes.plot([told.low, told.high], [place, place], color="grey", linewidth=1)
            face = "white" if scope == MACRO else "black"
            axes.plot([told.value], [place], mark, color="black", markerfacecolor=face, markersize=4)
    axes.set_yticks(range(len(found.entrants)), [name.replace("$", r"\$") for name in found.entrants])
    axes.set_ylim(len(found.entrants) - 0.5, -0.5)
    axes.set_title(title)
    axes.grid(axis="x", color="whitesmoke")
