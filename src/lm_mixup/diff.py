"""Which answers of language models differ between two runs, and why.

Answers are compared by the record that they were asked for (a sample's or a cluster's id), by kind (a rating, a text)
and by turn (the first question, the second). Where the requests differ, it is told in what: the *model*, the
*settings*, the *input* (what stands between the fences of a prompt: the sample) or the *prompt* (what stands around
them). Where the request is the same and the answer is not, the model itself said something else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lm_mixup.errors import RunError
from lm_mixup.ledger import Answer, Ledger, Request

MODEL, SETTINGS, PROMPT, INPUT, CHANCE = "model", "settings", "prompt", "input", "same request"
"""Why two answers can differ."""

_FENCED = re.compile(r"<<<([0-9A-F]{12}) ([^\n]*)\n(.*?)\n\1>>>", re.DOTALL)
_SHOWN_CHARS = 300

Asked = tuple[Request, Answer | None]
Place = tuple[str, str, int]
"""A record's id, the kind of answer, and the turn."""


@dataclass(frozen=True)
class Changed:
    """One answer that differs: of which record, why, and both texts (None: no answer)."""

    id: str
    kind: str
    turn: int
    why: tuple[str, ...]
    before: str | None
    after: str | None

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        texts = {"before": self.before, "after": self.after}
        return {"id": self.id, "kind": self.kind, "turn": self.turn, "why": list(self.why), **texts}


@dataclass(frozen=True)
class Difference:
    """Two runs side by side.

    ``same`` counts equal answers to equal requests, ``same_answer`` equal answers though the request differs (by why).
    """

    same: int
    same_answer: Mapping[str, int]
    changed: tuple[Changed, ...]
    only_before: int
    only_after: int

    @property
    def why(self) -> dict[str, int]:
        """How many answers changed for each reason; an answer with two reasons counts for both."""
        return dict(Counter(reason for change in self.changed for reason in change.why))

    def as_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "same": self.same,
            "same_answer_other_request": dict(self.same_answer),
            "changed": len(self.changed),
            "why": self.why,
            "only_before": self.only_before,
            "only_after": self.only_after,
            "answers": [change.as_json() for change in self.changed],
        }


def diff(before: Path, after: Path) -> Difference:
    """Compare the ledgers of two run folders. Raises :class:`RunError` where one has none."""
    one, two = dict(_asked(before)), dict(_asked(after))
    same, changed = 0, []
    same_answer: Counter[str] = Counter()
    for place in sorted(one.keys() & two.keys()):
        (first, said), (second, says) = one[place], two[place]
        why = reasons(first, second)
        texts = (said.text if said else None, says.text if says else None)
        if texts[0] != texts[1]:
            changed.append(Changed(*place, why or (CHANCE,), *texts))
        elif why:
            same_answer.update(why)
        else:
            same += 1
    only = (len(one.keys() - two.keys()), len(two.keys() - one.keys()))
    return Difference(same, same_answer, tuple(changed), *only)


def _asked(folder: Path) -> Iterator[tuple[Place, Asked]]:
    """Everything that was asked in a run, by place. Of several requests at one place the last answered counts.

    There are several where a setting was changed within the run.
    """
    path = folder / "ledger.sqlite"
    if not path.is_file():
        raise RunError(f"{path}: found no ledger; only runs that asked a language model can be compared")
    with Ledger(path) as ledger:
        asked = ledger.asked()
    for id_, requests in asked.items():
        for request, answer in requests:
            body = orjson.loads(request.body)
            kind = "text" if body["schema"] is None else str(body["schema"].get("title", "object"))
            draw = f" {body['seed']}" if body["seed"] is not None else ""
            yield (id_, kind + draw, (len(body["messages"]) - 1) // 2), (request, answer)


def reasons(before: Request, after: Request) -> tuple[str, ...]:
    """In what two requests differ."""
    if before.key == after.key:
        return ()
    one, two = orjson.loads(before.body), orjson.loads(after.body)
    found = [MODEL] if before.model != after.model else []
    messages = [(part.pop("messages")) for part in (one, two)]
    if one != two:
        found.append(SETTINGS)
    (around_one, inside_one), (around_two, inside_two) = (_parts(part) for part in messages)
    if inside_one != inside_two:
        found.append(INPUT)
    if around_one != around_two:
        found.append(PROMPT)
    return tuple(found)


def _parts(messages: list[dict[str, Any]]) -> tuple[str, list[tuple[str, str]]]:
    """What stands around the fences (with the fence's own word, which depends on the input, taken out), and within.

    Answers of the model that are repeated in a second question are neither.
    """
    around: list[str] = []
    inside: list[tuple[str, str]] = []
    for message in messages:
        if message.get("role") == "assistant":
            continue
        text = str(message.get("content", ""))
        words = {word for word, _, _ in _FENCED.findall(text)}
        inside += [(label, content) for _, label, content in _FENCED.findall(text)]
        text = re.sub(r"(?:\[fenced\]\s*)+", "[fenced]", _FENCED.sub("[fenced]", text))
        for word in words:
            text = text.replace(word, "[word]")
        around.append(f"{message.get('role')}: {text}")
    whole = "\n".join(around)
    used = re.findall(r"<<<([0-9A-F]{12})", whole)
    for word in used:
        whole = whole.replace(word, "[word]")
    return whole, inside


def shown(text: str | None) -> str:
    """A text on one line, cut, for the terminal."""
    if text is None:
        return "no answer"
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[:_SHOWN_CHARS] + "…"
