"""What people and programs read of an evaluation."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest

from lm_mixup.errors import MissingExtraError
from lm_mixup.evaluation.bootstrap import Figure
from lm_mixup.evaluation.figure import draw
from lm_mixup.evaluation.report import markdown, shown, table, write
from tests.evaluation.material import baselines, evaluated
from tests.fakes import LengthRater


def test_a_table_says_what_it_is_over(tmp_path: Path) -> None:
    told = table(evaluated(tmp_path, baselines(), judge=LengthRater(40, fail_on="harbor")), {"data": "made up"})
    assert "- data: made up" in told
    assert "- rows: 30 of 6 articles (qa 6 of 6, mcq 6 of 6, tfq 6 of 6, cs 6 of 6, para 6 of 6)" in told
    assert "- judge: length (`length-40`)" in told
    assert "| extractive | 30 of 30 | " in told
    assert " of 25 |" in told  # ratings, where the judge failed
    assert "| extractive − reference | 25 | " in told
    assert "| reference | not rated: unreadable | 5 |" in told
    widths = {line.count("|") for line in told.split("## Over all rows")[1].split("##")[0].splitlines() if line}
    assert len(widths) == 1


def test_results_are_json_without_nan(tmp_path: Path) -> None:
    write(evaluated(tmp_path, baselines()[:1]), tmp_path, {})
    told = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert told["differences"] == []
    assert told["rows"]["types"] == {"qa": 6, "mcq": 6, "tfq": 6, "cs": 6, "para": 6}
    assert set(told["distillers"]["extractive"]["figures"]["rating"]) == {
        "rows", "types", "qa", "mcq", "tfq", "cs", "para",
    }  # fmt: skip


def test_figures_as_text() -> None:
    nan = math.nan
    assert shown(Figure(3, 1.234, 1.0, 1.5), 2) == "1.23 [1.00, 1.50]"
    assert shown(Figure(3, -0.5, -1.0, 0.25), 2, sign=True) == "-0.50 [-1.00, +0.25]"
    assert shown(Figure(3, 1.2, nan, nan), 1) == "1.2"
    assert shown(Figure(0, nan, nan, nan), 1) == "–"
    assert markdown(["a"], [["x|y\nz"]]) == "| a |\n|---|\n| x\\|y z |"


def test_the_figure_is_drawn_the_same_each_time_or_its_extra_is_named(tmp_path: Path) -> None:
    found = evaluated(tmp_path, baselines())
    path = tmp_path / "figure.svg"
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(MissingExtraError, match=r"lm-mixup\[report\]"):
            draw(found, path)
        return
    draw(found, path)
    first = path.read_bytes()
    draw(found, path)
    assert path.read_bytes() == first
    text = first.decode()
    assert all(
        name in text for name in ("extractive", "best-source", "ROUGE-L", "rating: para", "coverage, less extractive")
    )
