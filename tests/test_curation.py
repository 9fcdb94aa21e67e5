import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.curation import _near as near_of
from lm_mixup.curation import consensus, curate, curate_jointly, estimate, transition_svg
from lm_mixup.neighbors import build
from lm_mixup.stages.curate import CurateStage
from tests.neighborhoods import clustered

GOLDEN = Path(__file__).parent / "golden"
NOISE = np.array([[0.8, 0.15, 0.05], [0.1, 0.75, 0.15], [0.1, 0.1, 0.8]])


def noisy(n, *, wrong=0.25, classes=3, seed=0):
    """Rows, the true class of each (one a centre), and observed ratings of which a share has been drawn anew."""
    vectors, centre = clustered(n, dim=48, per=15, noise=0.3, seed=seed)
    rng = np.random.default_rng(seed + 1)
    true = rng.integers(0, classes, centre.max() + 1)[centre].astype(float)
    observed = true.copy()
    anew = rng.permutation(n)[: round(wrong * n)]
    observed[anew] = rng.integers(0, classes, len(anew))
    return vectors, true, observed


def test_the_fit_recovers_a_matrix_from_its_own_frequencies():
    prior = np.array([0.5, 0.3, 0.2])
    first = prior @ NOISE
    second = np.einsum("k,ki,kj->ij", prior, NOISE, NOISE)
    third = np.einsum("k,ki,kj,kl->ijl", prior, NOISE, NOISE, NOISE)
    transition, p = estimate(first, second, third)
    np.testing.assert_allclose(transition, NOISE, atol=0.02)
    np.testing.assert_allclose(p, prior, atol=0.02)


def test_the_gradient_in_closed_form_descends_to_a_far_better_fit():
    first, second, third = (np.full((3,) * order, 3.0**-order) for order in (1, 2, 3))
    transition, prior = estimate(first, second, third)
    np.testing.assert_allclose(prior @ transition, first, atol=1e-3)
    np.testing.assert_allclose(np.einsum("k,ki,kj->ij", prior, transition, transition), second, atol=1e-3)


@given(n=st.integers(3, 60), classes=st.integers(1, 4), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_consensus_frequencies_sum_to_one_and_are_symmetric(n, classes, seed):
    vectors, _ = clustered(n, seed=seed)
    observed = np.random.default_rng(seed).integers(0, classes, n)
    first, second, third = consensus(observed, near_of(build(vectors, 4), np.arange(n), 0.999), classes)
    assert third.sum() == pytest.approx(1)
    np.testing.assert_allclose(first, second.sum(axis=1))
    np.testing.assert_allclose(third, third.transpose(2, 0, 1))


def test_wrong_ratings_are_flagged_and_most_are_set_right():
    vectors, true, observed = noisy(1500)
    found = curate(observed, build(vectors, 24))
    wrong = observed != true
    assert (wrong & found.flagged).sum() / found.flagged.sum() > 0.85
    assert (wrong & found.flagged).sum() / wrong.sum() > 0.85
    assert (found.curated != true).mean() < 0.4 * wrong.mean()
    np.testing.assert_allclose(np.diag(found.transition), 5 / 6, atol=0.05)


def test_clean_ratings_are_left_alone():
    vectors, true, _ = noisy(1500)
    found = curate(true, build(vectors, 24))
    assert found.flagged.mean() <= 0.02
    np.testing.assert_array_equal(found.curated[~found.flagged], true[~found.flagged])


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 80), classes=st.integers(1, 7), seed=st.integers(0, 9), fraction=st.floats(-0.49, 0.49))
def test_what_is_not_flagged_stays_and_everything_is_within_its_range(n, classes, seed, fraction):
    vectors, _ = clustered(n, seed=seed)
    ratings = np.clip(np.random.default_rng(seed).integers(0, classes, n) + fraction, 0, 5)
    found = curate(ratings, build(vectors, 12), rounds=5, steps=30)
    assert found.curated.shape == found.flagged.shape == found.confidence.shape == (n,)
    np.testing.assert_array_equal(found.curated[~found.replaced], ratings[~found.replaced])
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert set(np.floor(found.curated + 0.5)) <= set(found.classes)
    np.testing.assert_allclose(found.transition.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("ratings", "word"),
    [
        ([], "too few"),
        ([3.0], "too few"),
        ([0.0, 5.0] * 4, "too few"),
        ([3.2, 2.9] * 20, "one class"),
    ],
)
def test_what_cannot_be_judged_is_left_alone_and_said(ratings, word):
    vectors, _ = clustered(len(ratings))
    found = curate(np.array(ratings), build(vectors, 12))
    assert word in found.note
    assert not found.flagged.any()
    np.testing.assert_array_equal(found.curated, ratings)


def test_copies_do_not_vouch_for_each_other():
    vectors = np.repeat(clustered(1)[0], 50, axis=0)
    found = curate(np.arange(50) % 5 * 1.0, build(vectors, 12))
    assert "copies" in found.note
    assert not found.flagged.any()
    doubled, _, observed = noisy(400)
    twice = curate(np.repeat(observed, 2), build(np.repeat(doubled, 2, axis=0), 24))
    once = curate(observed, build(doubled, 24))
    np.testing.assert_allclose(twice.transition, once.transition, atol=0.02)
    assert (twice.flagged[::2] == once.flagged).mean() > 0.97


def test_a_class_of_two_members_is_named_and_not_judged():
    vectors, _, observed = noisy(300)
    observed[[5, 9]] = 5
    found = curate(observed, build(vectors, 24))
    assert "5" in found.note
    assert not found.flagged[[5, 9]].any()
    assert found.flagged.any()


