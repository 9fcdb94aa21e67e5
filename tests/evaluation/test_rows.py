"""Which rows are taken, and what a distiller is given of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.distillers.lm import LMDistiller
from lm_mixup.errors import InputError, PoolError
from lm_mixup.evaluation.rows import Selection, choose, cluster_of, samples_of
from lm_mixup.llm.scripted import Scripted
from lm_mixup.mixture.rows import articles_of, make_row, read_articles, write_articles
from lm_mixup.prompts import Messages
from lm_mixup.prompts.compact import completion
from lm_mixup.records import TaskType
from lm_mixup.task_types import from_sample, render
from tests.evaluation.material import rows


def test_a_variant_comes_back_from_its_sample_as_it_was() -> None:
    for row in rows():
        for sample, variant in zip(samples_of(row), row.variants, strict=True):
            item = from_sample(sample)
            assert item is not None
            assert render(item) == variant


def test_a_variant_without_its_form_is_shown_as_it_is() -> None:
    (row,) = [make_row(TaskType.MCQ, ["Q: Which?\nA) one", "Q: Which?\nA) x\nB) y\nAnswer: A) x"], "…")]
    samples = samples_of(row)
    assert from_sample(samples[0]) is None
    cluster = cluster_of(row, samples, [1.0, 2.0])
    asked = LMDistiller(Scripted({"": "no"})).prompt(cluster).prompt.messages
    assert "Q: Which?\nA) one" in str(asked[-1]["content"])


def test_rows_of_the_wanted_kind_are_kept_and_the_others_counted() -> None:
    every = rows() + rows("sft")
    chosen = choose(every, Selection(types=(TaskType.PARA, TaskType.CS), max_variants=2))
    assert Counter(row.task_type for row in chosen.rows) == {"cs": 6}
    assert chosen.left_out == {"other-number-of-variants": 6, "other-type": 18}
    assert len(choose(every, Selection(min_variants=3)).rows) == 12
    assert len(set(choose(every, Selection()).groups)) == 6
    with pytest.raises(PoolError, match="24 other-type, 6 other-number-of-variants"):
        choose(every, Selection(types=(TaskType.PARA,), min_variants=4))
    with pytest.raises(PoolError, match="no row is of this split"):
        choose(every, Selection(split="grpo"))


def test_rows_that_no_training_meets() -> None:
    def row(name: str, group: str, split: str, inside: bool | None):  # type: ignore[no-untyped-def]
        return make_row(TaskType.PARA, ["a", "b"], name, split=split, group=group, in_subset=inside)

    every = [
        row("trained on", "one", "grpo", True),
        row("beside it", "one", "grpo", False),
        row("far from it", "two", "grpo", False),
        row("no subset chosen", "three", "grpo", None),
        row("beside that", "three", "grpo", False),
        row("another part", "four", "sft", False),
    ]
    assert [r.output for r in choose(every, Selection(split="grpo-rest")).rows] == ["far from it"]


def test_rows_of_articles_that_a_training_met_are_left_out(tmp_path: Path) -> None:
    def row(name: str, group: str):  # type: ignore[no-untyped-def]
        return make_row(TaskType.PARA, ["a", "b"], name, split="grpo", group=group, id=name)

    every = [row("met", "one"), row("half of it met", "two\nthree"), row("alone, met", ""), row("new", "four\nfive")]
    write_articles(tmp_path, articles_of([("one\ntwo", "x"), ("", "alone, met")]))
    met = read_articles(tmp_path)
    assert met == {"one", "two", "alone, met"}
    chosen = choose(every, Selection(split="grpo", met=met))
    assert [r.output for r in chosen.rows] == ["new"]
    assert chosen.left_out == {"met-in-training": 3}
    with pytest.raises(InputError, match=r"expected articles\.json, which lm-mixup train writes"):
        read_articles(tmp_path / "elsewhere")
    (tmp_path / "articles.json").write_text('{"one": 1}')
    with pytest.raises(InputError, match="expected a list of articles' names"):
        read_articles(tmp_path)


def test_rows_too_long_in_tokens_are_left_out() -> None:
    def count(messages: Messages, answer: str) -> int:
        return len(answer.split())

    lengths = sorted(count((), completion(row.output)) for row in rows())
    longest = lengths[10]
    chosen = choose(rows(), Selection(max_tokens=longest), count)
    assert len(chosen.rows) == sum(length <= longest for length in lengths) < 30
    assert chosen.left_out == {"too-long": 30 - len(chosen.rows)}
    with pytest.raises(InputError, match="tokenizer"):
        choose(rows(), Selection(max_tokens=20))


@given(st.integers(1, 29), st.integers(1, 29), st.integers(0, 5))
def test_a_smaller_draw_is_part_of_a_larger_one_and_even_by_type(one: int, other: int, seed: int) -> None:
    less, more = (choose(rows(), Selection(limit=n, seed=seed)) for n in sorted((one, other)))
    assert {row.id for row in less.rows} <= {row.id for row in more.rows}
    assert list(less.rows) == [row for row in rows() if row in less.rows]
    counts = [Counter(row.task_type for row in less.rows)[kind] for kind in TaskType]
    assert max(counts) - min(counts) <= 1
    assert less.left_out == {"limit": 30 - min(one, other)}


def test_ids_are_made_unique_and_rows_without_an_article_stand_alone() -> None:
    two = [replace(row, id="same", group="") for row in rows()[:2]]
    chosen = choose(two, Selection())
    assert [row.id for row in chosen.rows] == ["same", "same#2"]
    assert chosen.groups == ("same", "same#2")
    assert chosen.digest != choose(rows()[:2], Selection()).digest
