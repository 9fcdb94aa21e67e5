import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.neighbors import build
from lm_mixup.selection import coverage, long_tail, near_duplicates
from tests.neighborhoods import clustered, cosines


def test_long_tail_is_the_mean_cosine_distance_to_the_nearest():
    vectors, _ = clustered(80)
    table = cosines(vectors)
    np.fill_diagonal(table, -9)
    expected = 1 - np.sort(table, axis=1)[:, -15:].mean(axis=1)
    np.testing.assert_allclose(long_tail(build(vectors, 24)), expected, atol=5e-4)


@pytest.mark.parametrize(("n", "expected"), [(0, []), (1, [1.0])])
def test_long_tail_of_hardly_any_rows(n, expected):
    assert long_tail(build(clustered(n)[0], 15)).tolist() == expected


def greedy(vectors, threshold, priority):
    """The definition, the slow way."""
    table, stands, kept = cosines(vectors), list(range(len(vectors))), []
    for row in sorted(range(len(vectors)), key=lambda i: (priority[i], i)):
        near = [other for other in kept if table[other, row] >= threshold]
        stands[row] = near[0] if near else row
        kept += [] if near else [row]
    return stands


@settings(max_examples=80, deadline=None)
@given(
    picks=st.lists(st.integers(0, 29), max_size=50),
    threshold=st.sampled_from([0.55, 0.7, 0.8, 0.92]),
    ranked=st.booleans(),
    way=st.sampled_from(["in full", "shorter", "by cells"]),
)
def test_near_duplicates_are_those_of_the_definition(picks, threshold, ranked, way):
    vectors = clustered(30, per=10, noise=0.7)[0][picks]
    priority = np.random.default_rng(len(picks)).integers(0, 4, len(picks)) if ranked else None
    how = {
        "in full": {},
        "shorter": {"reduce_from": 1},
        "by cells": {"exact_below": 1, "least_probes": 99, "cells_per_root": 3.0},
    }[way]
    found = near_duplicates(vectors, threshold=threshold, priority=priority, **how)
    expected = greedy(vectors, threshold, np.zeros(len(picks)) if priority is None else priority)
    assert found.stands_for.tolist() == expected
    np.testing.assert_array_equal(found.kept, found.stands_for == np.arange(len(picks)))


def test_near_duplicates_by_cells_find_the_share_of_pairs_that_they_say():
    vectors, _ = clustered(4000, per=3, noise=0.35)
    exact = near_duplicates(vectors, threshold=0.9)
    near = near_duplicates(vectors, threshold=0.9, exact_below=100, recall_target=0.9, least_probes=1, threads=1)
    assert exact.exact
    assert (exact.recall, near.exact) == (1, False)
    assert 0.9 <= near.recall < 1
    missed = (~exact.kept & near.kept).sum() / (~exact.kept).sum()
    assert 0 < missed < 0.15
    # a row that is stood for by another is as near to it as asked
    rows = np.flatnonzero(~near.kept)
    products = (vectors[rows].astype(float) * vectors[near.stands_for[rows]].astype(float)).sum(axis=1)
    assert products.min() > 0.899


@pytest.mark.parametrize("exact_below", [1, 1000])
def test_of_120_identical_rows_exactly_the_first_stays(exact_below):
    vectors = np.concatenate([np.repeat(clustered(1)[0], 120, axis=0), clustered(40, seed=1)[0]])
    found = near_duplicates(vectors, threshold=0.92, exact_below=exact_below)
    assert found.kept[:120].sum() == 1
    assert (found.stands_for[:120] == 0).all()
    last = near_duplicates(vectors, threshold=0.92, priority=-np.arange(len(vectors)), exact_below=exact_below)
    assert (last.stands_for[:120] == 119).all()


def covered(graph, chosen):
    best = np.zeros(graph.n)
    for row in chosen:
        best[row] = 1
        for other, cosine in zip(graph.ids[row], graph.similarities[row], strict=True):
            best[other] = max(best[other], cosine)
        for other, position in zip(*np.nonzero(graph.ids == row), strict=True):
            best[other] = max(best[other], graph.similarities[other, position])
    return best.sum()


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 12), budget=st.integers(1, 3), seed=st.integers(0, 20))
def test_coverage_is_within_the_bound_of_greedy_of_the_best(n, budget, seed):
    graph = build(clustered(n, seed=seed)[0], 4)
    chosen = coverage(graph, budget)
    assert len(chosen) == len(set(chosen.tolist())) == min(budget, n)
    best = max(covered(graph, some) for some in itertools.combinations(range(n), min(budget, n)))
    assert covered(graph, chosen) >= (1 - 1 / np.e) * best - 1e-3


def test_coverage_chooses_by_gain_each_time():
    graph = build(clustered(60, per=10)[0], 8)
    chosen = coverage(graph, 10)
    for step in range(10):
        scores = [covered(graph, [*chosen[:step], row]) for row in range(60)]
        assert covered(graph, chosen[: step + 1]) == pytest.approx(max(scores), abs=1e-6)


def test_coverage_keeps_to_candidates_costs_and_weights():
    graph = build(clustered(60, per=10)[0], 8)
    candidates = np.arange(30, 60)
    assert set(coverage(graph, 5, candidates=candidates)) <= set(candidates)
    costs = np.random.default_rng(0).integers(1, 50, 60)
    assert costs[coverage(graph, 60, costs=costs)].sum() <= 60
    weights = np.zeros(60)
    weights[17] = 1
    assert coverage(graph, 1, weights=weights).tolist() == [17]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 50), budget=st.integers(0, 30), before=st.integers(0, 10))
def test_coverage_keeps_to_the_limits_of_cells_and_to_what_was_chosen_before(seed, budget, before):
    rng = np.random.default_rng(seed)
    graph = build(clustered(40, seed=seed)[0], 6)
    cells, costs, limits = rng.integers(0, 3, 40), rng.integers(1, 4, 40), rng.integers(0, 12, 3)
    first = rng.permutation(40)[:before]
    found = coverage(graph, budget, costs=costs, cells=cells, limits=limits, chosen=first)
    assert not set(found) & set(first)
    spent = np.bincount(cells[found], costs[found], minlength=3)
    assert (spent <= limits).all()
    assert spent.sum() <= budget
    left = np.minimum(limits - spent, budget - spent.sum())
    others = np.setdiff1d(np.arange(40), [*found, *first])
    assert (costs[others] > left[cells[others]]).all()


def test_coverage_of_nothing_is_nothing():
    assert coverage(build(clustered(0)[0], 4), 5).tolist() == []
