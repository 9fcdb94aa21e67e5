"""The evaluation on MIXTURE's held-out part (METHOD § 4): everybody answers the same rows, and all is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lm_mixup.embed.cached import CachedEmbedder, vector_schema
from lm_mixup.errors import InputError, PoolError
from lm_mixup.evaluation import lengths
from lm_mixup.evaluation import measures as m
from lm_mixup.evaluation.bootstrap import Bootstrap, Figure, Floats
from lm_mixup.evaluation.entrants import Answer, Entrant, answers_of
from lm_mixup.evaluation.rows import Chosen, cluster_of, samples_of
from lm_mixup.ports import Embedder, Rater
from lm_mixup.records import Cluster, Sample, TaskType
from lm_mixup.rewards import answer_sample
from lm_mixup.run_folder import Run
from lm_mixup.stages.rate import STORE_SCHEMA, RateStage
from lm_mixup.steps import Silent, Watcher

RATE_ROWS = 512
"""Samples between two writes of ratings, unless the rater wants more at a time."""

LIKE_LENGTH = 0.1
"""Two answers are of like length if they differ by at most this share of the longer one."""

LIKE_LENGTH_RATING = "rating_like_length"
"""The difference in rating over the rows where the two answers are of like length."""

PREFERRED = "preferred"
"""By how much the share of rows where the first is rated higher exceeds that where the second is, −1 to 1."""


def hush(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Pair:
    """Two entrants: the differences first − second, by measure and scope, over the rows that both answered."""

    first: str
    second: str
    differences: Mapping[str, Mapping[str, Figure]]


@dataclass(frozen=True)
class Evaluation:
    """All that was found.

    ``answers`` are by entrant, ``values`` by measure: (entrants, rows), NaN where there is nothing to measure;
    ``figures`` by entrant, measure and scope (see :mod:`lm_mixup.evaluation.bootstrap`). ``reasons``: rows without an
    answer, and answers without a rating, by entrant and reason. ``slopes``: what the judge gives for length.
    """

    rows: Chosen
    entrants: tuple[str, ...]
    keys: Mapping[str, str]
    judges: Mapping[str, str]
    rater: str
    embedder: str
    answers: Mapping[str, Sequence[Answer]]
    values: Mapping[str, Floats]
    figures: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    pairs: tuple[Pair, ...]
    reasons: Mapping[str, Mapping[str, int]]
    slopes: Mapping[str, float]
    resamples: int
    seed: int

    @property
    def judge(self) -> str:
        """The name of the judge whose rating decides: the first."""
        return next(iter(self.judges))


def rating_by(judge: str) -> str:
    """The name of the measure that holds a further judge's ratings."""
    return f"{m.RATING}:{judge}"


def evaluate(
    rows: Chosen,
    entrants: Sequence[Entrant],
    *,
    run: Run,
    judges: Mapping[str, Rater],
    rater: Rater,
    embedder: Embedder,
    resamples: int = 2000,
    seed: int = 0,
    watcher: Watcher | None = None,
    tell: Callable[[str], None] = hush,
) -> Evaluation:
    """Let every entrant answer every row, rate and measure the answers, and compare.

    ``run`` is the folder that keeps what was answered, rated and embedded: killed and called again, nothing is worked
    out (or paid) twice. ``judges`` rate the answers; the first one's rating decides. ``rater`` rates the variants, as a
    pool's rows are rated before they are distilled: give another than the judges, or an entrant that picks by rating
    picks what the judge likes. ``resamples`` and ``seed`` are the bootstrap's.

    Raises InputError for entrants of one name, or none, or no judge; and what entrants and raters raise.
    """
    names = [entrant.name for entrant in entrants]
    if not names or len(set(names)) < len(names):
        raise InputError(f"expected distillers of different names, got {', '.join(names) or 'none'}")
    if not judges:
        raise InputError("expected a judge, got none")
    watcher = watcher or Silent()
    rows, clusters = _clusters(rows, rater, run, watcher)
    answers = {}
    for entrant in entrants:
        watcher.start(entrant.name, len(clusters), "rows")
        answers[entrant.name] = answers_of(entrant, clusters, run, _advance(watcher, entrant.name))
        failed = sum(answer.text is None for answer in answers[entrant.name])
        tell(f"{entrant.name}: {len(clusters) - failed:,} of {len(clusters):,} rows answered")
    values, unrated = _values(rows, answers, run, judges, embedder, watcher)
    slope = lengths.slopes(values[m.RATING], values[m.WORDS], [row.task_type for row in rows.rows])
    values[m.RATING_AT_LENGTH] = lengths.at_reference_length(
        values[m.RATING],
        values[m.WORDS],
        np.array(m.lengths_of(rows.rows)),
        [row.task_type for row in rows.rows],
        slope,
    )
    draws = Bootstrap(rows.groups, [row.task_type for row in rows.rows], resamples=resamples, seed=seed)
    ordered = [*m.MEASURES, *(name for name in values if name not in m.MEASURES)]
    values = {name: values[name] for name in ordered}
    figures = {
        entrant: {name: draws.figures(table[place]) for name, table in values.items()}
        for place, entrant in enumerate(names)
    }
    return Evaluation(
        rows=rows,
        entrants=tuple(names),
        keys={entrant.name: entrant.distiller.key for entrant in entrants},
        judges={name: judge.key for name, judge in judges.items()},
        rater=rater.key,
        embedder=embedder.key,
        answers=answers,
        values=values,
        figures=figures,
        pairs=_pairs(names, values, draws),
        reasons={name: _reasons(answers[name], unrated[name]) for name in names},
        slopes=slope,
        resamples=resamples,
        seed=seed,
    )


