"""The scorer: one reading and one embedding an answer, the paper's sum, and None for nothing but the unscorable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_mixup.embed.hashing import HashEmbedder
from lm_mixup.errors import InputError, ProviderError
from lm_mixup.raters.knn_bayes import KNNBayesRater
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.records import TaskType
from lm_mixup.rewards import COMPONENTS, Rollout, Scorer, Weights, alignment_reward, quality_reward
from tests.rewards.material import GOOD, POOR, REFERENCE, VARIANTS, Counting, library, rollout

GOOD_OTHER = GOOD.format("silk", "Silk")
CUT = Rollout("<think>\n</think>\n<answer>\nQ: What is ice used for?\nA: Ice", TaskType.QA, REFERENCE, VARIANTS)


@pytest.fixture(scope="module")
def shelf() -> RatedLibrary:
    return library()


def test_the_total_is_the_weighted_sum(shelf: RatedLibrary) -> None:
    weights = Weights(0.3, 0.2, 0.1, 0.25, 0.15)
    scored = Scorer(Counting(), shelf, weights).score([rollout(), rollout(POOR.format("wood", "Wood")), rollout("hm")])
    for one in scored:
        assert set(one.components) == set(COMPONENTS)
        assert one.total == pytest.approx(sum(getattr(weights, n) * v for n, v in one.components.items()))
    best, poor, formless = (one.total for one in scored)
    assert best > poor > formless


def test_the_reference_itself_gets_all_that_the_paper_gives(shelf: RatedLibrary) -> None:
    (one,) = Scorer(Counting(), shelf).score([rollout(GOOD_OTHER, reference=GOOD_OTHER)])
    assert dict(one.components)["quality"] == 1.0
    assert one.total == pytest.approx(1.0)
    assert one.cosine == pytest.approx(1.0)
    assert one.answer == GOOD_OTHER


def test_each_answer_is_embedded_once_and_each_reference_once_for_good(shelf: RatedLibrary) -> None:
    embedder = Counting()
    scorer = Scorer(embedder, shelf)
    batch = [rollout(GOOD_OTHER), rollout(GOOD_OTHER), rollout(POOR.format("oak", "Oak")), rollout(), CUT]
    scorer.score(batch)
    assert len(embedder.texts) == len(set(embedder.texts)) == 3
    scorer.score([rollout(GOOD.format("tin", "Tin"))])
    assert len(embedder.texts) == 4  # the new answer; the reference is known


def test_quality_is_that_of_the_rater_and_can_be_rated_again_with_the_same_vector(shelf: RatedLibrary) -> None:
    embedder = Counting()
    (one,) = Scorer(embedder, shelf, mapping="linear").score([rollout(GOOD_OTHER)])
    assert one.sample is not None
    assert one.vector is not None
    (rating,) = KNNBayesRater(shelf, embedder=embedder).rate([one.sample])
    assert one.rating == rating.value
    assert one.components["quality"] == pytest.approx(rating.value / 5)
    assert np.array_equal(embedder.embed([one.sample.text])[0], one.vector)


def test_a_result_does_not_depend_on_the_others(shelf: RatedLibrary) -> None:
    batch = [rollout(GOOD_OTHER), CUT, rollout("hm"), rollout(POOR.format("oak", "Oak")), rollout(GOOD_OTHER)]
    together = Scorer(Counting(), shelf).score(batch)
    alone = [Scorer(Counting(), shelf).score([one])[0] for one in batch]
    assert together == alone


@pytest.mark.parametrize("text", [CUT.text, "", "no tags at all", "<think></think><answer>  </answer>"])
def test_no_answer_is_worth_nothing_and_is_no_gap(shelf: RatedLibrary, text: str) -> None:
    (one,) = Scorer(Counting(), shelf).score([replace(CUT, text=text)])
    assert one.total == 0.0
    assert set(one.components.values()) == {0.0}
    assert one.sample is None


def test_a_task_type_without_a_shelf_cannot_be_scored(shelf: RatedLibrary) -> None:
    para = rollout("Ice keeps food cold.", TaskType.PARA, "Ice keeps food cold.")
    (one,) = Scorer(Counting(), shelf).score([para])
    assert one.total is None
    assert one.components["quality"] is None
    assert one.components["alignment"] == 1.0
    assert "no shelf" in one.reason
    (without,) = Scorer(Counting(), shelf, Weights(quality=0.0)).score([para])
    assert without.total == pytest.approx(0.5)


def test_a_vector_that_is_not_finite_cannot_be_scored(shelf: RatedLibrary) -> None:
    bad, good = Scorer(Counting(spoil="Zinc"), shelf).score([rollout(GOOD.format("zinc", "Zinc")), rollout(GOOD_OTHER)])
    assert bad.total is None
    assert bad.components["quality"] is None
    assert bad.components["alignment"] is None
    assert bad.components["format"] == 1.0
    assert "not finite" in bad.reason
    assert good.total is not None


class Away(Counting):
    def embed(self, texts):
        raise ProviderError("the server is away")


def test_an_endpoint_that_stays_away_masks_the_rollouts_and_no_more(shelf: RatedLibrary) -> None:
    one, cut = Scorer(Away(), shelf).score([rollout(), CUT])
    assert one.total is None
    assert "away" in one.reason
    assert cut.total == 0.0


def test_without_a_reference_there_is_no_alignment(shelf: RatedLibrary) -> None:
    (one,) = Scorer(Counting(), shelf).score([rollout(GOOD_OTHER, reference="")])
    assert one.total is None
    assert one.reason == "alignment: the rollout has no reference"
    (free,) = Scorer(Counting(), shelf, Weights(alignment=0.0)).score([rollout(GOOD_OTHER, reference="")])
    assert free.total is not None


def test_rewards_that_need_no_model_need_no_embedder() -> None:
    (one,) = Scorer(None, None, Weights(0.0, 0.0, 0.5, 0.25, 0.25)).score([rollout()])
    assert set(one.components) == {"format", "coverage", "grounding"}
    assert one.total is not None


def test_what_has_a_weight_must_be_there(shelf: RatedLibrary) -> None:
    with pytest.raises(InputError, match="rated library"):
        Scorer(Counting(), None)
    with pytest.raises(InputError, match="embedder"):
        Scorer(None, None, Weights(quality=0.0))
    with pytest.raises(InputError, match="embedder is"):
        Scorer(HashEmbedder(dim=64), shelf)
    with pytest.raises(InputError, match="'steps' or 'linear'"):
        Scorer(Counting(), shelf, mapping="log")  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [(-0.1, 1, 0), (0, 0, 0), (float("nan"), 1, 0), (float("inf"), 1, 0)])
def test_weights_are_numbers_of_at_least_nought(weights: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="reward weights"):
        Weights(*weights)


def test_the_mappings_of_quality_and_alignment() -> None:
    assert [quality_reward(r) for r in (5, 3.5, 3.49, 2.5, 2.49, 0)] == [1.0, 1.0, 0.3, 0.3, 0.0, 0.0]
    assert quality_reward(2.5, "linear") == 0.5
    assert [alignment_reward(c) for c in (0.8, 0.79)] == [1.0, 0.0]
    assert [alignment_reward(c, None) for c in (0.79, -0.2)] == [0.79, 0.0]
