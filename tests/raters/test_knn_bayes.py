"""KNN-Bayes: the paper's posterior, honest confidence, ratings that depend on the sample alone, no silent guesses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.errors import InputError
from lm_mixup.raters.knn_bayes import KNNBayesRater, quality
from lm_mixup.raters.library import LibrarySettings, build
from lm_mixup.raters.posterior import (
    CLASSES,
    class_shares,
    evidence,
    fit_temperature,
    histograms,
    log_likelihood,
    posterior,
    reliability,
    transition_matrix,
)
from lm_mixup.records import Failure, Message, Rating, Sample, TaskType

DIM = 24


class Vectors:
    """An embedder that knows the vectors of its texts."""

    key = "known-vectors"
    dim = DIM

    def __init__(self, samples: list[Sample], vectors: np.ndarray) -> None:
        self._by_text = {s.text: v for s, v in zip(samples, vectors, strict=True)}

    def embed(self, texts):
        return np.stack([self._by_text[t] for t in texts])


def sample(number: int, kind: TaskType = TaskType.QA) -> Sample:
    return Sample(str(number), (Message("user", f"q {number}"), Message("assistant", f"a {number}")), task_type=kind)


def made(rows: int, *, seed: int = 0, groups: int = 30, noise: float = 0.8):
    """Samples in groups that share a true class; ratings are that class with noise."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, DIM))
    group = rng.integers(groups, size=rows)
    vectors = centres[group] + 0.5 * rng.normal(size=(rows, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ratings = np.clip(np.round(group % CLASSES + noise * rng.normal(size=rows)), 0, 5)
    return [sample(i) for i in range(rows)], ratings, vectors


@pytest.fixture(scope="module")
def shop():
    samples, ratings, vectors = made(1000)
    library = build(samples[:800], ratings[:800].tolist(), vectors[:800], embedder=Vectors.key, rater="judge")
    return samples, ratings, vectors, KNNBayesRater(library, embedder=Vectors(samples, vectors))


def test_the_posterior_is_the_papers_product() -> None:
    rng = np.random.default_rng(1)
    transition = rng.dirichlet(np.ones(CLASSES), size=CLASSES)
    prior = rng.dirichlet(np.ones(CLASSES))
    neighbors = np.array([[0, 1, 1, 4], [5, 5, 5, 5]])
    got = posterior(evidence(histograms(neighbors), transition), prior, 1.0)
    for row, votes in zip(got, neighbors, strict=True):
        wanted = prior * np.prod(transition[:, votes], axis=1)
        assert row == pytest.approx(wanted / wanted.sum())


def test_the_transition_matrix_counts_near_ratings_by_own_class() -> None:
    classes = np.array([0, 0, 5])
    near = histograms(np.array([[0, 0, 1], [1, 1, 1], [5, 5, 4]]))
    table = transition_matrix(classes, near, 0.01)
    assert table.sum(axis=1) == pytest.approx(np.ones(CLASSES))
    assert table[0, :2] == pytest.approx([2.01 / 6.06, 4.01 / 6.06])
    assert table[5, 5] == pytest.approx(2.01 / 3.06)
    assert table[3] == pytest.approx(np.full(CLASSES, 1 / 6))  # a class that nobody has says nothing
    assert class_shares(classes, 0.01)[0] == pytest.approx(2.01 / 3.06)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.5, 12.0), st.integers(0, 50))
