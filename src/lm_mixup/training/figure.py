"""A training as a picture: its loss, or its reward beside what the watch saw. Needs the extra ``report``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_mixup.errors import MissingExtraError
from lm_mixup.files import replacing

WINDOW = 10
"""Steps that the smoothed line of the reward is a mean over."""


def draw(path: Path, lines: Sequence[dict[str, Any]], looks: Sequence[dict[str, Any]] = ()) -> Path:
    """Write the figure (SVG) of a log and of the watch's looks.

    Raises :class:`MissingExtraError` without matplotlib.
    """
    try:
        matplotlib = importlib.import_module("matplotlib")
        figures = importlib.import_module("matplotlib.figure")
        importlib.import_module("matplotlib.backends.backend_svg")
    except ImportError as error:
        raise MissingExtraError("drawing a training", "report", "matplotlib") from error
    panels = _panels(lines, looks)
    with matplotlib.rc_context({"svg.hashsalt": "lm-mixup", "font.size": 9}):
        figure = figures.Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)
        for axis, (title, curves) in zip(axes[0], panels, strict=True):
            for label, steps, values, errors, style in curves:
                if errors is None:
                    axis.plot(steps, values, style, label=label, linewidth=1.5, markersize=3)
                else:
                    axis.errorbar(steps, values, yerr=errors, fmt=style, label=label, capsize=3, markersize=4)
            axis.set_title(title)
            axis.set_xlabel("step")
            axis.grid(alpha=0.3)
            if len(curves) > 1:
                axis.legend(frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": "lm-mixup"})
    return path


_Curve = tuple[str, list[int], list[float], list[float] | None, str]


def _panels(lines: Sequence[dict[str, Any]], looks: Sequence[dict[str, Any]]) -> list[tuple[str, list[_Curve]]]:
    if not any("reward" in line for line in lines):
        return [("loss", [_curve("loss", lines, "loss", "-")])]
    rewards = [line for line in lines if "reward" in line]
    smooth = [
        {"step": line["step"], "reward": _mean([other["reward"] for other in rewards[max(0, i - WINDOW + 1) : i + 1]])}
        for i, line in enumerate(rewards)
    ]
    panels = [
        (
            "reward of the rollouts",
            [_curve("a step", rewards, "reward", "."), _curve(f"mean of {WINDOW}", smooth, "reward", "-")],
        ),
    ]
    if any(line.get("kl") is not None for line in rewards):
        panels.append(("KL to the cold start", [_curve("kl", rewards, "kl", "-")]))
    if looks:
        panels += [
            ("held out: reward", [_curve("reward", looks, "reward", "o-", "reward_error")]),
            ("held out: independent judge", [_curve("rating 0-5", looks, "judge", "o-", "judge_error")]),
            ("held out: tokens", [_curve("tokens", looks, "tokens", "o-")]),
            (
                "held out: copied, varied",
                [_curve("copied", looks, "copied", "o-"), _curve("distinct-3", looks, "distinct", "s-")],
            ),
        ]
    return panels


def _curve(label: str, rows: Sequence[dict[str, Any]], name: str, style: str, error: str | None = None) -> _Curve:
    known = [row for row in rows if row.get(name) is not None]
    errors = [1.96 * (row.get(error) or 0.0) for row in known] if error else None
    return label, [row["step"] for row in known], [row[name] for row in known], errors, style


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
