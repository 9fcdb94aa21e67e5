"""Distillers that an evaluation sets beside the real ones: the best variant as it is, and answers made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from lm_mixup import task_types
from lm_mixup.errors import InputError
from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.mixture.rows import Row
from lm_mixup.records import Cluster, Distillate, Failure, digest

STAGE = "distill"
CUT = "</answer>"


class BestSource:
    """Takes each cluster's best-rated sample (the earlier of equals) as it is: what distilling has to beat."""

    key = "best-source-1"

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        """The best-rated sample of each cluster; a failure where it has not its type's form."""
        return [self._distill(cluster) for cluster in clusters]

    def _distill(self, cluster: Cluster) -> Distillate | Failure:
        if not cluster.samples:
            return Failure(cluster.id, STAGE, "empty-cluster")
        best = max(range(len(cluster.samples)), key=lambda i: (cluster.ratings[i], -i))
        item = task_types.from_sample(cluster.samples[best])
        if item is None:
            return Failure(cluster.id, STAGE, "bad-format", f"the best-rated sample is no {cluster.task_type}")
        return as_distillate(cluster, item, (cluster.samples[best].id,))


class Given:
    """Answers that are there already, by cluster id: those of a file, or the references themselves.

    ``answers`` are samples in their type's form. ``said`` are whole answers of a model, where known, cut at the first
    ``</answer>`` and read as LM-Mixup asks for them; they come before ``answers``.
    """

    def __init__(self, answers: Mapping[str, str], said: Mapping[str, str] | None = None) -> None:
        self.answers = dict(answers)
        self.said = dict(said or {})

    @property
    def key(self) -> str:
        """A hash of the answers."""
        return "given-" + digest([self.answers, self.said])[:16]

    @classmethod
    def references(cls, rows: Sequence[Row]) -> Given:
        """The targets themselves: the ceiling."""
        return cls({row.id: row.output for row in rows})

    @classmethod
    def read(cls, path: Path) -> Given:
        """A JSONL file: ``id``, and ``text`` (all that the model said) or ``answer`` (the sample alone); or null.

        Raises InputError for a line that is something else, or an id that is there twice.
        """
        answers: dict[str, str] = {}
        said: dict[str, str] = {}
        seen: set[str] = set()
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise InputError(f"{path}: cannot read the answers: {error}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = _answer(line, path, number)
            if row["id"] in seen:
                raise InputError(f"{path} line {number}: the id {row['id']!r} is there already")
            seen.add(row["id"])
            for name, store in (("text", said), ("answer", answers)):
                if row.get(name) is not None:
                    store[row["id"]] = row[name]
        return cls(answers, said)

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        """The answer of each cluster; a failure where there is none, or none of the type's form."""
        return [self._distill(cluster) for cluster in clusters]

    def _distill(self, cluster: Cluster) -> Distillate | Failure:
        text = self.answers.get(cluster.id)
        if cluster.id in self.said:
            parts = parse_think_answer(cut(self.said[cluster.id]))
            if parts is None:
                return Failure(cluster.id, STAGE, "bad-format", "no single <answer>")
            text = parts.answer
        if text is None:
            return Failure(cluster.id, STAGE, "no-answer", "there is no answer with this id")
        item = task_types.parse(cluster.task_type, text)
        if item is None:
            return Failure(cluster.id, STAGE, "bad-format", f"the answer is no sample of type {cluster.task_type}")
        return as_distillate(cluster, item, cluster.source_ids)


def cut(text: str) -> str:
    """A model's answer up to its first ``</answer>`` (METHOD § 4): what comes after it does not count."""
    head, tag, _ = text.partition(CUT)
    return head + tag


def as_distillate(cluster: Cluster, item: task_types.Item, used_ids: tuple[str, ...]) -> Distillate:
    """An item as the distillate of a cluster."""
    return Distillate(
        id=cluster.id,
        cluster=cluster.id,
        task_type=cluster.task_type,
        language=cluster.language,
        source=cluster.source,
        source_ids=cluster.source_ids,
        used_ids=used_ids,
        answer=task_types.render(item),
        messages=task_types.to_messages(item),
    )


def _answer(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} line {number}: expected a JSON object, got {error}") from error
    texts = [row.get("text"), row.get("answer")] if isinstance(row, dict) else []
    if not texts or not isinstance(row.get("id"), str) or not all(t is None or isinstance(t, str) for t in texts):
        raise InputError(
            f'{path} line {number}: expected an object with "id" and "text" (all that the model said) or "answer" '
            f"(the sample alone), got {line.decode(errors='replace'):.120}"
        )
    return row
