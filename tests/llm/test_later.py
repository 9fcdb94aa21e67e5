"""A model that is loaded when it is first asked."""

import asyncio

from lm_mixup.llm.later import Later
from lm_mixup.llm.scripted import Scripted
from lm_mixup.ports import LLM, Prompt


class Counting(Scripted):
    """A scripted model that counts tokens, a letter each."""

    def count_tokens(self, text):
        return len(text)


def test_the_model_is_made_once_and_only_when_it_is_asked():
    made = []

    def make():
        made.append(Counting({"": "yes"}))
        return made[-1]

    later = Later("a-model", make)
    assert isinstance(later, LLM)
    assert later.key == "a-model"
    assert asyncio.run(later.complete([])) == []
    assert made == []
    (answer,) = asyncio.run(later.complete([Prompt("p", ({"role": "user", "content": "?"},))]))
    assert (answer.id, answer.text) == ("p", "yes")
    assert later.count_tokens("four") == 4
    assert len(made) == 1
