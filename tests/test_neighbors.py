import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.errors import RunError
from lm_mixup.neighbors import Graph, build, extend, search
from lm_mixup.neighbors.graph import first_copies
from tests.neighborhoods import clustered, cosines


def by_definition(vectors, k):
    """Each row's k others by (float16 cosine falling, row rising), the slow way; copies have a cosine of 1."""
    table = np.minimum(cosines(vectors), 1).astype(np.float16)
    for row in range(len(vectors)):
        table[row, (vectors == vectors[row]).all(axis=1)] = 1
    np.fill_diagonal(table, -9)
    ids = np.lexsort((np.broadcast_to(np.arange(len(table)), table.shape), -table), axis=1)[:, :k]
    return ids, np.take_along_axis(table, ids, axis=1)


@pytest.mark.parametrize("n", [2, 3, 30, 700])
def test_an_exact_graph_is_that_of_the_definition(n):
    vectors, _ = clustered(n)
    graph = build(vectors, 8)
    ids, similarities = by_definition(vectors, min(8, n - 1))
    assert graph.exact
    assert graph.recall == 1
    np.testing.assert_array_equal(graph.similarities, similarities)
    np.testing.assert_array_equal(graph.ids, ids)


@pytest.mark.parametrize(("n", "k", "width"), [(0, 5, 0), (1, 5, 0), (2, 5, 1), (4, 0, 0), (4, 3, 3), (4, 99, 3)])
def test_the_graph_is_as_wide_as_there_are_others(n, k, width):
    graph = build(clustered(n)[0], k)
    assert graph.ids.shape == graph.similarities.shape == (n, width)


@settings(max_examples=40, deadline=None)
@given(
    picks=st.lists(st.integers(0, 11), min_size=2, max_size=60),
    k=st.integers(1, 12),
    dtype=st.sampled_from([np.float16, np.float32]),
)
def test_copies_find_each_other_and_no_row_finds_itself(picks, k, dtype):
    vectors = clustered(12)[0].astype(dtype)[picks]
    graph = build(vectors, k)
    ids, similarities = by_definition(vectors, min(k, len(picks) - 1))
    np.testing.assert_array_equal(graph.ids, ids)
    np.testing.assert_array_equal(graph.similarities, similarities)
    assert not (graph.ids == np.arange(len(picks))[:, None]).any()


def test_a_hundred_copies_are_each_others_neighbours():
    vectors = np.concatenate([clustered(20)[0], np.repeat(clustered(1, seed=1)[0], 100, axis=0)])
    graph = build(vectors, 5)
    np.testing.assert_array_equal(graph.ids[119], [20, 21, 22, 23, 24])
    np.testing.assert_array_equal(graph.ids[20], [21, 22, 23, 24, 25])
    assert (graph.similarities[20:] == 1).all()


@settings(max_examples=25, deadline=None)
@given(old=st.integers(9, 60), new=st.integers(0, 30), k=st.integers(1, 8), copies=st.booleans())
def test_extending_gives_what_a_rebuild_gives(old, new, k, copies):
    vectors = clustered(old + new, seed=old)[0]
    if copies and new:
        vectors[-1] = vectors[0]
    extended = extend(build(vectors[:old], k), vectors, wanted=k)
    rebuilt = build(vectors, k)
    np.testing.assert_array_equal(extended.ids, rebuilt.ids)
    np.testing.assert_array_equal(extended.similarities, rebuilt.similarities)


def test_extending_a_graph_that_was_held_narrow_by_too_few_rows_widens_it():
    vectors, _ = clustered(12)
    assert extend(build(vectors[:3], 8), vectors, wanted=8).k == 8


def test_an_approximate_graph_is_extended_by_few_rows_and_rebuilt_for_many():
    vectors, _ = clustered(1000, per=20)
    graph = build(vectors[:980], 6, exact_below=100, threads=1)
    extended = extend(graph, vectors, wanted=6, exact_below=100)
    exact = build(vectors, 6)
    np.testing.assert_array_equal(extended.ids[980:], exact.ids[980:])
    assert (extended.ids[:980] >= 980).any()
    again = extend(build(vectors[:800], 6, exact_below=100), vectors, wanted=6, exact_below=100, threads=1)
    np.testing.assert_array_equal(again.ids, build(vectors, 6, exact_below=100, threads=1).ids)


def test_a_graph_cannot_be_extended_to_fewer_rows():
    vectors, _ = clustered(12)
    with pytest.raises(ValueError, match="at least the 12 rows"):
        extend(build(vectors, 3), vectors[:5], wanted=3)


def test_a_saved_graph_comes_back_memory_mapped(tmp_path):
    vectors, _ = clustered(40)
    graph = build(vectors, 6)
    graph.save(tmp_path / "graph")
    loaded = Graph.load(tmp_path / "graph")
    assert isinstance(loaded.ids, np.memmap)
    np.testing.assert_array_equal(loaded.ids, graph.ids)
    np.testing.assert_array_equal(loaded.similarities, graph.similarities)
    assert (loaded.exact, loaded.recall, loaded.error) == (graph.exact, graph.recall, graph.error)


@pytest.mark.parametrize("spoil", ["graph.json", "ids.npy", "cut"])
def test_a_spoilt_graph_is_an_error_that_names_its_folder(tmp_path, spoil):
    build(clustered(40)[0], 6).save(tmp_path / "graph")
    if spoil == "cut":
        build(clustered(39)[0], 6).save(tmp_path / "other")
        (tmp_path / "other" / "ids.npy").rename(tmp_path / "graph" / "ids.npy")
    else:
        (tmp_path / "graph" / spoil).write_bytes(b"{")
    with pytest.raises(RunError, match="graph"):
        Graph.load(tmp_path / "graph")


