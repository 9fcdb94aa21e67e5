"""The judge's options: expected ratings, several draws, several judges, small windows."""

import asyncio
import json
import math

import pytest

from lm_mixup.distillers.lm import LMDistiller
from lm_mixup.errors import InputError
from lm_mixup.llm.openai_compatible import OpenAICompatible
from lm_mixup.llm.probabilities import overall_probabilities
from lm_mixup.llm.scripted import Scripted
from lm_mixup.ports import Prompt, Rater
from lm_mixup.raters.judge import LLMJudge, compress
from lm_mixup.raters.panel import Panel
from lm_mixup.records import Cluster, Failure, Rating, TaskType
from tests.raters.test_judge import judgement, sample, scripted
from tests.servers.launch import serving


def places(*tokens):
    """Tokens with their alternatives: a text, or (text, {alternative: probability})."""
    listed = [(token, {token: 1.0}) if isinstance(token, str) else token for token in tokens]
    return [[token, [[other, math.log(p)] for other, p in options.items()]] for token, options in listed]


@pytest.mark.parametrize(
    ("tokens", "stated", "found"),
    [
        (['"Overall rating', '":', " ", ("8", {"8": 0.6, "9": 0.3, "x": 0.1})], 8, {8: 0.6, 9: 0.3}),
        (['"Overall rating":', (" 8", {" 8": 0.5, " 7": 0.25, "7": 0.2})], 8, {8: 0.5, 7: 0.25}),
        (['"Overall rating": ', ("10", {"10": 0.7, "9": 0.2})], 10, {10: 0.7, 9: 0.2}),
        (['"Overall rating": ', ("1", {"1": 0.7, "9": 0.2}), "0"], 10, {10: 0.7, 9: 0.2}),
        (['"Overall rating": ', ("8", {"8": 0.3, "eight": 0.7})], 8, None),  # the mass is elsewhere
        (['"Overall rating": ', ("8", {"9": 0.9})], 8, None),  # what was said is not among them
        (["no such place 8"], 8, None),
        (['"Overall rating": ', "8", ' "Overall rating": ', "8"], 8, None),
        ([], 8, None),
    ],
)
def test_probabilities_of_the_stated_rating(tokens, stated, found):
    told = overall_probabilities(places(*tokens), stated)
    assert told == (None if found is None else pytest.approx(found))


@pytest.mark.parametrize("odd", [None, "text", 3, {}])
def test_no_probabilities_are_none(odd):
    assert overall_probabilities(odd, 8) is None


def test_expected_ratings_over_the_wire():
    asked = [sample(f"answer {i}", id=str(i)) for i in range(30)]
    with serving("--logprobs") as server:
        plain = LLMJudge(OpenAICompatible("m", server.url)).rate(asked)
        expected = LLMJudge(OpenAICompatible("m", server.url), expected=True)
        finer = expected.rate(asked)
    for whole, fine in zip(plain, finer, strict=True):
        overall = fine.details["overall"]
        below = compress(overall - 1) if overall > 1 else compress(1)
        assert fine.value == pytest.approx(0.7 * compress(overall) + 0.3 * below)
        assert fine.details["expected"] == pytest.approx(1.0)
        assert whole.value == compress(whole.details["overall"])
    assert expected.key != LLMJudge(OpenAICompatible("m", server.url)).key


@pytest.mark.parametrize("arguments", [(), ("--refuse", "logprobs")])
def test_without_probabilities_the_stated_rating_counts(arguments):
    with serving(*arguments) as server:
        (rating,) = LLMJudge(OpenAICompatible("m", server.url), expected=True).rate([sample()])
    assert rating.value == compress(rating.details["overall"])
    assert "expected" not in rating.details


def test_draws_are_asked_with_seeds_of_their_own_and_averaged():
    model = scripted(judgement(5), judgement(8), judgement(9))
    (rating,) = LLMJudge(model, draws=3, temperature=0.7).rate([sample()])
    assert [p.seed for p in model.asked] == [0, 1, 2]
    assert rating.value == pytest.approx((1 + 4 + 5) / 3)
    assert rating.details["draws"] == [1.0, 4.0, 5.0]
    assert rating.details["spread"] == pytest.approx(1.6997, abs=1e-4)


