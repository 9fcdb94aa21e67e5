"""The cascade: asks no more than it may, finds high rows, survives bad judges, and leaves a rater of content alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.errors import InputError, ModelError, RatingsError
from lm_mixup.raters.cascade import Floats, Ints, Plan, _worth_calling, learn, luck_of
from lm_mixup.raters.cascade_rater import Cascade, CascadeRater, train
from lm_mixup.raters.features import FEATURES
from lm_mixup.raters.learned import LearnedRater
from lm_mixup.records import Failure, Message, Rating, Sample
from tests.fakes import WordEmbedder

DIM = 16
LENGTH = list(FEATURES).index("completion_words")


def made(rows: int = 600, *, seed: int = 0, by_length: float = 0.5) -> tuple[Floats, Floats, Floats]:
    """Vectors, features and ratings that follow a direction and, by so much, the length; one row in ten is high."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = np.zeros((rows, len(FEATURES)))
    features[:, LENGTH] = rng.normal(3.0, 1.0, rows)
    raw = 4 * vectors[:, 0] + by_length * features[:, LENGTH] + rng.normal(size=rows)
    return vectors, features, np.round(5 * (np.argsort(np.argsort(raw)) / rows) ** 3)


def f1(found: np.ndarray, high: np.ndarray) -> float:
    return float(2 * (found & high).sum() / (found.sum() + high.sum()))


class Judge:
    """Answers from a table, and remembers what it was asked."""

    def __init__(self, said: Floats) -> None:
        self.said, self.asked = said, []

    def __call__(self, rows: Ints) -> Floats:
        self.asked += rows.tolist()
        return self.said[rows]


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_it_asks_for_its_share_and_for_no_row_twice(share: float) -> None:
    vectors, features, said = made()
    judge = Judge(said)
    learned = learn(vectors, features, judge, plan=Plan(share=share))
    assert len(judge.asked) == len(set(judge.asked)) == share * 600
    assert learned.rows.tolist() == judge.asked
    assert sum(r.asked for r in learned.rounds) == len(judge.asked)
    np.testing.assert_array_equal(learned.ratings[learned.rows], said[learned.rows])


def test_it_beats_chance_and_length_at_a_fifth_judged() -> None:
    vectors, features, said = made(1500)
    high = said >= 3.5
    learned = learn(vectors, features, Judge(said), plan=Plan(share=0.2))
    ours = f1(learned.ratings >= 3.5, high)
    chance = np.random.default_rng(0).permutation(1500)[:300]
    longest = np.argsort(-features[:, LENGTH])[:300]
    for rows in (chance, longest):
        theirs = learn(vectors, features, Judge(said), chosen=rows)
        alone = np.zeros(1500, bool)
        alone[rows] = high[rows]
        assert ours > max(f1(theirs.ratings >= 3.5, high), f1(alone, high)) + 0.05


def test_a_rater_that_knows_something_is_a_better_start_and_one_that_knows_nothing_does_little_harm() -> None:
    vectors, features, said = made(1500, by_length=0.0)
    rng = np.random.default_rng(2)
    high = said >= 3.5

    def found(start: Floats | None) -> float:
        learned = learn(vectors, features, Judge(said), plan=Plan(share=0.1), start=start)
        assert len(learned.rows) == 150
        return f1(learned.ratings >= 3.5, high)

    bare = found(None)
    assert found(said + rng.normal(size=1500)) > bare + 0.05
    assert found(rng.normal(size=1500)) > bare - 0.1
    assert found(np.ones(1500)) > bare - 0.1


def test_a_judge_who_dislikes_length_is_learned_too() -> None:
    vectors, features, said = made(1500, by_length=-1.0)
    learned = learn(vectors, features, Judge(said), plan=Plan(share=0.2))
    assert f1(learned.ratings >= 3.5, said >= 3.5) > 0.6


def test_a_judge_of_chance_makes_no_claims() -> None:
    vectors, features, said = made(1000)
    said = np.random.default_rng(1).permutation(said)
    learned = learn(vectors, features, Judge(said), plan=Plan(share=0.2))
    high = said >= 3.5
    unjudged = np.setdiff1d(np.arange(1000), learned.rows)
    # no more rows are called high than there are
    assert (learned.ratings[unjudged] >= 3.5).sum() <= 1.5 * high[unjudged].sum()


def test_the_rest_is_rated_in_range_and_in_the_heads_order() -> None:
    vectors, features, said = made()
    learned = learn(vectors, features, Judge(said))
    assert learned.ratings.min() >= 0
    assert learned.ratings.max() <= 5
    rest = np.setdiff1d(np.arange(600), learned.rows)
    merit = [learned.head.merit(vectors[i].astype(np.float32), features[i]) for i in rest]
    np.testing.assert_allclose(learned.ratings[rest], merit, atol=1e-5)


