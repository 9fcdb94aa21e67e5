"""Answers go through a store: what was answered is not asked again, failures are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.distillers.lm import LMDistiller
from lm_mixup.evaluation.entrants import Entrant, Overheard, answers_of
from lm_mixup.evaluation.rows import cluster_of, samples_of
from lm_mixup.llm.scripted import Scripted
from lm_mixup.ports import Prompt
from lm_mixup.records import Cluster, Distillate, Failure
from lm_mixup.run_folder import Run
from tests.evaluation.material import rows
from tests.fakes import JoiningDistiller

CLUSTERS = [cluster_of(row, samples_of(row), [2.0] * len(row.variants)) for row in rows()]
PARAGRAPHS = [cluster for cluster in CLUSTERS if cluster.task_type == "para"]


class Interrupted(Exception):
    pass


class Stumbling:
    """Answers in turn, and stops after so many clusters."""

    key = "stumbling"

    def __init__(self, stop_after: int) -> None:
        self.distilled: list[str] = []
        self._stop_after = stop_after
        self._inner = JoiningDistiller()

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        if len(self.distilled) >= self._stop_after:
            raise Interrupted
        self.distilled += [cluster.id for cluster in clusters]
        return self._inner.distill(clusters)


def test_an_interrupted_entrant_goes_on_where_it_was(tmp_path: Path) -> None:
    many = [_renamed(PARAGRAPHS[0], f"c{i}") for i in range(150)]
    with Run(tmp_path) as run:
        first = Stumbling(stop_after=128)
        with pytest.raises(Interrupted):
            answers_of(Entrant("it", first), many, run)
        second = Stumbling(stop_after=10_000)
        answers = answers_of(Entrant("it", second), many, run)
        third = Stumbling(stop_after=0)
        again = answers_of(Entrant("it", third), many, run)
    assert sorted(first.distilled + second.distilled) == sorted(c.id for c in many)
    assert third.distilled == []
    assert again == answers
    assert all(answer.sample is not None for answer in answers)


def _renamed(cluster: Cluster, name: str) -> Cluster:
    return Cluster(name, cluster.task_type, cluster.language, cluster.source, cluster.samples, cluster.ratings)


def test_failures_are_tried_again_and_never_a_text(tmp_path: Path) -> None:
    failing = JoiningDistiller(fail_on="harbor")
    with Run(tmp_path) as run:
        for count in (6, 7):
            answers = answers_of(Entrant("it", failing), PARAGRAPHS, run)
            assert [answer.text is None for answer in answers] == [True] + [False] * 5
            assert (answers[0].reason, answers[0].detail) == ("unreadable", "as asked")
            assert failing.distilled == count


def test_what_a_model_says_first_is_kept_whole_and_read_up_to_the_answer(tmp_path: Path) -> None:
    asked: list[str] = []

    def script(prompt: Prompt) -> str:
        asked.append(prompt.id)
        if len(prompt.messages) > 2:  # asked again
            return "<think></think><answer>Better now.</answer>"
        if prompt.id == PARAGRAPHS[0].id:
            return "I would rather not."
        return "<think>x</think><answer>A text.</answer> More. <answer>Another text.</answer>"

    heard = Overheard(Scripted(script, name="model"))
    entrant = Entrant("model", LMDistiller(heard), heard.said)
    with Run(tmp_path) as run:
        answers = answers_of(entrant, PARAGRAPHS, run)
        assert [answer.text for answer in answers] == ["Better now."] + ["A text."] * 5
        assert answers[0].said == "I would rather not."
        assert answers[1].said is not None
        assert answers[1].said.endswith("Another text.</answer>")
        count = len(asked)
        fresh = Overheard(Scripted(script, name="model"))
        again = answers_of(Entrant("model", LMDistiller(fresh), fresh.said), PARAGRAPHS, run)
    assert again == answers
    assert len(asked) == count


def test_answers_of_a_fallback_are_marked(tmp_path: Path) -> None:
    heard = Overheard(Scripted({"": "never the form"}))
    distiller = LMDistiller(heard, fallback=ExtractiveDistiller())
    with Run(tmp_path) as run:
        answers = answers_of(Entrant("model", distiller, heard.said), PARAGRAPHS, run)
        own = answers_of(Entrant("own", ExtractiveDistiller()), PARAGRAPHS, run)
    assert all(answer.fallback and answer.said == "never the form" for answer in answers)
    assert [answer.text for answer in answers] == [answer.text for answer in own]
    assert not any(answer.fallback or answer.said for answer in own)


def test_what_a_model_knows_of_itself_is_passed_on() -> None:
    class Model(Scripted):
        context_tokens = 4096
        at_once = 7

        def count_tokens(self, text: str) -> int:
            return len(text)

    heard = Overheard(Model({"": "x"}))
    assert (heard.context_tokens, heard.at_once, heard.count_tokens("abc")) == (4096, 7, 3)
    assert heard.key.endswith("+cut")
    assert not hasattr(Overheard(Scripted({"": "x"})), "count_tokens")