def test_fewer_readable_draws_than_half_are_a_failure():
    bad = "no rating"
    (failure,) = LLMJudge(scripted(judgement(5), bad, bad, bad, bad), draws=3, temperature=1.0).rate([sample()])
    assert isinstance(failure, Failure)
    assert failure.reason == "unreadable-rating"
    assert "2 of 3 draws" in failure.detail
    (rating,) = LLMJudge(scripted(judgement(5), judgement(7), bad, bad), draws=3, temperature=1.0).rate([sample()])
    assert rating.value == 2.0


def test_draws_at_temperature_0_are_refused():
    with pytest.raises(InputError, match="temperature"):
        LLMJudge(Scripted({"": judgement()}), draws=3)


class Fixed:
    def __init__(self, *results):
        self.key = f"fixed-{results}"
        self._results = results

    def rate(self, samples):
        return [
            Rating(r) if isinstance(r, float) else Failure(s.id, "rate", r)
            for s, r in zip(samples, self._results, strict=False)
        ]


def test_a_panel_averages_and_tells_how_far_it_agrees():
    panel = Panel({"a": Fixed(4.0, "timeout", "timeout"), "b": Fixed(4.2, 2.0, "x"), "c": Fixed(1.0, 3.0, 2.0)})
    assert isinstance(panel, Rater)
    one, two, three = panel.rate([sample(id="1"), sample(id="2"), sample(id="3")])
    assert one.value == pytest.approx((4 + 4.2 + 1) / 3)
    assert one.details == {"panel": {"a": 4.0, "b": 4.2, "c": 1.0}, "spread": 3.2, "agreement": 0.3333}
    assert (two.value, two.details["panel"]["a"]) == (2.5, None)
    assert (three.reason, three.detail) == ("too-few-raters", "1 of 3 rated it (a: timeout; b: x)")
    json.dumps(dict(one.details))


def test_a_panel_by_median_is_another_rater():
    judges = {"a": Fixed(0.0), "b": Fixed(4.0), "c": Fixed(5.0)}
    assert Panel(judges, combine="median").rate([sample()])[0].value == 4.0
    assert Panel(judges, combine="median").key != Panel(judges).key
    with pytest.raises(InputError, match="two"):
        Panel({"a": Fixed(1.0)})
    with pytest.raises(InputError, match="quorum"):
        Panel(judges, quorum=4)


# ---- small windows ------------------------------------------------------------------------------------------------


def small(window: int) -> OpenAICompatible:
    return OpenAICompatible("m", "http://localhost:1/v1", context_tokens=window)


def test_samples_are_trimmed_to_a_small_window():
    long = sample("word " * 10_000)
    prompt, trimmed = LLMJudge(small(2048)).prompt(long)
    assert trimmed > 0
    assert sum(len(m["content"]) for m in prompt.messages) / 2.5 + prompt.max_tokens <= 2048 + 100
    assert LLMJudge(small(100_000)).prompt(long)[1] > 0  # max_sample_chars
    with pytest.raises(InputError, match="window of 600"):
        LLMJudge(small(600))


def test_clusters_are_trimmed_to_a_small_window_or_the_model_is_refused():
    members = tuple(sample("word " * 400, id=str(i)) for i in range(5))
    cluster = Cluster("c", TaskType.QA, "en", "s", members, (1.0,) * 5)
    whole = LMDistiller(small(100_000), max_input_tokens=10_000).prompt(cluster)
    fitted = LMDistiller(small(2048), max_new_tokens=512).prompt(cluster)
    assert len(whole.used_ids) == 5 > len(fitted.used_ids) > 0
    with pytest.raises(InputError, match="max_new_tokens"):
        LMDistiller(small(2048), max_new_tokens=2400)


def test_logprobs_change_the_key_and_only_then():
    model = Scripted({"": judgement()})
    LLMJudge(model).rate([sample()])
    assert isinstance(model.asked[0], Prompt)
    assert model.asked[0].logprobs == 0
    assert asyncio.run(model.complete(model.asked[:1]))