def test_the_same_input_gives_the_same_result() -> None:
    vectors, features, said = made(300)
    once, again = (learn(vectors, features, Judge(said)) for _ in range(2))
    np.testing.assert_array_equal(once.rows, again.rows)
    np.testing.assert_array_equal(once.ratings, again.ratings)


def test_questions_that_fail_cost_their_place_and_are_no_numbers() -> None:
    vectors, features, said = made()
    holes = said.copy()
    holes[::3] = np.nan
    learned = learn(vectors, features, Judge(holes), plan=Plan(share=0.4))
    assert len(learned.rows) == 240
    failed = learned.rows[np.isnan(learned.said)]
    assert len(failed) > 20
    assert np.isfinite(learned.ratings).all()
    assert sum(r.answered for r in learned.rounds) == np.isfinite(learned.said).sum()


def test_a_judge_that_never_answers_is_an_error() -> None:
    vectors, features, said = made()
    with pytest.raises(RatingsError, match="answered 0 of"):
        learn(vectors, features, Judge(np.full_like(said, np.nan)))


def test_ratings_out_of_range_are_refused() -> None:
    vectors, features, said = made()
    with pytest.raises(RatingsError, match="expected ratings in 0–5, got"):
        learn(vectors, features, Judge(said * 2))


@pytest.mark.parametrize("value", [0.0, 2.0, 5.0])
def test_a_judge_that_always_says_the_same(value: float) -> None:
    vectors, features, said = made(200)
    learned = learn(vectors, features, Judge(np.full_like(said, value)), plan=Plan(share=0.5))
    assert np.isfinite(learned.ratings).all()
    assert np.abs(learned.ratings - value).max() < 0.2


def test_equal_rows_are_no_trouble() -> None:
    vectors, features, said = made(200)
    vectors[:], features[:] = vectors[0], features[0]
    learned = learn(vectors, features, Judge(said), plan=Plan(share=0.5))
    assert len(set(learned.rows.tolist())) == 100


def test_small_pools_and_impossible_shares_are_refused() -> None:
    vectors, features, said = made(49)
    with pytest.raises(RatingsError, match="at least 50 rows, got 49"):
        learn(vectors, features, Judge(said))
    with pytest.raises(InputError, match="share"):
        Plan(share=0.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=40), st.integers(0, 20))
def test_no_more_rows_are_called_high_than_are_expected(chances: list[float], known: int) -> None:
    assert 0 <= _worth_calling(np.array(chances), float(known), 0.5) <= round(sum(chances))


