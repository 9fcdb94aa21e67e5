"""The best source, and answers that were made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_mixup.errors import InputError
from lm_mixup.evaluation.baselines import BestSource, Given, cut
from lm_mixup.evaluation.rows import cluster_of, samples_of
from lm_mixup.mixture.rows import Row, make_row
from lm_mixup.records import Cluster, Distillate, Failure, TaskType
from tests.evaluation.material import rows


def clusters(*ratings: float) -> list[Cluster]:
    return [cluster_of(row, samples_of(row), (ratings * 3)[: len(row.variants)]) for row in rows()]


def test_the_best_rated_source_is_taken_as_it_is() -> None:
    made = BestSource().distill(clusters(1.0, 4.0, 2.0))
    for row, one in zip(rows(), made, strict=True):
        assert isinstance(one, Distillate)
        assert one.answer == row.variants[1]
        assert one.used_ids == (f"{row.id}/1",)
    first = BestSource().distill(clusters(3.0))
    assert [one.answer for one in first if isinstance(one, Distillate)] == [row.variants[0] for row in rows()]


def test_a_best_source_without_its_form_is_a_failure() -> None:
    row = make_row(TaskType.TFQ, ["no verdict here", "It is so.\nAnswer: True"], "It is so.\nAnswer: True")
    (one,) = BestSource().distill([cluster_of(row, samples_of(row), [4.0, 1.0])])
    assert isinstance(one, Failure)
    assert one.reason == "bad-format"
    (empty,) = BestSource().distill([cluster_of(row, (), ())])
    assert isinstance(empty, Failure)


def test_references_are_the_targets() -> None:
    made = Given.references(rows()).distill(clusters(1.0))
    assert [one.answer for one in made if isinstance(one, Distillate)] == [row.output for row in rows()]


def test_a_file_holds_answers_or_all_that_a_model_said(tmp_path: Path) -> None:
    (qa, mcq, tfq, cs, para), others = rows()[:5], rows()[5:]
    said = f"<think>\n</think>\n<answer>\n{mcq.output}\n</answer>"
    lines = [
        {"id": qa.id, "answer": qa.output},
        {"id": mcq.id, "text": said + " and <answer>another</answer>"},
        {"id": tfq.id, "text": "<answer>no verdict</answer>"},
        {"id": cs.id, "text": "cut off <answer>C:"},
        {"id": para.id, "answer": None},
        {"id": "of another part", "answer": "x"},
    ]
    given = Given.read(_file(tmp_path, lines))
    made = dict(zip([row.id for row in rows()], given.distill(clusters(1.0)), strict=True))
    assert [made[row.id].answer for row in (qa, mcq) if isinstance(made[row.id], Distillate)] == [qa.output, mcq.output]  # type: ignore[union-attr]
    reasons = {row.id: made[row.id].reason for row in (tfq, cs, para) if isinstance(made[row.id], Failure)}  # type: ignore[union-attr]
    assert reasons == {tfq.id: "bad-format", cs.id: "bad-format", para.id: "no-answer"}
    assert all(isinstance(made[row.id], Failure) for row in others)
    assert given.said[mcq.id].endswith("another</answer>")
    assert given.key != Given.references(rows()).key


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": "a"', "line 2: expected a JSON object"),
        ("[1]", 'line 2: expected an object with "id"'),
        ('{"id": 3, "answer": "x"}', 'line 2: expected an object with "id"'),
        ('{"id": "b", "text": 3}', 'line 2: expected an object with "id"'),
        ('{"id": "a", "answer": "x"}', "'a' is there already"),
    ],
)
def test_a_line_that_is_no_answer_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "a", "answer": "x"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=told):
        Given.read(path)
    with pytest.raises(InputError, match="cannot read"):
        Given.read(tmp_path / "none.jsonl")


def test_what_comes_after_the_answer_is_cut() -> None:
    assert cut("<answer>a</answer><answer>b</answer>") == "<answer>a</answer>"
    assert cut("<answer>never closed") == "<answer>never closed"


def _file(folder: Path, lines: list[dict[str, object]]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_rows_are_of_the_shape_that_the_tests_rely_on() -> None:
    assert [row.task_type for row in rows()[:5]] == ["qa", "mcq", "tfq", "cs", "para"]
    assert all(isinstance(row, Row) and len(row.variants) >= 2 for row in rows())