def test_rows_without_a_rating_have_no_vote():
    vectors, _, observed = noisy(400)
    graph = build(vectors, 24)
    rows = np.flatnonzero(np.arange(400) % 10 > 0)
    found = CurateStage(rounds=11).run(observed[rows], graph, rows)
    assert len(found.curated) == 360
    assert found.flagged.any()
    with pytest.raises(ValueError, match="one rating for each of 360 rows"):
        curate(observed, graph, rows=rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_rating_that_is_no_number_is_refused(bad):
    vectors, _, observed = noisy(60)
    observed[3] = bad
    with pytest.raises(ValueError, match="leave failed ratings out"):
        curate(observed, build(vectors, 12))


def test_ratings_that_near_rows_do_not_share_are_left_alone_and_said():
    vectors, _ = clustered(600)
    found = curate(np.random.default_rng(0).integers(0, 6, 600).astype(float), build(vectors, 24))
    assert "do not share" in found.note
    assert not found.flagged.any()


def test_raters_of_different_scales_are_joined_by_their_order():
    vectors, true, _ = noisy(600, classes=5)
    rng = np.random.default_rng(3)
    mild = np.clip(np.round(true * 0.4 + 3 + rng.normal(0, 0.5, 600)), 0, 5)
    harsh = np.clip(np.round(true * 0.9 - 1 + rng.normal(0, 1.0, 600)), 0, 5)
    joint = curate_jointly(np.stack([mild, harsh], axis=1), build(vectors, 24))

    def order(a, b):
        return np.corrcoef(np.argsort(np.argsort(a)), b)[0, 1]

    assert order(joint.curated, true) > order(mild + harsh, true) > 0.5
    assert ((joint.curated >= 0) & (joint.curated <= 5)).all()
    assert joint.flagged.shape == (600, 2)
    np.testing.assert_allclose(np.diag(joint.agreement), 1)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_rows_are_joined_too(n):
    joint = curate_jointly(np.full((n, 3), 2.0), build(clustered(n)[0], 5))
    assert joint.curated.tolist() == [2.0] * n
    assert not joint.flagged.any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), missing=st.floats(0, 0.6), raters=st.integers(1, 4))
def test_joint_curation_where_raters_left_rows_out(seed, missing, raters):
    rng = np.random.default_rng(seed)
    vectors, _ = clustered(60, seed=seed)
    ratings = rng.integers(0, 6, (60, raters)).astype(float)
    ratings[rng.random(ratings.shape) < missing] = np.nan
    rows = np.flatnonzero(~np.isnan(ratings).all(axis=1))
    joint = curate_jointly(ratings[rows], build(vectors, 16), rows=rows)
    given_ = ratings[rows][~np.isnan(ratings[rows])]
    assert ((joint.curated >= given_.min()) & (joint.curated <= given_.max())).all()
    assert ((joint.confidence >= 0) & (joint.confidence <= 1)).all()
    assert not joint.flagged[np.isnan(ratings[rows])].any()
    # the order of the raters, and a rater of nothing, change nothing
    other = np.concatenate([ratings[rows][:, ::-1], np.full((len(rows), 1), np.nan)], axis=1)
    again = curate_jointly(other, build(vectors, 16), rows=rows)
    np.testing.assert_allclose(again.curated, joint.curated)
    with pytest.raises(ValueError, match="leave rows out"):
        curate_jointly(np.full((60, 2), np.nan), build(vectors, 4))


def test_raters_that_agree_are_believed_and_one_against_two_is_flagged():
    vectors, true, _ = noisy(300, classes=6)
    ratings = np.stack([true, true, true], axis=1)
    whole = curate_jointly(ratings, build(vectors, 24))
    assert whole.confidence.min() == 1
    ratings[7, 0] = (true[7] + 3) % 6
    joint = curate_jointly(ratings, build(vectors, 24))
    assert joint.flagged[7].tolist() == [True, False, False]
    assert joint.confidence[7] == pytest.approx(2 / 3)
    assert joint.flagged.sum() == 1


def test_a_stage_told_to_flag_regardless_does_what_the_premise_forbids():
    vectors, _, observed = noisy(300, wrong=1.0)
    graph = build(vectors, 24)
    assert not CurateStage().run(observed, graph).flagged.any()
    assert CurateStage(most_wrong=1).run(observed, graph).flagged.any()


def test_a_seed_decides_the_result():
    vectors, _, observed = noisy(300)
    graph = build(vectors, 24)
    first, again = curate(observed, graph, seed=7), curate(observed, graph, seed=7)
    np.testing.assert_array_equal(first.confidence, again.confidence)
    assert (first.confidence != curate(observed, graph, seed=8).confidence).any()


def test_the_figure_of_the_matrix_shows_every_entry():
    vectors, _, observed = noisy(300)
    found = curate(observed, build(vectors, 24))
    drawn = ElementTree.fromstring(transition_svg(found))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert [f"{share:.2f}" for share in found.transition.ravel()] == [
        text for text in texts if text and "." in text[:2]
    ]
    assert sum(element.tag.endswith("rect") for element in drawn) == 9
    assert found.estimated
    assert not curate(observed[:5], build(vectors[:5], 4)).estimated


def test_the_golden_curation():
    vectors = np.load(GOLDEN / "neighborhood_rows.npy")
    golden = json.loads((GOLDEN / "curation.json").read_text(encoding="utf-8"))
    found = curate(np.array(golden["ratings"]), build(vectors, 24))
    np.testing.assert_allclose(found.transition, golden["transition"], atol=1e-3)
    np.testing.assert_allclose(found.prior, golden["prior"], atol=1e-3)
    assert np.flatnonzero(found.flagged).tolist() == golden["flagged"]
    assert np.flatnonzero(found.replaced).tolist() == golden["replaced"]
