"""The whole evaluation on a made-up MIXTURE: the golden figures, what must hold, and what is not paid twice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from lm_mixup.distillers.lm import LMDistiller
from lm_mixup.errors import InputError, PoolError
from lm_mixup.evaluation import measures as m
from lm_mixup.evaluation.baselines import Given
from lm_mixup.evaluation.bootstrap import ROWS
from lm_mixup.evaluation.entrants import Entrant, Overheard
from lm_mixup.evaluation.mixture import LIKE_LENGTH_RATING, PREFERRED, rating_by
from lm_mixup.evaluation.report import results, rows_table, write
from lm_mixup.evaluation.rows import Selection
from lm_mixup.llm.scripted import Scripted
from lm_mixup.records import TaskType
from tests.evaluation.material import baselines, evaluated, rows
from tests.fakes import JoiningDistiller, LengthRater, WordEmbedder

GOLDEN = Path(__file__).parent.parent / "golden" / "evaluation.json"


def test_the_golden_figures(tmp_path: Path) -> None:
    """See ``tests/golden/make_evaluation.py``."""
    found = json.loads(json.dumps(results(evaluated(tmp_path, baselines()), {})))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for name, told in golden["distillers"].items():
        for measure, scopes in told.items():
            for scope, figure in scopes.items():
                assert found["distillers"][name]["figures"][measure][scope] == pytest.approx(figure, abs=2e-4), (
                    f"{name} {measure} {scope}"
                )
    differences = {f"{pair['first']} - {pair['second']}": pair["figures"] for pair in found["differences"]}
    for name, measures in golden["differences"].items():
        for measure, figure in measures.items():
            assert differences[name][measure]["rows"] == pytest.approx(figure, abs=2e-4), f"{name} {measure}"


def test_the_reference_is_the_ceiling_and_the_best_source_copies(tmp_path: Path) -> None:
    figures = evaluated(tmp_path, baselines()).figures
    for measure in ("rouge_l", m.ALIGNMENT, "reference_coverage", "format"):
        assert figures["reference"][measure][ROWS].value == pytest.approx(1.0, abs=1e-3)
    assert figures["best-source"]["copied"][ROWS].value == 1.0
    held = {name: told["reference_coverage"][ROWS].value for name, told in figures.items()}
    assert held["best-source"] < held["extractive"]
    assert all(told[m.FAILED][ROWS].value == 0.0 for told in figures.values())


def test_the_figures_are_the_means_of_the_rows(tmp_path: Path) -> None:
    found = evaluated(tmp_path, baselines())
    table = rows_table(found).to_pylist()
    assert len(table) == 90
    for measure in (m.RATING, "rouge_l", m.WORDS):
        for name in found.entrants:
            of_qa = [row[measure] for row in table if row["distiller"] == name and row["task_type"] == "qa"]
            assert found.figures[name][measure]["qa"].value == pytest.approx(np.mean(of_qa))
            assert found.figures[name][measure]["qa"].rows == 6
    (row,) = [r for r in table if r["distiller"] == "extractive" and r["id"] == rows()[0].id]
    assert row["group"] == "title:harbor"
    assert row["rating"] == pytest.approx(min(5.0, len(row["answer"].partition("\nA: ")[2]) / 40))


def test_a_judge_of_length_is_seen_through(tmp_path: Path) -> None:
    """Who says everything twice wins by such a judge, and not at the reference's length."""
    twice = Given({row.id: f"{row.output} {row.output.partition('A: ')[2] or row.output}" for row in rows()})
    selection = Selection(types=(TaskType.QA, TaskType.PARA))
    found = evaluated(
        tmp_path,
        [Entrant("twice", twice), *baselines()],
        judge=LengthRater(100),
        selection=selection,
    )
    (pair,) = [pair for pair in found.pairs if (pair.first, pair.second) == ("twice", "reference")]
    plain, level = pair.differences[m.RATING][ROWS], pair.differences[m.RATING_AT_LENGTH][ROWS]
    assert plain.low > 0.3
    assert abs(level.value) < 0.6 * plain.value
    assert pair.differences[LIKE_LENGTH_RATING][ROWS].rows == 0
    assert math.isnan(pair.differences[LIKE_LENGTH_RATING][ROWS].value)
    assert pair.differences[PREFERRED][ROWS].value == 1.0


