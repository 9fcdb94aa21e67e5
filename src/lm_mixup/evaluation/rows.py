"""Which rows of MIXTURE an evaluation is over, and how a row becomes a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lm_mixup.errors import InputError, PoolError
from lm_mixup.mixture.rows import Row, articles_of
from lm_mixup.prompts import Messages
from lm_mixup.prompts.compact import compact, completion
from lm_mixup.records import UNKNOWN_LANGUAGE, Cluster, Sample, TaskType, digest
from lm_mixup.rewards import answer_sample

CountTokens = Callable[[Messages, str], int]
"""Tokens of a prompt and its answer, chat template and all."""


REST = "grpo-rest"
"""Rows of the GRPO part that no training meets: outside the subset, of articles without a row in the subset.

Mostly ``tfq`` and ``mcq``, whose items are articles of their own: more of them than the test part has.
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are taken.

    Of ``split`` (one of MIXTURE's, or :data:`REST`), the rows of ``types`` with ``min_variants`` to
    ``max_variants`` variants (None: any number), whose prompt of a trained model
    (:func:`lm_mixup.prompts.compact.compact`) and answer together have at most ``max_tokens`` tokens (None: any).
    Of those at most ``limit``, evenly by type as far as they go: drawn by ``seed``, and a smaller draw is part of a
    larger one, so that what was answered for the one serves the other. Rows of the articles in ``met`` are left out:
    a model has been trained on them.
    """

    split: str = "test"
    types: tuple[TaskType, ...] = tuple(TaskType)
    min_variants: int = 1
    max_variants: int | None = None
    max_tokens: int | None = None
    limit: int | None = None
    seed: int = 0
    met: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows, in the order of the file, with ids that are unique; and how many others were left out, by reason."""

    rows: tuple[Row, ...]
    left_out: dict[str, int]

    @property
    def digest(self) -> str:
        """A hash of all that is asked and expected."""
        return digest([[row.id, row.task_type, list(row.variants), row.output] for row in self.rows])

    @property
    def groups(self) -> tuple[str, ...]:
        """The article of each row, its own id where none is known: rows of one article are not independent."""
        return tuple(row.group or row.id for row in self.rows)


def choose(rows: Sequence[Row], selection: Selection, count_tokens: CountTokens | None = None) -> Chosen:
    """The rows of the selection. Raises PoolError where none is left, InputError without a needed ``count_tokens``."""
    if selection.max_tokens is not None and count_tokens is None:
        raise InputError("a limit on tokens needs a tokenizer to count them")
    left_out: Counter[str] = Counter()
    kept: list[Row] = []
    for row in of_split(rows, selection.split):
        reason = _reason(row, selection) or _too_long(row, selection, count_tokens)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(row)
    if not kept:
        said = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no row is of this split"
        raise PoolError(f"no row of the split {selection.split!r} is left to evaluate on: {said}")
    kept = _with_unique_ids(kept)
    if selection.limit is not None and len(kept) > selection.limit:
        left_out["limit"] = len(kept) - selection.limit
        kept = _evenly(kept, selection.limit, selection.seed)
    return Chosen(tuple(kept), dict(sorted(left_out.items())))


def of_split(rows: Sequence[Row], split: str) -> list[Row]:
    """The rows of a split, or of :data:`REST`."""
    if split != REST:
        return [row for row in rows if row.split == split]
    met = {row.group for row in rows if row.split == "grpo" and row.in_subset is not False}
    return [row for row in rows if row.split == "grpo" and row.in_subset is False and row.group not in met]


def _reason(row: Row, selection: Selection) -> str:
    if row.task_type not in selection.types:
        return "other-type"
    if articles_of([(row.group, row.id)]) & selection.met:
        return "met-in-training"
    most = len(row.variants) if selection.max_variants is None else selection.max_variants
    return "" if selection.min_variants <= len(row.variants) <= most else "other-number-of-variants"


def _too_long(row: Row, selection: Selection, count_tokens: CountTokens | None) -> str:
    if selection.max_tokens is None or count_tokens is None:
        return ""
    asked = compact(TaskType(row.task_type), row.variants)
    return "too-long" if count_tokens(asked, completion(row.output)) > selection.max_tokens else ""


def _with_unique_ids(rows: Sequence[Row]) -> list[Row]:
    """The rows; a later one whose id was there already gets a number behind it."""
    seen: Counter[str] = Counter()
    out = []
    for row in rows:
        seen[row.id] += 1
        out.append(row if seen[row.id] == 1 else replace(row, id=f"{row.id}#{seen[row.id]}"))
    return out


def _evenly(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    """``limit`` rows in their order: the first of each type by a hash, then the second of each, and so on."""
    turn: Counter[str] = Counter()
    places = []
    for number in sorted(range(len(rows)), key=lambda n: digest([seed, rows[n].id])):
        turn[rows[number].task_type] += 1
        places.append((turn[rows[number].task_type], number))
    return [rows[number] for number in sorted(number for _, number in sorted(places)[:limit])]


def samples_of(row: Row) -> tuple[Sample, ...]:
    """The variants as samples of the row's task type.

    A variant without the type's form becomes a turn without a question: distillers see its text as it is.
    """
    kind = TaskType(row.task_type)
    return tuple(answer_sample(f"{row.id}/{number}", kind, text) for number, text in enumerate(row.variants))


def cluster_of(row: Row, samples: Sequence[Sample], ratings: Sequence[float]) -> Cluster:
    """The row's variants as a cluster with the row's id."""
    return Cluster(
        id=row.id,
        task_type=TaskType(row.task_type),
        language=UNKNOWN_LANGUAGE,
        source=row.source,
        samples=tuple(samples),
        ratings=tuple(ratings),
    )
