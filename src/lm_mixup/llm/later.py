"""A language model that is loaded when it is first asked: a run whose clusters need none does not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.records import Failure


class Later:
    """The model that ``make`` gives, which counts tokens. ``key`` names it before it is there.

    Raises what ``make`` raises, when it is first asked.
    """

    def __init__(self, key: str, make: Callable[[], LLM]) -> None:
        self._key = key
        self._make = make

    @property
    def key(self) -> str:
        """As given."""
        return self._key

    @cached_property
    def _llm(self) -> LLM:
        return self._make()

    def count_tokens(self, text: str) -> int:
        """How many tokens the model makes of a text."""
        count: Callable[[str], int] = self._llm.count_tokens  # type: ignore[attr-defined]
        return count(text)

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """The model's answers."""
        return await self._llm.complete(prompts) if prompts else []
