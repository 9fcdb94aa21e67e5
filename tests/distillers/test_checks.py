"""A trained model is believed where its answer holds as much as extraction's and adds nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.distillers.checks import (
    MENDED,
    CheckedDistiller,
    alike,
    asked_coverage,
    asks_less,
    astray,
    loops,
    says_twice,
)
from lm_mixup.distillers.coverage import coverage
from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.records import Cluster, Distillate, Failure, Message, Sample, TaskType
from lm_mixup.task_types import Para, to_messages

IRON = "Iron is sold by the pound in Leeds."
MARKET = "The market opens at nine on Fridays."


def cluster(texts=(f"{IRON} {MARKET}", IRON), language="en", name="c", ratings=None):
    samples = tuple(
        Sample(f"{name}{i}", (Message("assistant", text),), task_type=TaskType.PARA, language=language)
        for i, text in enumerate(texts)
    )
    return Cluster(name, TaskType.PARA, language, "made", samples, ratings or (2.0,) * len(samples))


class Saying:
    """A model that says the same of every cluster, and counts how many it was asked about."""

    key = "saying"

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def distill(self, clusters):
        self.asked += [c.id for c in clusters]
        return [self._made(c) for c in clusters]

    def _made(self, c):
        if self.answer is None:
            return Failure(c.id, "distill", "bad-format", "as asked")
        ids = tuple(s.id for s in c.samples)
        return Distillate(c.id, c.id, c.task_type, c.language, c.source, ids, ids, self.answer, (), "")


def distil(answer, given=None, **settings):
    model = Saying(answer)
    given = given or [cluster()]
    limits = {"max_samples": 4, "max_tokens": 512} | settings
    return CheckedDistiller(model, ExtractiveDistiller(), **limits).distill(given), model


def test_an_answer_that_holds_all_and_adds_nothing_is_taken():
    (made,), _ = distil(f"{MARKET} {IRON}")
    assert made.answer == f"{MARKET} {IRON}"
    assert "[checked: holds 100% of the sources' facts; 100% of its claims have a source]" in made.think


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (f"{IRON}\n\n- and so on", "holds 50% of the facts, this 100%"),
        (f"{IRON}\n\nThe market opens at ten on Fridays.", "says what no sample says: ten"),
        (f"{IRON}\n\nNo market opens at nine on Fridays.", "claims have a source"),
        (f"{IRON}\n\n{MARKET}\n\n{IRON}", "says a sentence twice"),
        (None, "gave no distillate: bad-format"),
    ],
)
def test_anything_less_is_extractions_and_says_why(answer, reason):
    (made,), _ = distil(answer)
    (extracted,) = ExtractiveDistiller().distill([cluster()])
    assert made.answer == extracted.answer
    assert made.messages == extracted.messages != ()
    assert "[fallback: " in made.think
    assert reason in made.think


@pytest.mark.parametrize(
    "answer",
    [
        IRON,
        MARKET,
        f"{IRON} {MARKET} Wool was taxed in Bradford by King George in 1764.",
        f"{IRON} The market opens at ten on Fridays.",
        f"{IRON} {MARKET} {IRON}",
    ],
)
def test_running_text_is_mended_sentence_by_sentence(answer):
    (made,), _ = distil(answer)
    assert made.answer == f"{IRON} {MARKET}"
    assert made.messages == to_messages(Para(made.answer))
    assert made.think.startswith(f"{MENDED}\n[checked: holds 100%")


def test_the_model_is_not_asked_beyond_its_range():
    beyond = [
        cluster((IRON, MARKET, IRON, MARKET, IRON), name="many"),
        cluster(language="de", name="german"),
        cluster((IRON * 60, MARKET), name="long"),
        cluster(name="fine"),
    ]
    made, model = distil(f"{IRON} {MARKET}", beyond)
    assert model.asked == ["fine"]
    assert [("[fallback: " in m.think) for m in made] == [True, True, True, False]
    assert [m.id for m in made] == ["many", "german", "long", "fine"]


def test_rows_that_only_resemble_each_other_are_extractions_and_say_why():
    near, far = cluster((IRON, IRON.lower() + " i think"), name="near"), cluster((IRON, MARKET), name="far")
    made, model = distil(IRON, [near, far], least_alike=0.6)
    assert model.asked == ["near"]
    assert "of their words, and the model is asked from 60% on]" in made[1].think


@given(st.lists(st.text("abcdefgh ", max_size=40), max_size=5))
def test_how_far_texts_are_variants_of_one_thing(texts):
    assert 0.0 <= alike(texts) <= 1.0
    assert alike([*texts, *texts]) == pytest.approx(1.0)
    assert alike(texts) == pytest.approx(alike(texts[::-1]))


def test_texts_without_a_word_in_common_are_no_variants():
    assert alike(["Iron is sold in Bradford.", "Penguins swim well."]) == 0.0
    assert alike(["Iron is sold in Bradford.", "Iron is sold.", "Bradford"]) == pytest.approx(1.0)


def test_a_cluster_without_a_row_good_enough_is_extractions_and_says_why():
    made, model = distil(
        f"{IRON} {MARKET}", [cluster(name="low"), cluster(name="fair", ratings=(1.0, 3.0))], least_rating=3.0
    )
    assert model.asked == ["fair"]
    assert "[fallback: the best sample is rated 2.00, and the model is asked from 3 on]" in made[0].think
    assert "[checked: " in made[1].think


def test_margins_say_how_much_less_will_do():
    lines = f"{IRON}\n\n- so far"
    assert "[fallback: " in distil(lines)[0][0].think
    (made,), _ = distil(f"{IRON}\n\n{IRON.lower()[:-9]}", coverage_margin=0.5)
    assert "[checked: " in made.think


def test_a_result_depends_on_its_cluster_alone_and_the_key_on_the_settings():
    both, _ = distil(f"{IRON} {MARKET}", [cluster(name="a"), cluster((IRON,), name="b")])
    (alone,), _ = distil(f"{IRON} {MARKET}", [cluster((IRON,), name="b")])
    assert both[1] == alone
    keys = {
        CheckedDistiller(
            Saying("x"), ExtractiveDistiller(), max_samples=n, max_tokens=512, coverage_margin=m, least_rating=r
        ).key
        for n in (3, 4)
        for m in (0.0, 0.1)
        for r in (0.0, 2.5)
    }
    assert len(keys) == 8


COLOURS = (
    "Q: Which does not fit the group: Blue, Green, White, Yellow?\nA: All except White are colours of the rainbow."
)
SMOKING = (
    "Q: Which does not fit the group: Cigar, Cigarette, Tobacco, Pipe?\nA: All except Tobacco are means of smoking."
)
ASKED = COLOURS.partition("\n")[0]


@pytest.mark.parametrize(
    ("answer", "texts", "expected"),
    [
        (f"{ASKED}\nA: All except Tobacco are means of smoking.", (COLOURS, SMOKING), True),
        (COLOURS, (COLOURS, SMOKING), False),
        # over both questions, each with its own answer
        (f"{ASKED} And with cigar, cigarette, tobacco, pipe?\nA: All except White are colours of the rainbow. "
         "All except Tobacco are means of smoking.", (COLOURS, SMOKING), False),
        # another wording of one question
        ("Q: Who built the bridge at Arden?\nA: Ann Holt built it in 1901.",
         ("Q: the bridge at Arden who built it\nA: It was stone.", "Q: Who built it?\nA: Ann Holt built it in 1901."),
         False),
        # what no text says is not astray: the check of sources sees it
        (f"{ASKED}\nA: All except Tuesday are days of rest.", (COLOURS, SMOKING), False),
    ],
)  # fmt: skip
def test_an_answer_to_another_question_is_astray(answer, texts, expected):
    assert astray(TaskType.QA, answer, texts) is expected


def test_the_question_said_again_is_no_answer():
    said = "Fungi form partnerships with plants and algae."
    assert says_twice(TaskType.QA, f"Q: Is it so that fungi form partnerships with plants and algae?\nA: {said} {said}")
    assert says_twice(TaskType.QA, f"Q: {said}\nA: {said}")
    assert not says_twice(TaskType.QA, f"Q: Who forms partnerships with plants and algae?\nA: {said}")
    assert not says_twice(TaskType.QA, "Q: Is it so?\nA: It is so.")


def test_a_multiple_choice_item_asks_its_longest_question_alone():
    item = "{}\nA) iron\nB) salt\nAnswer: A) iron"
    texts = [
        item.format("Q: What is sold in Leeds by the pound? Tell me which, pick one, only one is right."),
        item.format("Q: What is the answer here?"),
    ]
    asked = item.format("Q: What is sold in Leeds by the pound?")
    assert asked_coverage(asked, texts, TaskType.MCQ) == 1.0 > coverage(asked, texts, TaskType.MCQ)
    assert asked_coverage(texts[1], texts, TaskType.MCQ) < 1.0
    two = ["Q: Who came?\nA: Anna came.", "Q: What is sold in Leeds?\nA: Iron is sold."]
    assert asked_coverage(two[0], two, TaskType.QA) == coverage(two[0], two, TaskType.QA) < 1.0


def test_a_list_that_goes_round_in_a_circle_is_seen():
    once = "Q: Where to?\nA: 1. The harbour\n2. The market\n3. The mill"
    assert not loops(once, [once])
    assert loops(f"{once}\n4. the harbour\n5. The market", [once])
    assert not loops(f"{once}\n- The mill", [once, f"{once}\n4. The mill"])


def test_a_part_of_the_question_that_is_left_out_is_seen():
    texts = [
        "Q: What is a kiln? Describe how it is built in detail.\nA: A kiln is an oven for clay.",
        "Q: kiln?\nA: An oven.",
    ]
    whole, half = texts[0], "Q: What is a kiln?\nA: A kiln is an oven for clay."
    assert asks_less(TaskType.QA, half.replace("What is a kiln?", "An oven?"), whole, texts)
    assert not asks_less(TaskType.QA, whole, whole, texts)
    assert not asks_less(TaskType.PARA, half, whole, texts)