def test_a_memory_map_and_an_array_give_the_same_graph(tmp_path):
    vectors, _ = clustered(60)
    np.save(tmp_path / "v.npy", vectors)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    np.testing.assert_array_equal(build(mapped, 5).ids, build(vectors, 5).ids)


def test_rows_of_zeros_make_no_nan():
    vectors, _ = clustered(20)
    vectors[3] = 0
    graph = build(vectors, 4)
    assert np.isfinite(graph.similarities.astype(np.float32)).all()
    assert (graph.similarities[3] == 0).all()


def test_the_approximate_graph_reaches_its_recall_and_repeats():
    vectors, _ = clustered(3000, per=20)
    exact = build(vectors, 10)
    near = build(vectors, 10, exact_below=100, threads=1)
    assert not near.exact
    assert near.recall > 0.9
    assert (near.similarities >= exact.similarities[:, -1:] - np.float16(0.02)).mean() > 0.96
    assert not (near.ids == np.arange(3000)[:, None]).any()
    assert all(len(set(row)) == 10 for row in near.ids.tolist())
    np.testing.assert_array_equal(near.ids, build(vectors, 10, exact_below=100, threads=1).ids)


def test_the_approximate_graph_copes_with_copies_too():
    vectors = np.concatenate([clustered(400, per=20)[0]] * 3)
    graph = build(vectors, 4, exact_below=100)
    np.testing.assert_array_equal(graph.ids[:, :2] % 400, np.repeat(np.arange(1200) % 400, 2).reshape(-1, 2))


def test_an_approximate_graph_that_looks_into_all_cells_is_the_exact_one():
    vectors, _ = clustered(700, per=20)
    exact, near = build(vectors, 9), build(vectors, 9, exact_below=100, error_target=-1)
    # but for rounding: rows that are equally near may change places
    assert (near.ids == exact.ids).mean() > 0.995
    np.testing.assert_allclose(near.similarities, exact.similarities, atol=1e-3)
    assert near.recall == 1


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(12, 300),
    per=st.integers(1, 12),
    k=st.integers(1, 11),
    cells_per_root=st.sampled_from([0.1, 1.0, 3.0, 30.0]),
    error=st.sampled_from([-1.0, 0.01, 1.0]),
    reach=st.integers(0, 11),
)
def test_an_approximate_graph_is_sound_however_its_cells_fall(n, per, k, cells_per_root, error, reach):
    """Also where there are as many cells as rows, so that none holds k others."""
    vectors, _ = clustered(n, per=per)
    graph = build(vectors, k, exact_below=2, error_target=error, cells_per_root=cells_per_root, refine_reach=reach)
    table = cosines(vectors)
    assert (graph.ids >= 0).all()
    assert not (graph.ids == np.arange(n)[:, None]).any()
    assert all(len(set(row)) == k for row in graph.ids.tolist())
    found = np.take_along_axis(table, graph.ids, axis=1)
    np.testing.assert_allclose(graph.similarities, found, atol=1e-3)
    ranks = np.lexsort((graph.ids, -graph.similarities), axis=1)
    np.testing.assert_array_equal(ranks, np.broadcast_to(np.arange(k), ranks.shape))
    np.fill_diagonal(table, -2)
    true = -np.sort(-table, axis=1)[:, :k]
    # fewer rows than are sampled: the error is that of all
    assert graph.error == pytest.approx((true - found)[:, :15].mean(axis=1).std(), abs=1e-3)
    assert graph.recall == pytest.approx((found >= true[:, -1:] - 1e-3).mean(), abs=0.05)
    assert graph.error <= max(error, 1e-3)
    if reach == 0:
        # whoever finds a row is known to that row, unless it has k that are nearer
        mutual = (graph.ids[graph.ids] == np.arange(n)[:, None, None]).any(axis=2)
        assert (mutual | (graph.similarities <= graph.similarities[graph.ids, -1])).all()


def test_a_graph_searches_on_until_its_error_is_small_enough():
    vectors, _ = clustered(3000, dim=64, per=1)
    exact = build(vectors, 24).similarities[:, :15].astype(np.float64).mean(axis=1)
    errors = []
    for target in (1.0, 0.005, 0.002):
        graph = build(vectors, 24, exact_below=100, cells_per_root=12, error_target=target)
        errors.append((exact - graph.similarities[:, :15].astype(np.float64).mean(axis=1)).std())
        assert graph.error <= target
        assert errors[-1] == pytest.approx(graph.error, rel=0.25)
    assert errors[0] > 0.005 > errors[1] > 0.002 > errors[2]


def test_the_approximate_graph_does_not_depend_on_its_threads():
    vectors, _ = clustered(2500, per=20)
    one, three = (build(vectors, 10, exact_below=100, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one.ids, three.ids)
    np.testing.assert_array_equal(one.similarities, three.similarities)


def test_search_finds_a_row_itself_first():
    vectors, _ = clustered(50)
    ids, similarities = search(vectors[10:20], vectors, 3)
    np.testing.assert_array_equal(ids[:, 0], np.arange(10, 20))
    assert (similarities[:, 0] == 1).all()


@given(picks=st.lists(st.integers(0, 5), max_size=40))
def test_first_copies_points_at_the_first_equal_row(picks):
    vectors = clustered(6)[0][picks]
    expected = [picks.index(pick) for pick in picks]
    np.testing.assert_array_equal(first_copies(vectors), expected)