def remembering(embedder: Embedder, run: Run) -> CachedEmbedder:
    """The embedder, with its vectors kept in the run's store."""
    return CachedEmbedder(embedder, run.store("vectors", embedder.key, vector_schema(embedder.dim)))


def _advance(watcher: Watcher, step: str) -> Callable[[int], None]:
    return lambda count: watcher.advance(step, count)


def _clusters(rows: Chosen, rater: Rater, run: Run, watcher: Watcher) -> tuple[Chosen, list[Cluster]]:
    """The rows as clusters of rated variants; a variant that cannot be rated is left out, as in a run.

    A row none of whose variants can be rated is left out itself.
    """
    samples = [samples_of(row) for row in rows.rows]
    flat = [sample for of_row in samples for sample in of_row]
    ratings = iter(_rate(flat, rater, run, watcher, "variants")[0].tolist())
    kept, clusters = [], []
    for row, of_row in zip(rows.rows, samples, strict=True):
        rated = [(sample, round(rating, 4)) for sample in of_row if np.isfinite(rating := next(ratings))]
        if rated:
            kept.append(row)
            clusters.append(cluster_of(row, [sample for sample, _ in rated], [rating for _, rating in rated]))
    if not kept:
        raise PoolError("no variant could be rated; see the rater, or take another one")
    if len(kept) < len(rows.rows):
        left_out = rows.left_out | {"variants-not-rated": len(rows.rows) - len(kept)}
        rows = Chosen(tuple(kept), dict(sorted(left_out.items())))
    return rows, clusters


def _rate(
    samples: Sequence[Sample], rater: Rater, run: Run, watcher: Watcher, step: str
) -> tuple[Floats, list[str | None]]:
    """(samples,) ratings, NaN where there is none; and why there is none."""
    watcher.start(step, len(samples), "samples")
    at_once = max(RATE_ROWS, getattr(rater, "at_once", None) or 0)
    stage = RateStage(rater, run.store("ratings", rater.key, STORE_SCHEMA), chunk_rows=at_once)
    values: list[float] = []
    reasons: list[str | None] = []
    for batch in stage.run([(samples, [None] * len(samples))], _advance(watcher, step)):
        for record in batch.to_pylist():
            values.append(np.nan if record["rating"] is None else record["rating"])
            reasons.append(record["reason"])
    return np.array(values, dtype=np.float64), reasons


def _values(
    rows: Chosen,
    answers: Mapping[str, Sequence[Answer]],
    run: Run,
    judges: Mapping[str, Rater],
    embedder: Embedder,
    watcher: Watcher,
) -> tuple[dict[str, Floats], dict[str, Counter[str]]]:
    """The measures, (entrants, rows) each, without those at equal length; and the answers without a rating."""
    shape = (len(answers), len(rows.rows))
    references = [m.references_of(row) for row in rows.rows]
    table = [
        [m.measure(row, answer, kept) for row, answer, kept in zip(rows.rows, said, references, strict=True)]
        for said in answers.values()
    ]
    values = {name: np.array([[cell[name] for cell in line] for line in table]) for name in table[0][0]}
    there = np.array([[answer.sample is not None for answer in said] for said in answers.values()])
    samples = [answer.sample for said in answers.values() for answer in said if answer.sample is not None]
    unrated: dict[str, Counter[str]] = {name: Counter() for name in answers}
    for number, (name, judge) in enumerate(judges.items()):
        ratings = np.full(shape, np.nan)
        ratings[there], reasons = _rate(samples, judge, run, watcher, f"judge {name}")
        values[m.RATING if number == 0 else rating_by(name)] = ratings
        if number == 0:
            owners = np.repeat(np.array(list(answers), dtype=object), there.sum(axis=1))
            for owner, reason in zip(owners.tolist(), reasons, strict=True):
                if reason is not None:
                    unrated[owner][f"not rated: {reason}"] += 1
    values[m.RATING_WITH_FAILURES] = np.where(there, values[m.RATING], 0.0)
    outputs = embedder.embed(
        [answer_sample(row.id, TaskType(row.task_type), row.output).text for row in rows.rows]
    ).astype(np.float64)
    vectors = embedder.embed([sample.text for sample in samples]).astype(np.float64)
    cosines = np.full(shape, np.nan)
    cosines[there] = np.sum(vectors * outputs[np.nonzero(there)[1]], axis=1)
    values[m.ALIGNMENT] = np.clip(cosines, -1.0, 1.0)
    return values, unrated


def _pairs(names: Sequence[str], values: Mapping[str, Floats], draws: Bootstrap) -> tuple[Pair, ...]:
    out = []
    for first, second in combinations(range(len(names)), 2):
        differences = {name: draws.differences(table[first], table[second]) for name, table in values.items()}
        words = values[m.WORDS]
        near = lengths.alike(words[first], words[second], LIKE_LENGTH)
        gap = values[m.RATING][first] - values[m.RATING][second]
        differences[LIKE_LENGTH_RATING] = draws.figures(np.where(near, gap, np.nan))
        differences[PREFERRED] = draws.figures(np.sign(gap))
        out.append(Pair(names[first], names[second], differences))
    return tuple(out)


def _reasons(answers: Sequence[Answer], unrated: Mapping[str, int]) -> dict[str, int]:
    found = Counter(answer.reason for answer in answers if answer.text is None)
    return dict(sorted({**found, **unrated}.items()))
