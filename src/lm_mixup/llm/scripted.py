"""A language model that says what it is told to: for tests, ours and those of users' own recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from lm_mixup.errors import InputError
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure, digest

Script = Callable[[Prompt], str | Completion | Failure]


class Scripted:
    """Answers from a mapping (a part of the prompt's text → the answer, first match wins) or from a function.

    A prompt that nothing matches is a Failure ``not-in-script``. Under "" a mapping may hold an answer for all others.
    A function needs a ``name``, which stands for it in :attr:`key`: give another when it answers otherwise.
    ``asked`` keeps every prompt in the order in which they came.
    """

    def __init__(self, script: Mapping[str, str] | Script, *, name: str | None = None) -> None:
        if isinstance(script, Mapping):
            self._script = _by_part(dict(script))
            self._key = f"scripted:{name or digest(list(script.items()))}"
        elif name:
            self._script = script
            self._key = f"scripted:{name}"
        else:
            raise InputError("a scripted model made of a function needs a name=…, which stands for it in keys")
        self.asked: list[Prompt] = []

    @classmethod
    def from_file(cls, path: Path | str) -> Scripted:
        """A script in a JSON file: one object, a part of the prompt's text → the answer."""
        try:
            script = orjson.loads(Path(path).read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise InputError(f"{path}: cannot read the script: {error}") from error
        if not isinstance(script, dict) or not all(isinstance(answer, str) for answer in script.values()):
            raise InputError(f"{path}: expected a JSON object of strings (part of the prompt → answer)")
        return cls(script)

    @property
    def key(self) -> str:
        """The content hash of the mapping, or the name that was given."""
        return self._key

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """The script's answers, in the order of the prompts."""
        self.asked += prompts
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Prompt) -> Completion | Failure:
        said = self._script(prompt)
        return Completion(prompt.id, said) if isinstance(said, str) else said


def _by_part(answers: dict[str, str]) -> Script:
    def script(prompt: Prompt) -> str | Failure:
        text = "\n".join(str(message.get("content", "")) for message in prompt.messages)
        found = next((answer for part, answer in answers.items() if part and part in text), answers.get(""))
        return Failure(prompt.id, "llm", "not-in-script") if found is None else found

    return script