def test_the_temperature_that_made_the_ratings_is_found(true: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = rng.normal(0.0, 6.0, size=(3000, CLASSES))
    prior = np.full(CLASSES, 1 / CLASSES)
    shares = posterior(said, prior, true)
    classes = np.array([rng.choice(CLASSES, p=row) for row in shares])
    found = fit_temperature(said, prior, classes)
    assert found == pytest.approx(true, rel=0.2)
    best = log_likelihood(said, prior, classes, found)
    assert all(best >= log_likelihood(said, prior, classes, t) - 1e-9 for t in (found * 0.8, found * 1.25))


def test_neighbours_that_tell_nothing_leave_the_prior() -> None:
    rng = np.random.default_rng(0)
    said, classes = rng.normal(0, 5, size=(4000, CLASSES)), rng.integers(CLASSES, size=4000)
    prior = np.full(CLASSES, 1 / CLASSES)
    assert posterior(said, prior, fit_temperature(said, prior, classes)).max() < 0.3


def test_calibration_error_of_the_sure_and_wrong() -> None:
    shares = np.tile([0.9, 0.1, 0, 0, 0, 0], (100, 1))
    assert reliability(shares, np.zeros(100, np.int64)).error == pytest.approx(0.1)
    assert reliability(shares, np.ones(100, np.int64)).error == pytest.approx(0.9)


def test_tempering_makes_confidence_honest_on_rows_never_seen(shop) -> None:
    samples, ratings, _, rater = shop
    got = [r for r in rater.rate(samples[800:]) if isinstance(r, Rating)]
    shares = np.array([r.details["posterior"] for r in got])
    plain = replace(rater.library, shelves={t: replace(s, temperature=1.0) for t, s in rater.library.shelves.items()})
    untempered = KNNBayesRater(plain, embedder=rater._embedder).rate(samples[800:])
    before = np.array([r.details["posterior"] for r in untempered])
    classes = ratings[800:].astype(np.int64)
    assert reliability(shares, classes, bins=5).error < 0.6 * reliability(before, classes, bins=5).error
    assert np.corrcoef([r.value for r in got], ratings[800:])[0, 1] > 0.75


def test_a_rating_is_the_posterior_mean_and_says_how_sure_it_is(shop) -> None:
    samples, _, _, rater = shop
    (got,) = rater.rate(samples[900:901])
    assert isinstance(got, Rating)
    assert got.value == pytest.approx(np.dot(got.details["posterior"], range(CLASSES)), abs=1e-3)
    assert got.details["confidence"] == max(got.details["posterior"])
    assert -1 <= got.details["similarity"] <= 1


def test_a_rating_depends_on_its_sample_alone(shop) -> None:
    samples, _, _, rater = shop
    whole = rater.rate(samples)
    assert [rater.rate([s])[0] for s in samples[780:820]] == whole[780:820]
    assert rater.rate(samples[::-1])[::-1] == whole


def test_a_library_row_does_not_vouch_for_itself() -> None:
    samples, ratings, vectors = made(60, groups=1, noise=0.0)
    ratings[7] = 5.0  # all others are 0
    library = build(samples, ratings.tolist(), vectors, embedder=Vectors.key, rater="judge")
    (own,) = KNNBayesRater(library, embedder=Vectors(samples, vectors)).rate([samples[7]])
    assert isinstance(own, Rating)
    assert own.value < 0.5


def test_each_task_type_asks_its_own_shelf() -> None:
    samples, _, vectors = made(80, groups=2)
    kinds = [TaskType.QA if i % 2 else TaskType.CS for i in range(80)]
    samples = [sample(i, kind) for i, kind in enumerate(kinds)]
    ratings = [5.0 if kind is TaskType.QA else 0.0 for kind in kinds]
    library = build(samples, ratings, vectors, embedder=Vectors.key, rater="judge")
    new = [sample(100, TaskType.QA), sample(101, TaskType.CS), sample(102, TaskType.MCQ)]
    rater = KNNBayesRater(library, embedder=Vectors(new, vectors[:3]))
    qa, cs, mcq = rater.rate(new)
    assert isinstance(qa, Rating)
    assert isinstance(cs, Rating)
    assert qa.value > 4.5
    assert cs.value < 0.5
    assert isinstance(mcq, Failure)
    assert mcq.reason == "no-shelf"
    assert "qa" in mcq.detail


def test_a_vector_that_is_no_number_is_a_failure(shop) -> None:
    samples, _, vectors, rater = shop
    bad = vectors[:2].copy()
    bad[1, 0] = np.nan
    good, failed = rater.rate_with_vectors(samples[:2], bad)
    assert isinstance(good, Rating)
    assert isinstance(failed, Failure)
    assert failed.reason == "bad-vector"


def test_another_embedder_than_the_librarys_is_refused(shop) -> None:
    samples, _, vectors, rater = shop
    other = Vectors(samples, vectors)
    other.key = "another"
    with pytest.raises(InputError, match=r"known-vectors.*another"):
        KNNBayesRater(rater.library, embedder=other)


def test_the_key_follows_the_library(shop) -> None:
    samples, ratings, vectors, rater = shop
    embedder = Vectors(samples, vectors)
    other = ratings[:800].copy()
    other[0] = 5.0 - other[0]
    settings = LibrarySettings()
    same = build(
        samples[:800], ratings[:800].tolist(), vectors[:800], embedder=embedder.key, rater="x", settings=settings
    )
    changed = build(samples[:800], other.tolist(), vectors[:800], embedder=embedder.key, rater="x", settings=settings)
    assert KNNBayesRater(same, embedder=embedder).key == rater.key
    assert KNNBayesRater(changed, embedder=embedder).key != rater.key


@pytest.mark.parametrize(
    ("rating", "reward"), [(0, 0), (2.49, 0), (2.5, 0.3), (3.0, 0.3), (3.49, 0.3), (3.5, 1), (4, 1), (5, 1)]
)
def test_quality_takes_its_middle_step(rating: float, reward: float) -> None:
    assert quality(rating) == reward
