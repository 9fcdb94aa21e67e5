"""Selection: the budget, the ratio, what fills a shortfall, and what stands for what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.errors import InvariantError
from lm_mixup.records import Message, Sample, rating_class
from lm_mixup.stages.select import DISTILLED, ORIGINAL, Candidates, SelectStage, apportioned, tokens_of


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


METHODS = st.sampled_from(["rank", "coverage"])


def in_groups(distilled, originals, *, groups=3, seed=0):
    rng = np.random.default_rng([seed, 9])
    some = candidates(distilled, originals, seed=seed)
    count = len(some.ids)
    return replace(
        some,
        tokens=rng.integers(1, 60, count),
        groups=[f"g{number}" for number in rng.integers(0, groups, count)],
    )


@settings(deadline=None, max_examples=60)
@given(
    distilled=st.integers(0, 15),
    originals=st.integers(0, 15),
    budget=st.integers(0, 900),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 20),
    method=METHODS,
)
def test_a_budget_in_tokens_is_kept_and_nothing_that_still_fits_is_left(
    distilled, originals, budget, ratio, seed, method
):
    some = in_groups(distilled, originals, seed=seed)
    stage = SelectStage(ratio=ratio, duplicate_cosine=None, in_tokens=True, method=method)
    found = stage.run(some, budget)
    taken = found.table.column("selected").to_numpy(zero_copy_only=False).astype(bool)
    left = budget - int(some.tokens[taken].sum())
    assert left >= 0
    assert (some.tokens[~taken] > left).all()
    assert found.figures["tokens"] == budget - left
    assert (f"{budget - left} could be had" in " ".join(found.notes)) == bool(taken.all() and left)


@settings(deadline=None, max_examples=60)
@given(
    distilled=st.integers(0, 20),
    originals=st.integers(0, 20),
    budget=st.integers(0, 45),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 20),
    method=METHODS,
)
def test_each_group_has_its_part_of_each_side(distilled, originals, budget, ratio, seed, method):
    some = in_groups(distilled, originals, seed=seed)
    found = SelectStage(ratio=ratio, duplicate_cosine=None, method=method).run(some, budget)
    rows = found.table.to_pylist()
    assert sum(row["selected"] for row in rows) == min(budget, distilled + originals)
    cells = Counter(zip(some.origins, some.groups, strict=True))
    taken = Counter((row["origin"], group) for row, group in zip(rows, some.groups, strict=True) if row["selected"])
    wanted = round(budget * ratio)
    for (origin, group), size in cells.items():
        of_side, count = (wanted, distilled) if origin == DISTILLED else (budget - wanted, originals)
        assert taken[origin, group] >= min(size, of_side * size // count)
    # grouping and method move rows about within a side, never between them
    plain = SelectStage(ratio=ratio, duplicate_cosine=None).run(replace(some, groups=None), budget).figures
    assert found.figures["distilled"] == plain["distilled"]


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=20))
def test_parts_add_up_and_are_nearest_to_the_proportions(total, weights):
    parts = apportioned(total, np.array(weights, np.int64))
    assert (parts >= 0).all()
    if sum(weights):
        assert parts.sum() == total
        assert (np.abs(parts - total * np.array(weights) / sum(weights)) < 1).all()
    else:
        assert not parts.any()


def test_coverage_takes_one_of_each_heap_where_rank_takes_the_best_of_one():
    rng = np.random.default_rng(0)
    heaps = np.repeat(np.eye(5, 16, dtype=np.float32), 8, axis=0)
    vectors = heaps + 0.05 * rng.standard_normal(heaps.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ratings = np.array([5.0] * 8 + [4.0] * 32)
    some = replace(candidates(0, 40), vectors=vectors, ratings=ratings)
    taken = {
        method: np.flatnonzero(
            SelectStage(ratio=0, duplicate_cosine=None, method=method)
            .run(some, 5)
            .table.column("selected")
            .to_numpy(False)
        )
        for method in ("rank", "coverage")
    }
    assert set(taken["rank"] // 8) == {0}
    assert set(taken["coverage"] // 8) == set(range(5))


def test_tokens_are_a_quarter_of_the_characters_of_the_whole_conversation():
    turns = (Message("user", "abcd"), Message("assistant", "e" * 9))
    assert tokens_of([Sample("a", turns), Sample("b", (Message("user", ""), Message("assistant", "x")))]) == [4, 1]
    with pytest.raises(InvariantError, match="tokens"):
        SelectStage(in_tokens=True).run(candidates(1, 1), 5)
