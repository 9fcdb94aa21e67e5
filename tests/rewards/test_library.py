"""The library made of MIXTURE: both sides in one form, its own scale, and no rating that nobody gave."""

from __future__ import annotations

import numpy as np
import pytest

from lm_mixup.embed.hashing import HashEmbedder
from lm_mixup.errors import RatingsError
from lm_mixup.mixture.rows import Row, make_row
from lm_mixup.raters.library import LibrarySettings
from lm_mixup.records import Failure, Rating, Sample, TaskType
from lm_mixup.rewards import Scorer, Weights, answer_sample, mixture_library
from tests.rewards.material import rollout

SETTINGS = LibrarySettings(neighbors=4, temper=False)


class ByLength:
    """A point for every ten words; what it rates is remembered."""

    key = "by-length"

    def __init__(self, fail_on: str = "\x07never") -> None:
        self.rated: list[Sample] = []
        self.fail_on = fail_on

    def rate_with_vectors(self, samples, vectors):
        assert len(vectors) == len(samples)
        self.rated += samples
        return [
            Failure(s.id, "rate", "unreadable", "as asked")
            if self.fail_on in s.text
            else Rating(min(5.0, len(s.text.split()) / 10))
            for s in samples
        ]


def rows(count: int = 12, split: str = "sft") -> list[Row]:
    qa = [
        make_row(
            TaskType.QA,
            [f"Q: {n}?\nA: {n} is odd.", f"Q: what of {n}\nA: it is {n}", f"Q: {n}, {split}?\nA: yes {n}"],
            f"Q: What is {n}?\nA: {n} is one number of many, and nobody has found another use for it yet.",
            split=split,
        )
        for n in range(count)
    ]
    mcq = [
        make_row(
            TaskType.MCQ,
            [f"Q: {n}?\nA) {n}\nB) {n + 1}\nAnswer: A) {n}"],
            f"Q: Which number is {n}?\nA) {n}\nB) {n + 1}\nC) {n + 2}\nAnswer: A) {n}\nIt is written so.",
            split=split,
        )
        for n in range(count)
    ]
    return [*qa, *mcq]


def test_half_targets_half_variants_of_the_split_each_once() -> None:
    rater = ByLength()
    made = mixture_library([*rows(), *rows(40, "test")], HashEmbedder(), rater, per_type=20, settings=SETTINGS)
    assert {kind: len(shelf) for kind, shelf in made.shelves.items()} == {TaskType.QA: 20, TaskType.MCQ: 20}
    good = [s for s in rater.rated if s.task_type == TaskType.QA and "nobody" in s.text]
    assert len(good) == 10
    assert not any("test" in s.text for s in rater.rated)


def test_its_texts_are_the_samples_that_answers_become() -> None:
    rater = ByLength()
    made = mixture_library(rows(), HashEmbedder(), rater, settings=SETTINGS)
    digests = {row.tobytes().hex() for row in made.shelves[TaskType.MCQ].digests}
    target = rows()[-1].output
    assert answer_sample("any", TaskType.MCQ, target).digest in digests
    assert all(s.completion.startswith("A) ") for s in rater.rated if s.task_type == TaskType.MCQ)


def test_within_a_type_ratings_are_spread_over_the_scale_in_the_raters_order() -> None:
    rater = ByLength()
    spread = mixture_library(rows(), HashEmbedder(), rater, settings=SETTINGS)
    kept = mixture_library(rows(), HashEmbedder(), ByLength(), settings=SETTINGS, scale="absolute")
    for kind in (TaskType.QA, TaskType.MCQ):
        a, b = spread.shelves[kind].ratings, kept.shelves[kind].ratings
        assert a.mean() == pytest.approx(2.5)
        order = np.lexsort((b,))
        assert (np.diff(a[order]) >= 0).all()
        assert set(np.round(b, 4)) <= {round(min(5.0, len(s.text.split()) / 10), 4) for s in rater.rated}


def test_the_same_arguments_give_the_same_library_another_seed_another() -> None:
    def made(**changed):
        return mixture_library(rows(30), HashEmbedder(), ByLength(), per_type=20, settings=SETTINGS, **changed).digest()

    assert made() == made()
    assert made() != made(seed=1)


def test_a_text_that_cannot_be_rated_is_named() -> None:
    with pytest.raises(RatingsError, match="as asked"):
        mixture_library(rows(), HashEmbedder(), ByLength(fail_on="What is 3?"), settings=SETTINGS)


def test_too_few_texts_make_no_shelf() -> None:
    few = [*rows(2)[:2], *rows(12)[12:]]
    assert set(mixture_library(few[2:], HashEmbedder(), ByLength(), settings=SETTINGS).shelves) == {TaskType.MCQ}
    with pytest.raises(RatingsError, match="split 'grpo'"):
        mixture_library(few, HashEmbedder(), ByLength(), split="grpo", settings=SETTINGS)


def test_a_rater_may_take_the_librarys_place() -> None:
    (one,) = Scorer(HashEmbedder(), ByLength(), Weights(1.0, 0.0, 0.0), mapping="linear").score([rollout()])
    assert one.sample is not None
    assert one.total == pytest.approx(len(one.sample.text.split()) / 50)
