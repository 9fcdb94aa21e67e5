"""Rated libraries: what goes in comes out, nothing runs when one is read, small and damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lm_mixup.errors import ModelError, RatingsError
from lm_mixup.raters.library import LibrarySettings, RatedLibrary, build
from lm_mixup.records import TaskType
from tests.raters.test_knn_bayes import made, sample


def library(rows: int = 120, **settings: object) -> RatedLibrary:
    samples, ratings, vectors = made(rows)
    return build(samples, ratings.tolist(), vectors, embedder="e", rater="judge", settings=LibrarySettings(**settings))


def test_a_library_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made_now = library()
    made_now.save(tmp_path / "lib")
    back = RatedLibrary.load(tmp_path / "lib")
    assert back.digest() == made_now.digest()
    assert (back.embedder, back.rater, back.settings) == ("e", "judge", LibrarySettings())
    own, theirs = made_now.shelves[TaskType.QA], back.shelves[TaskType.QA]
    np.testing.assert_array_equal(own.vectors, theirs.vectors)
    np.testing.assert_array_equal(own.transition, theirs.transition)
    assert dict(theirs.figures) == dict(own.figures)
    assert {path.name for path in (tmp_path / "lib").iterdir()} == {"library.json", "qa.npz"}


def test_a_library_no_larger_than_k_is_refused() -> None:
    with pytest.raises(RatingsError, match=r"more than k = 16.*qa has 16"):
        library(16)
    assert len(library(17).shelves[TaskType.QA]) == 17
    assert len(library(6, neighbors=5).shelves[TaskType.QA]) == 6


def test_every_small_shelf_is_named() -> None:
    samples, ratings, vectors = made(40)
    mixed = [sample(i, TaskType.MCQ if i < 3 else TaskType.TFQ if i < 5 else TaskType.QA) for i in range(40)]
    with pytest.raises(RatingsError, match="mcq has 3, tfq has 2"):
        build(mixed, ratings.tolist(), vectors, embedder="e", rater="judge")
    assert samples


def test_copies_do_not_make_a_library_large_enough() -> None:
    samples, ratings, vectors = made(10)
    many = [samples[i % 10] for i in range(100)]
    with pytest.raises(RatingsError, match="qa has 10"):
        build(many, [ratings[i % 10] for i in range(100)], vectors[np.arange(100) % 10], embedder="e", rater="judge")


def test_equal_samples_become_one_row_with_their_mean() -> None:
    samples, ratings, vectors = made(30)
    twice = build(
        [*samples, samples[0]], [0.0, *ratings[1:], 3.0], vectors[[*range(30), 0]], embedder="e", rater="judge"
    )
    shelf = twice.shelves[TaskType.QA]
    assert len(shelf) == 30
    assert shelf.ratings[0] == 1.5


@pytest.mark.parametrize("rating", [-0.1, 5.1, float("nan")])
def test_ratings_out_of_range_are_refused(rating: float) -> None:
    samples, ratings, vectors = made(30)
    with pytest.raises(RatingsError, match="expected a rating in 0–5"):
        build(samples, [rating, *ratings[1:].tolist()], vectors, embedder="e", rater="judge")


def test_no_rated_rows_are_refused() -> None:
    with pytest.raises(RatingsError, match="no rated rows"):
        build([], [], np.empty((0, 4)), embedder="e", rater="judge")


def test_figures_are_of_rows_held_out_and_tempering_helps() -> None:
    figures = library(800).shelves[TaskType.QA].figures
    assert figures["rows"] == 800
    assert figures["calibration_error"] < figures["calibration_error_before"]
    assert figures["likelihood"] > figures["likelihood_before"]
    assert figures["error"] < figures["error_of_shelf_mean"]


def test_ratings_by_chance_do_not_look_good() -> None:
    samples, ratings, vectors = made(600)
    shuffled = np.random.default_rng(3).permutation(ratings)
    shelf = build(samples, shuffled.tolist(), vectors, embedder="e", rater="judge").shelves[TaskType.QA]
    assert abs(shelf.figures["spearman"]) < 0.15
    assert shelf.figures["calibration_error"] < 0.08
    assert shelf.figures["error"] == pytest.approx(shelf.figures["error_of_shelf_mean"], rel=0.05)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    library().save(tmp_path)
    np.savez(tmp_path / "qa.npz", vectors=np.array([{"a": 1}], dtype=object), ratings=[1.0], digests=[[0]])
    with pytest.raises(ModelError, match="expected a rated library"):
        RatedLibrary.load(tmp_path)


def test_changed_numbers_are_noticed(tmp_path: Path) -> None:
    library().save(tmp_path)
    with np.load(tmp_path / "qa.npz") as file:
        arrays = dict(file)
    arrays["ratings"][0] = 5 - arrays["ratings"][0]
    np.savez(tmp_path / "qa.npz", **arrays)
    with pytest.raises(ModelError, match="not those that library"):
        RatedLibrary.load(tmp_path)


def test_a_missing_shelf_a_foreign_folder_and_a_newer_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="library build"):
        RatedLibrary.load(tmp_path)
    library().save(tmp_path)
    head = json.loads((tmp_path / "library.json").read_text())
    (tmp_path / "library.json").write_text(json.dumps(head | {"format": 99}))
    with pytest.raises(ModelError, match="format 1, got 99"):
        RatedLibrary.load(tmp_path)
    (tmp_path / "library.json").write_text(json.dumps(head))
    (tmp_path / "qa.npz").unlink()
    with pytest.raises(ModelError, match=r"qa\.npz"):
        RatedLibrary.load(tmp_path)
