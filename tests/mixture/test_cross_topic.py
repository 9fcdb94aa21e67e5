"""Cross-topic synthesis: two near targets in one, with the facts of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lm_mixup.distillers.facts import coverage, facts_of
from lm_mixup.mixture.cot import chain_of_thought
from lm_mixup.mixture.cross_topic import CrossTopic, joined
from lm_mixup.mixture.degrade import RuleDegrader
from lm_mixup.mixture.material import Target
from lm_mixup.records import TaskType
from lm_mixup.task_types import CS, MCQ, QA, Para, parse, render
from tests.fakes import WordEmbedder
from tests.mixture.material import targets


def test_joined_forms() -> None:
    made = joined(QA("Who led the Normans?", "Rollo."), QA("When did they land?", "In 911."))
    assert made == QA("Who led the Normans? And when did they land?", "Rollo. In 911.")
    assert joined(CS("Moon", "It is cold."), CS("Mars", "It is red.")) == CS("Moon; Mars", "It is cold. It is red.")
    assert joined(Para("One.", "Topic: a"), Para("Two.", "Topic: b")) == Para(
        "One. Two.", "Write a paragraph on the following topics: a; b"
    )
    item = MCQ("Which?", ("a", "b"), 0)
    assert joined(item, item) is None


def test_pairs_stay_in_their_split_and_type_and_are_of_two_articles(tmp_path: Path) -> None:
    made = targets(tmp_path).targets
    vectors = WordEmbedder().embed([t.as_sample().text for t in made])
    splits = ["test" if int(t.groups[0].encode().hex(), 16) % 2 else "sft" for t in made]
    pairs = CrossTopic(share=1.0, near=0.0, same=1.0).pairs(made, vectors, splits)
    assert len(pairs) > 5
    used = [i for pair in pairs for i in pair]
    assert len(set(used)) == len(used)
    for a, b in pairs:
        assert splits[a] == splits[b]
        assert made[a].task_type == made[b].task_type in (TaskType.QA, TaskType.CS, TaskType.PARA)
        assert not set(made[a].groups) & set(made[b].groups)


def test_too_near_and_too_far_make_no_pair() -> None:
    made = [Target(f"t{n}", CS(f"topic {n}", "It is so."), (f"g{n}",), "") for n in range(8)]
    same = np.repeat(np.eye(4, dtype=np.float32)[:1], 8, axis=0)
    assert CrossTopic(share=1.0).pairs(made, same, ["sft"] * 8) == []
    assert CrossTopic(share=1.0).pairs(made, np.eye(8, dtype=np.float32), ["sft"] * 8) == []


def test_the_merged_target_keeps_both(tmp_path: Path) -> None:
    degrader = RuleDegrader()
    for task_type in (TaskType.QA, TaskType.CS, TaskType.PARA):
        one, two = [t for t in targets(tmp_path).targets if t.task_type == task_type][:2]
        a, b = degrader.degrade(one), degrader.degrade(two)
        assert a is not None
        assert b is not None
        both = CrossTopic().merge(a, b)
        assert both is not None
        assert parse(task_type, render(both.target.item)) is not None
        assert both.target.groups == tuple(sorted({*one.groups, *two.groups}))
        texts = [render(v.item) for v in both.variants]
        assert 4 <= len(texts) <= 20
        # the measure agrees with one that looks at each part by itself
        held = [coverage(facts_of(part.item), texts) for part in (one, two)]
        assert both.coverage <= max(held)
        assert min(held) >= 0.9
        assert "two related topics" in chain_of_thought(both)
        assert {v.holds for v in both.variants} != {frozenset()}
