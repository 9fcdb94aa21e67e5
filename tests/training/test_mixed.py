"""Rows that are put together as a pool's clusters are."""

import pytest

from lm_mixup.distillers.drafts import cluster_of, draft_of
from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.distillers.facts import Keeper, facts_of
from lm_mixup.errors import PoolError, RecipeError
from lm_mixup.mixture.rows import make_row
from lm_mixup.records import TaskType
from lm_mixup.task_types import parse
from lm_mixup.training.data import examples
from lm_mixup.training.mixed import mixed
from lm_mixup.training.recipe import DataSettings

TOWNS = ("Bradford", "Halifax", "Ripon", "Selby", "Thirsk", "Whitby", "Skipton", "Malton", "Otley", "Settle")


def length(prompt, completion):
    return sum(len(m["content"]) for m in prompt) + len(completion)


def rows():
    """Two questions and a verdict on each of ten markets: two variants each, of which the second alone holds all."""
    out = []
    for number, town in enumerate(TOWNS):
        asked = {
            f"When does the market of {town} open?": f"The market of {town} opens at {number + 5} on Mondays.",
            f"Who founded the market of {town}?": f"The market of {town} was founded by King John in {1201 + number}.",
        }
        for question, body in asked.items():
            texts = (f"Q: {question}\nA: um, on Mondays", f"Q: {question.lower()}\nA: {body} I think")
            out.append(make_row(TaskType.QA, texts, f"Q: {question}\nA: {body}", split="sft", group=town))
        said = f"The market of {town} sells wool and salt.\nAnswer: True"
        texts = (f"{town} sells it.\nAnswer: False", said.replace("The", "the"))
        out.append(make_row(TaskType.TFQ, texts, said, split="sft", group=town))
    return out


def test_mixed_rows_ask_for_what_their_draft_is_when_clean():
    given = {row.output: row for row in rows()}
    made = mixed(list(given.values()), 12, max_variants=4, max_tokens=700)
    assert made == mixed(list(given.values()), 12, max_variants=4, max_tokens=700)
    assert made != mixed(list(given.values()), 12, max_variants=4, max_tokens=700, seed=1)
    assert len({row.id for row in made}) == len(made)
    assert {row.task_type for row in made} == {"qa", "tfq"}
    joined = 0
    for row in made:
        assert 2 <= len(row.variants) <= 4
        owners = [next(one for one in given.values() if text in one.variants) for text in row.variants]
        assert 2 <= len({owner.id for owner in owners}) == len(row.group.split("\n"))
        assert all(owner.task_type == row.task_type for owner in owners)
        item = parse(TaskType(row.task_type), row.output)
        assert item is not None
        if row.output in given:
            assert not Keeper(facts_of(item)).missing(row.variants)
        else:  # joined: what extraction makes of the clean rows, all of which it took
            joined += 1
            clean = [owner.output for owner in owners if content_words(owner.output) <= content_words(row.output)]
            assert len(clean) >= 2
            (again,) = ExtractiveDistiller().distill([cluster_of("x", TaskType.QA, clean)])
            assert content_words(again.answer) == content_words(row.output)
        draft = draft_of(TaskType(row.task_type), row.variants)
        assert content_words(row.output) <= content_words(draft or "")
    assert joined > 0


def test_a_variant_that_says_otherwise_or_too_little_is_in_no_mixed_row():
    made = mixed(rows(), 12, max_variants=4, max_tokens=700)
    texts = [text for row in made for text in row.variants]
    assert not any("Answer: False" in text or "um, on Mondays" in text for text in texts)


def test_no_room_no_rows():
    assert mixed(rows(), 12, max_variants=1, max_tokens=700) == []
    assert mixed(rows(), 12, max_variants=4, max_tokens=20) == []
    assert mixed([rows()[0], rows()[2]], 12, max_variants=4, max_tokens=700) == []
    assert mixed(rows(), 0, max_variants=4, max_tokens=700) == []


def test_examples_show_the_draft_and_are_hashed_with_it(mixture):
    plain = examples(mixture, "sft", DataSettings(), count_tokens=length)
    shown = examples(mixture, "sft", DataSettings(drafts=True), count_tokens=length)
    assert [e.id for e in plain.examples] == [e.id for e in shown.examples]
    assert plain.digest != shown.digest
    for before, after in zip(plain.examples, shown.examples, strict=True):
        assert before.draft is None
        assert after.prompt[1]["content"] == f"Draft:\n{after.draft}\n\n{before.prompt[1]['content']}"
        assert after.completion == before.completion


def test_a_share_of_the_examples_is_mixed(mixture):
    settings = DataSettings(drafts=True, mixed=0.25, limit=12, max_variants=6)
    found = examples(mixture, "sft", settings, count_tokens=length)
    made = [e for e in found.examples if e.id.startswith("mixed-")]
    assert len(found.examples) - len(made) == 9
    assert found.left_out == {"limit": 3}
    assert 1 <= len(made) <= 3
    assert found == examples(mixture, "sft", settings, count_tokens=length)


def test_mixed_rows_without_drafts_are_refused(mixture):
    with pytest.raises(RecipeError, match=r"set data\.drafts, too"):
        examples(mixture, "sft", DataSettings(mixed=0.2), count_tokens=length)
    with pytest.raises(PoolError, match="too-long"):
        examples(mixture, "sft", DataSettings(drafts=True, mixed=0.2, max_tokens=64), count_tokens=length)
