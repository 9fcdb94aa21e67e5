"""Selection: the budget, the ratio, what fills a shortfall, and what stands for what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.records import rating_class
from lm_mixup.stages.select import DISTILLED, ORIGINAL, Candidates, SelectStage


def candidates(distilled: int, originals: int, *, seed: int = 0, sources: int = 2) -> Candidates:
    rng = np.random.default_rng(seed)
    count = distilled + originals
    vectors = rng.normal(size=(count, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    return Candidates(
        ids=[f"c{i}" for i in range(count)],
        origins=[DISTILLED] * distilled + [ORIGINAL] * originals,
        texts=[f"t{i}" for i in range(count)],
        sources=[sources] * distilled + [1] * originals,
        ratings=rng.uniform(3.5, 5, count),
        vectors=vectors,
    )


@settings(deadline=None, max_examples=60)
@given(
    distilled=st.integers(0, 12),
    originals=st.integers(0, 12),
    budget=st.integers(0, 30),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_the_budget_is_filled_from_both_sides_as_far_as_they_go(distilled, originals, budget, ratio, seed):
    stage = SelectStage(ratio=ratio, duplicate_cosine=None)
    found = stage.run(candidates(distilled, originals, seed=seed), budget)
    rows = found.table.to_pylist()
    taken = [row for row in rows if row["selected"]]
    from_distilled = sum(row["origin"] == DISTILLED for row in taken)
    assert len(taken) == min(budget, distilled + originals)
    wanted = round(budget * ratio)
    if from_distilled < min(wanted, budget):
        assert from_distilled == distilled
    if from_distilled > wanted:
        assert len(taken) - from_distilled == originals
    assert all((row["reason"] is None) == row["selected"] for row in rows)
    assert bool(found.notes) == (from_distilled < wanted or len(taken) - from_distilled < budget - wanted)


@pytest.mark.parametrize("order", ["class", "rating"])
def test_the_better_row_of_a_side_is_taken_first(order):
    found = SelectStage(order=order, duplicate_cosine=None).run(candidates(20, 20), 12)
    for origin in (DISTILLED, ORIGINAL):
        rows = [r for r in found.table.to_pylist() if r["origin"] == origin]

        def place(row):
            if order == "rating":
                return -row["rating"]
            return (-rating_class(row["rating"]), -row["long_tail"])

        worst_taken = max(place(r) for r in rows if r["selected"])
        assert all(place(r) >= worst_taken for r in rows if not r["selected"])


def test_of_equal_texts_the_best_stands_for_all():
    given_ = candidates(0, 6)
    same = Candidates(given_.ids, given_.origins, ["same"] * 6, given_.sources, given_.ratings, given_.vectors)
    rows = SelectStage(ratio=0, duplicate_cosine=None, order="rating").run(same, 6).table.to_pylist()
    best = same.ids[int(np.argmax(same.ratings))]
    assert [r["id"] for r in rows if r["selected"]] == [best]
    assert {(r["reason"], r["represented_by"]) for r in rows if not r["selected"]} == {("near-duplicate", best)}


def test_near_vectors_are_near_duplicates_only_from_the_threshold_on():
    vectors = np.array([[1, 0], [np.cos(0.1), np.sin(0.1)], [0, 1]], np.float32)
    near = Candidates(["a", "b", "c"], [ORIGINAL] * 3, ["1", "2", "3"], [1] * 3, np.array([5.0, 4.0, 4.0]), vectors)
    kept = {cut: SelectStage(ratio=0, duplicate_cosine=cut).run(near, 3).table.to_pylist() for cut in (0.99, 0.999)}
    assert [r["id"] for r in kept[0.99] if r["selected"]] == ["a", "c"]
    assert len([r for r in kept[0.999] if r["selected"]]) == 3


def test_a_distillate_of_one_row_is_no_candidate_and_stands_for_nobody():
    both = candidates(1, 1, sources=1)
    same = Candidates(both.ids, both.origins, ["same", "same"], both.sources, np.array([5.0, 4.0]), both.vectors)
    rows = SelectStage().run(same, 2).table.to_pylist()
    assert [(r["id"], r["selected"], r["reason"]) for r in rows] == [
        ("c0", False, "too-few-sources"),
        ("c1", True, None),
    ]
    assert [r["selected"] for r in SelectStage(min_sources=1).run(same, 2).table.to_pylist()] == [True, False]