def test_failures_are_counted_and_never_a_number(tmp_path: Path) -> None:
    failing = Entrant("joining", JoiningDistiller(fail_on="harbor"))
    selection = Selection(types=(TaskType.QA,))
    found = evaluated(tmp_path, [failing, *baselines()[2:]], selection=selection)
    figures = found.figures["joining"]
    assert figures[m.FAILED][ROWS].value == pytest.approx(1 / 6)
    assert figures[m.RATING][ROWS].rows == figures["rouge_l"][ROWS].rows == 5
    answered = figures[m.RATING][ROWS].value
    assert figures[m.RATING_WITH_FAILURES][ROWS].value == pytest.approx(answered * 5 / 6)
    assert found.reasons["joining"] == {"unreadable": 1}
    assert found.pairs[0].differences[m.RATING][ROWS].rows == 5
    (lost,) = [row for row in rows_table(found).to_pylist() if row["reason"]]
    assert lost["answer"] is lost["rating"] is lost["rouge_l"] is None


def test_answers_that_the_judge_cannot_rate_keep_their_other_measures(tmp_path: Path) -> None:
    found = evaluated(tmp_path, baselines(), judge=LengthRater(40, fail_on="harbor"))
    figures = found.figures["reference"]
    assert figures[m.RATING][ROWS].rows == figures[m.RATING_WITH_FAILURES][ROWS].rows == 25
    assert figures["rouge_l"][ROWS].rows == 30
    assert found.reasons["reference"] == {"not rated: unreadable": 5}


def test_rows_whose_variants_cannot_be_rated_are_left_out(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "some", baselines(), rater=LengthRater(25, fail_on="harbor"))
    # of the harbor's rows one keeps a variant: it does not name the harbor
    assert len(found.rows.rows) == 26
    assert found.rows.left_out == {"variants-not-rated": 4}
    with pytest.raises(PoolError, match="no variant could be rated"):
        evaluated(tmp_path / "none", baselines(), rater=LengthRater(25, fail_on=""))


def test_format_is_that_of_the_whole_first_answer(tmp_path: Path) -> None:
    said = {
        rows()[4].id: "<think>\n</think>\n<answer>\nA text.\n</answer>",
        rows()[9].id: "Here: <think></think><answer>A text.</answer>",
        rows()[14].id: "A text.",
    }
    heard = Overheard(Scripted(lambda p: said.get(p.id, "<think></think><answer>A</answer>"), name="x"))
    model = Entrant("model", LMDistiller(heard), heard.said)
    found = evaluated(tmp_path, [model], selection=Selection(types=(TaskType.PARA,)))
    assert found.values["format"].tolist() == [[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]]
    assert found.values[m.FAILED].tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]


def test_nothing_is_worked_out_twice_and_the_files_are_the_same_bytes(tmp_path: Path) -> None:
    judge, rater, embedder = LengthRater(40), LengthRater(25), WordEmbedder()
    joining = JoiningDistiller()
    entrants = [Entrant("joining", joining), *baselines()]
    qa = Selection(types=(TaskType.QA,))
    found = evaluated(tmp_path / "out", entrants, judge=judge, rater=rater, embedder=embedder, selection=qa)
    write(found, tmp_path / "out", {"data": "made up"})
    first = {name: (tmp_path / "out" / name).read_bytes() for name in ("table.md", "results.json", "rows.parquet")}
    counts = (judge.rated, rater.rated, embedder.texts, joining.distilled)
    again = evaluated(tmp_path / "out", entrants, judge=judge, rater=rater, embedder=embedder, selection=qa)
    write(again, tmp_path / "out", {"data": "made up"})
    assert (judge.rated, rater.rated, embedder.texts, joining.distilled) == counts
    assert {name: (tmp_path / "out" / name).read_bytes() for name in first} == first


def test_a_further_judge_has_its_own_column(tmp_path: Path) -> None:
    found = evaluated(tmp_path, baselines(), judges={"short": LengthRater(100), "long": LengthRater(10)})
    assert found.judge == "short"
    other = found.figures["reference"][rating_by("long")][ROWS].value
    assert other > found.figures["reference"][m.RATING][ROWS].value
    write(found, tmp_path, {})
    assert "rating by long" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_names_must_differ_and_a_judge_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different names"):
        evaluated(tmp_path, [*baselines(), *baselines()])
    with pytest.raises(InputError, match="different names"):
        evaluated(tmp_path, [])
