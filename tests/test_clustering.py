import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.clustering import NO_NEAR_NEIGHBOUR, PLACED, TOO_FEW_ROWS, cluster, figures
from lm_mixup.neighbors import build
from lm_mixup.stages.cluster import ClusterStage
from tests.neighborhoods import clustered, cosines

GOLDEN = Path(__file__).parent / "golden"


def members(labels):
    return [np.flatnonzero(labels == one) for one in range(labels.max(initial=-1) + 1)]


@st.composite
def bands(draw):
    low = draw(st.integers(1, 5))
    high = draw(st.integers(low, 9))
    return {"min_size": low, "max_size": high, "mean_size": draw(st.floats(low, high))}


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 90),
    band=bands(),
    sources=st.integers(1, 4),
    seed=st.integers(0, 5),
    copies=st.booleans(),
    k=st.integers(1, 10),
)
def test_every_row_that_can_be_is_placed_within_the_band_and_its_group(n, band, sources, seed, copies, k):
    vectors, _ = clustered(n, seed=seed)
    if copies:
        vectors[: n // 2] = vectors[:1]
    groups = np.random.default_rng(seed).integers(0, sources, n)
    found = cluster(vectors, build(vectors, k), groups=groups, **band)
    sizes = np.bincount(found.labels[found.labels >= 0])
    assert found.labels.shape == found.reasons.shape == (n,)
    assert ((sizes >= band["min_size"]) & (sizes <= band["max_size"])).all()
    assert all(len(set(groups[rows])) == 1 for rows in members(found.labels))
    np.testing.assert_array_equal(found.labels < 0, found.reasons != PLACED)
    for group in range(sources):
        here = groups == group
        count = int(here.sum())
        # the most rows that some number of clusters within the band can hold
        best = max((min(count, m * band["max_size"]) for m in range(count // band["min_size"] + 1)), default=0)
        assert int((found.labels[here] >= 0).sum()) == best
    assert set(found.reasons[found.labels < 0].tolist()) <= {TOO_FEW_ROWS}


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 90), band=bands(), floor=st.floats(0.05, 0.95), seed=st.integers(0, 5))
def test_with_a_floor_no_placed_row_is_farther_from_its_mates(n, band, floor, seed):
    vectors, _ = clustered(n, seed=seed)
    found = cluster(vectors, build(vectors, 8), floor=floor, **band)
    table = cosines(vectors) if n else np.empty((0, 0))
    for rows in members(found.labels):
        assert band["min_size"] <= len(rows) <= band["max_size"]
        if len(rows) > 1:
            means = (table[np.ix_(rows, rows)].sum(axis=1) - 1) / (len(rows) - 1)
            assert means.min() >= floor - 2e-3
    reasons = {NO_NEAR_NEIGHBOUR} if n >= band["min_size"] else {TOO_FEW_ROWS}
    assert set(found.reasons[found.labels < 0].tolist()) <= reasons


def test_true_clusters_are_found():
    vectors, centre = clustered(120, dim=64, per=4, noise=0.2, seed=3)
    found = cluster(vectors, build(vectors, 10), floor=0.6, max_size=12, mean_size=4)
    assert all(len(set(centre[rows])) == 1 for rows in members(found.labels))
    assert (found.labels >= 0).mean() > 0.9


def test_a_row_unlike_all_others_is_left_out_with_its_reason_or_kept_alone():
    vectors, _ = clustered(30, noise=0.2)
    vectors[7] = -vectors.astype(np.float32).mean(axis=0)
    vectors[7] /= np.linalg.norm(vectors[7].astype(np.float32))
    graph = build(vectors, 8)
    left_out = ClusterStage(floor=0.5).run(vectors, graph)
    assert left_out.labels[7] == -1
    assert left_out.reasons[7] == "no-near-neighbour"
    assert left_out.dropped["no-near-neighbour"] == left_out.reasons.count("no-near-neighbour")
    alone = ClusterStage(floor=0.5, alone=True).run(vectors, graph)
    assert (alone.labels == alone.labels[7]).sum() == 1
    assert not alone.dropped
    forced = ClusterStage(floor=None).run(vectors, graph)
    assert (forced.labels >= 0).all()


def test_only_the_rows_asked_for_are_clustered_and_the_result_is_aligned_with_them():
    vectors, _ = clustered(60)
    graph = build(vectors, 8)
    rows = np.arange(59, 0, -2)
    found = cluster(vectors, graph, rows=rows)
    assert len(found.labels) == 30
    assert (found.labels >= 0).all()
    assert found.labels[0] == 0


def test_a_row_whose_neighbours_are_all_in_other_groups_finds_its_own():
    vectors, _ = clustered(40, per=20, noise=0.3)
    groups = np.zeros(40, int)
    groups[[3, 17]] = 1
    found = cluster(vectors, build(vectors, 2), groups=groups)
    assert found.labels[3] == found.labels[17] >= 0


def test_the_mean_size_is_met():
    vectors, _ = clustered(900, per=15)
    graph = build(vectors, 16)
    for low, high, mean in ((2, 5, 3), (2, 25, 10)):
        found = cluster(vectors, graph, min_size=low, max_size=high, mean_size=mean)
        assert 900 / found.count == pytest.approx(mean, rel=0.05)


@pytest.mark.parametrize(
    ("low", "high", "mates", "most"), [(4, 5, 13, 0.05), (4, 5, 12, 0.05), (8, 10, 17, 0.05), (5, 5, 15, 0.15)]
)
def test_in_a_narrow_band_rows_that_can_stay_among_their_mates_do(low, high, mates, most):
    rng = np.random.default_rng(2)
    centre = np.repeat(np.arange(30), mates)
    centres = rng.standard_normal((30, 64))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = centres[centre] + 0.3 / 8 * rng.standard_normal((len(centre), 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    found = cluster(vectors, build(vectors, 16), min_size=low, max_size=high, mean_size=(low + high) / 2)
    strangers = sum(len(set(centre[rows])) > 1 for rows in members(found.labels))
    assert strangers / found.count < most


def test_a_few_appended_rows_leave_most_clusters_as_they_were():
    vectors, _ = clustered(1000, per=10)

    def clusters(n):
        return {tuple(rows) for rows in members(cluster(vectors[:n], build(vectors[:n], 16), floor=0.5).labels)}

    before, after = clusters(990), clusters(1000)
    assert len(before & after) / len(before) > 0.8


@pytest.mark.parametrize("sizes", [(0, 2, 1), (3, 2, 3), (2, 5, 6), (2, 5, 1)])
def test_a_band_that_is_none_is_an_error(sizes):
    vectors, _ = clustered(10)
    with pytest.raises(ValueError, match="min_size <= mean_size <= max_size"):
        cluster(vectors, build(vectors, 3), min_size=sizes[0], max_size=sizes[1], mean_size=sizes[2])


@given(n=st.integers(1, 40), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_figures_are_those_of_the_definition(n, seed):
    vectors, _ = clustered(n, seed=seed)
    labels = cluster(vectors, build(vectors, 5), min_size=1).labels
    got = figures(vectors, np.arange(n), labels.astype(np.int64))
    table = cosines(vectors)
    pairs = [table[np.ix_(r, r)][np.triu_indices(len(r), 1)] for r in members(labels) if len(r) > 1]
    means = [pair.mean() for pair in pairs]
    assert got["clusters"] == len(members(labels))
    assert got["rows_placed"] == n
    assert sum(size * count for size, count in got["sizes"].items()) == n
    assert got.get("pairwise_cosine", 0) == pytest.approx(np.concatenate(pairs).mean() if pairs else 0, abs=2e-4)
    assert got.get("pairwise_cosine_by_cluster", 0) == pytest.approx(np.mean(means) if pairs else 0, abs=2e-4)
    rows = np.repeat(means, [len(r) for r in members(labels) if len(r) > 1])
    assert got.get("pairwise_cosine_by_row", 0) == pytest.approx(rows.mean() if pairs else 0, abs=2e-4)
    lengths = [np.sqrt(table[np.ix_(r, r)].sum()) for r in members(labels)]
    assert got["cosine_to_mean"] == pytest.approx(sum(lengths) / n, abs=2e-4)


def test_the_golden_clusters():
    vectors = np.load(GOLDEN / "neighborhood_rows.npy")
    graph = build(vectors, 16)
    golden = json.loads((GOLDEN / "clusters.json").read_text(encoding="utf-8"))
    for name, settings_ in golden["settings"].items():
        assert cluster(vectors, graph, **settings_).labels.tolist() == golden["labels"][name], name