def samples(rows: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    return [
        Sample(str(i), (Message("user", f"Tell me {i}."), Message("assistant", " ".join(rng.choice(words, size=n)))))
        for i, n in enumerate(rng.integers(3, 60, size=rows))
    ]


class LengthJudge:
    """A quarter point a word, and no answer where word7 comes first."""

    key = "length-judge"

    def rate(self, asked):
        return [
            Failure(s.id, "rate", "refused")
            if s.completion.startswith("word7 ")
            else Rating(min(5, len(s.completion.split()) / 11))
            for s in asked
        ]


def test_the_rater_it_leaves_knows_the_judges_word_and_rates_the_rest(tmp_path: Path) -> None:
    pool, embedder = samples(200), WordEmbedder()
    vectors = embedder.embed([s.text for s in pool])
    rater = train(
        tmp_path / "c",
        judge=LengthJudge(),
        embedder=embedder,
        vectors=vectors,
        fetch=lambda rows: [pool[i] for i in rows],
        plan=Plan(share=0.4),
    )
    got = rater.rate(pool)
    by = [r.details["by"] for r in got if isinstance(r, Rating)]
    truth = LengthJudge().rate(pool)
    judged = [i for i, name in enumerate(by) if name == "judge"]
    assert 60 <= len(judged) <= 80
    assert all(got[i].value == truth[i].value for i in judged)
    assert all(0 <= got[i].details["learned"] <= 5 for i in judged)
    assert rater.rate(pool[::-1])[::-1] == got
    back = CascadeRater.load(tmp_path / "c", embedder=embedder)
    assert back.key == rater.key
    assert back.rate(pool[:20]) == got[:20]


class Counting(LengthJudge):
    """The same, and remembers whom it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def rate(self, asked):
        self.asked += [s.digest for s in asked]
        return super().rate(asked)


def trained(folder: Path, pool: list[Sample], judge: Counting, **plan: float) -> Cascade:
    embedder = WordEmbedder()
    cascade = Cascade(judge, plan=Plan(**plan))
    cascade.train(
        folder,
        embedder=embedder,
        vectors=embedder.embed([s.text for s in pool]),
        fetch=lambda rows: [pool[i] for i in rows],
        progress=lambda _: None,
    )
    return cascade


def test_what_is_made_from_the_pool_is_shown_to_the_judge_where_it_may_be_high(tmp_path: Path) -> None:
    pool, judge = samples(300), Counting()
    cascade = trained(tmp_path, pool, judge, share=0.4)
    first, second = cascade.raters(tmp_path, embedder=WordEmbedder())
    assert first.key != second.key
    fresh = [replace(s, id=f"new-{s.id}", messages=(Message("user", "Say it."), s.messages[1])) for s in pool]
    judge.asked.clear()
    by_head = first.rate(fresh)
    assert judge.asked == []
    both = second.rate(fresh)
    assert second.rate(fresh[::-1])[::-1] == both
    unsure = {s.digest for s, r in zip(fresh, by_head, strict=True) if r.value >= 3.5}
    assert unsure <= set(judge.asked)
    assert 0 < len(set(judge.asked)) < len(fresh)
    for sample, head, told in zip(fresh, by_head, both, strict=True):
        if sample.digest not in judge.asked:
            assert told == head
        elif isinstance(told, Rating):
            assert told.value == LengthJudge().rate([sample])[0].value
            assert told.details == {"by": "judge", "learned": head.value}
        else:
            assert told.reason == "refused"  # a failure is never a number
    # what the judge has seen is not asked again
    judge.asked.clear()
    second.rate(pool[:50])
    seen = {s.digest for s, r in zip(pool[:50], first.rate(pool[:50]), strict=True) if r.details["by"] == "judge"}
    assert not seen & set(judge.asked)


def test_it_may_start_from_a_learned_rater(tmp_path: Path) -> None:
    pool, judge = samples(200), Counting()
    cascade = trained(tmp_path / "first", pool, judge, share=0.5)
    start = LearnedRater(embedder=WordEmbedder(), head="cascade", weights=tmp_path / "first" / "head.npz")
    again = Cascade(judge, plan=cascade.plan, start=start)
    assert again.key != cascade.key
    vectors = WordEmbedder().embed([s.text for s in pool])
    rater = again.train(
        tmp_path / "second",
        embedder=WordEmbedder(),
        vectors=vectors,
        fetch=lambda rows: [pool[i] for i in rows],
        progress=lambda _: None,
    )
    assert rater.card["start"] == start.key


def test_an_edited_row_leaves_nearly_all_questions_as_they_were(tmp_path: Path) -> None:
    pool = samples(600)
    before, after = Counting(), Counting()
    trained(tmp_path / "one", pool, before, share=0.3)
    edited = [*pool[:100], replace(pool[100], messages=(Message("user", "Another."), Message("assistant", "word1")))]
    trained(
        tmp_path / "two",
        [*edited, *pool[101:], Sample("x", pool[3].messages[:1] + edited[100].messages[1:])],
        after,
        share=0.3,
    )
    assert len(set(after.asked) - set(before.asked)) <= 0.15 * len(before.asked)


def test_a_judge_that_takes_many_at_a_time_is_given_a_round_at_once(tmp_path: Path) -> None:
    calls: list[int] = []

    class Batch(LengthJudge):
        at_once = 50_000

        def rate(self, asked):
            calls.append(len(asked))
            return super().rate(asked)

    cascade = Cascade(Batch(), plan=Plan(share=0.5, rounds=2))
    pool, embedder = samples(400), WordEmbedder()
    vectors = embedder.embed([s.text for s in pool])
    cascade.train(
        tmp_path,
        embedder=embedder,
        vectors=vectors,
        fetch=lambda rows: [pool[i] for i in rows],
        progress=lambda _: None,
    )
    assert calls == [50, 75, 75]
    assert cascade.raters(tmp_path, embedder=embedder)[1].at_once == 50_000
    assert cascade.raters(tmp_path, embedder=embedder)[0].at_once is None


def test_luck_is_the_contents_and_the_seeds() -> None:
    luck = luck_of(["a", "b", "a"], 0)
    assert luck[0].tolist() == luck[2].tolist() != luck[1].tolist()
    assert luck_of(["a"], 1).tolist() != luck[:1].tolist()
    many = luck_of([str(i) for i in range(4000)], 0)
    assert (many > 0).all()
    assert (many <= 1).all()
    assert np.abs(np.quantile(many, [0.1, 0.5, 0.9], axis=0) - [[0.1], [0.5], [0.9]]).max() < 0.03


def test_a_folder_without_a_cascade_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cascade\.json"):
        CascadeRater.load(tmp_path, embedder=WordEmbedder())
