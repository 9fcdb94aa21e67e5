"""What a run will cost, from a small part of it: about twenty samples rated and twenty clusters distilled.

They go through the run's own ledger, so that the run does not pay for the ratings again. The clusters are stand-ins
(rows of one group, drawn at random), since the real ones are known only when everything is rated; their distillates are
the price of the plan. Of a cascade it is known how many rows its judge is asked about, but not which: the intervals
reach from rows as they are to the longest ones, and from no distillate asked about to all.

Every figure is an interval that should hold nine times in ten: bootstrap over the sampled records for tokens, requests,
time and price a record (a share of the pool for the number of clusters, by Wilson's interval), times the number of
records. The time assumes that the endpoint bears ``llm.concurrency``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from lm_mixup.ledger import Ledger
from lm_mixup.llm.metered import Cost, Metered
from lm_mixup.pool.table import PoolTable
from lm_mixup.ports import LLM, Distiller, Rater
from lm_mixup.raters.cascade_rater import Cascade
from lm_mixup.raters.training import MIN_ROWS
from lm_mixup.recipe import Recipe
from lm_mixup.records import Cluster, Distillate, Rating, Sample, rating_class
from lm_mixup.run_folder import Run
from lm_mixup.stages.distill import as_cluster

LEVEL = 0.9
"""Share of cases in which an interval should hold the truth."""

_Z = 1.645  # of a two-sided interval at that level
_ROUNDS = 2000
_STOOD_IN = "plan-"  # ids of clusters that only a plan knows
_FEWEST_CLUSTERS, _MOST_CLUSTERS = 0.7, 1.2
"""Of rows by mean size: rows without a near neighbour are left out, and sizes come out as the rows lie."""

Interval = tuple[float, float]


class Meters:
    """The meters of all models of a run, in one place."""

    def __init__(self) -> None:
        self.models: list[Metered] = []

    def wrap(self, llm: LLM, ledger: Ledger) -> LLM:
        """The model with a meter."""
        metered = Metered(llm, ledger)
        self.models.append(metered)
        return metered

    def take(self) -> tuple[dict[str, Cost], int]:
        """What was asked since the last call, by record, and how many requests the model takes at a time."""
        costs: dict[str, Cost] = {}
        parallel = max((model.in_parallel for model in self.models if model.costs), default=1)
        for model in self.models:
            costs |= model.costs
            model.costs = {}
        return costs, parallel


@dataclass(frozen=True)
class Sampled:
    """What was seen of one stage: a cost for each sampled record (all zeros where no model was asked)."""

    costs: Sequence[Cost]
    failed: int
    seconds: float
    in_parallel: int


@dataclass(frozen=True)
class Estimate:
    """One stage's figures as intervals at :data:`LEVEL`. ``usd`` is None where a price is not known."""

    records: Interval
    requests: Interval
    prompt_tokens: Interval
    completion_tokens: Interval
    seconds: Interval
    usd: Interval | None

    def widened(self, factor: float) -> Estimate:
        """The same where a record may take up to ``factor`` as much to read."""

        def wider(interval: Interval) -> Interval:
            return interval[0], interval[1] * factor

        usd = None if self.usd is None else wider(self.usd)
        return replace(self, prompt_tokens=wider(self.prompt_tokens), seconds=wider(self.seconds), usd=usd)

    def as_json(self) -> dict[str, Any]:
        """As lists of two numbers; whole numbers but for seconds and dollars."""
        whole = ("records", "requests", "prompt_tokens", "completion_tokens")
        told: dict[str, Any] = {n: [math.floor(getattr(self, n)[0]), math.ceil(getattr(self, n)[1])] for n in whole}
        told["seconds"] = [round(second, 1) for second in self.seconds]
        told["usd"] = None if self.usd is None else [round(usd, 6) for usd in self.usd]
        return told


def plan(
    run: Run, recipe: Recipe, rater: Rater | Cascade, distiller: Distiller, meters: Meters, *, items: int = 20
) -> dict[str, Any]:
    """Rate and distil ``items`` sampled records of the run's pool, and say what all of it will take.

    ``rater`` and ``distiller`` ask models that ``meters`` wraps. Raises what they raise.
    """
    pool = PoolTable(run.records("pool"))
    rng = np.random.default_rng(recipe.seed)
    unrated = np.flatnonzero(pool.column("rating").is_null().to_numpy(zero_copy_only=False))
    rows = np.sort(rng.choice(unrated, min(items, len(unrated)), replace=False))
    samples = pool.rows(rows)
    asked, cascade = len(unrated), None
    if isinstance(rater, Cascade):
        cascade, rater = rater, rater.judge
        asked = cascade.plan.questions(asked) if asked >= MIN_ROWS else asked
    ratings, rated = _timed(lambda: rater.rate(samples), [s.id for s in samples], meters)
    clusters = _stand_ins(pool, recipe, rng, items)
    made, distilled = _timed(lambda: distiller.distill(clusters), [c.id for c in clusters], meters)
    again = [made_one.as_sample() for made_one in made if isinstance(made_one, Distillate)]
    _, rerated = _timed(lambda: rater.rate(again), [s.id for s in again], meters)

    low = _share_low(ratings, recipe)
    clusters_at_mean = len(pool) / recipe.cluster.mean_size
    number = (low[0] * clusters_at_mean * _FEWEST_CLUSTERS, low[1] * clusters_at_mean * _MOST_CLUSTERS)
    counted = run.manifest("distill")
    if counted is not None:
        number = (float(counted.in_),) * 2
    longest = _longest(pool, unrated, rows, rated, asked) if cascade else 1.0
    stages = {
        "rate": _estimate(rated, (float(asked),) * 2, rng).widened(longest),
        "distill": _estimate(distilled, number, rng),
        "rerate": _estimate(rerated, (0.0, number[1]) if cascade else number, rng),
    }
    return {
        "run": str(run.folder),
        "rows": len(pool),
        "level": LEVEL,
        "sampled": {"rate": len(samples), "distill": len(clusters), "rerate": len(again)},
        "failed": {"rate": rated.failed, "distill": distilled.failed, "rerate": rerated.failed},
        "stages": {name: stage.as_json() for name, stage in stages.items()},
        "total": _sum(list(stages.values())).as_json(),
    }


def _timed(work: Any, ids: Sequence[str], meters: Meters) -> tuple[list[Any], Sampled]:
    """Do the work; its results, and what each record cost."""
    began = time.perf_counter()
    results = work() if ids else []
    seconds = time.perf_counter() - began
    costs, parallel = meters.take()
    failed = sum(not isinstance(result, Rating | Distillate) for result in results)
    return results, Sampled([costs.get(id_, Cost()) for id_ in ids], failed, seconds, parallel)


def _stand_ins(pool: PoolTable, recipe: Recipe, rng: np.random.Generator, count: int) -> list[Cluster]:
    """Clusters of the wanted mean size, each of rows that share a task type and a source."""
    size = max(recipe.cluster.min_size, round(recipe.cluster.mean_size))
    kinds = list(zip(pool.column("task_type").to_pylist(), pool.column("source").to_pylist(), strict=True))
    groups: dict[tuple[str, str], list[int]] = {}
    for row, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(row)
    clusters = []
    for number, row in enumerate(rng.integers(0, len(pool), min(count, len(pool) // size)).tolist()):
        others = groups[kinds[row]]
        members = sorted(rng.choice(others, min(size, len(others)), replace=False).tolist())
        texts: list[Sample] = pool.rows(members)
        clusters.append(as_cluster(f"{_STOOD_IN}{number}", texts, [0.0] * len(texts)))
    return clusters


def _longest(
    pool: PoolTable, unrated: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], rated: Sampled, asked: int
) -> float:
    """How many times the tokens of an average question one about the ``asked`` longest rows takes, at least 1.

    By the straight line through the sampled rows' lengths and tokens.
    """
    chars = pc.binary_length(pool.column("messages")).to_numpy().astype(np.float64)
    tokens = np.array([cost.prompt_tokens for cost in rated.costs], dtype=np.float64)
    if len(tokens) < 2 or not tokens.any() or np.ptp(chars[rows]) == 0:
        return 1.0
    slope = max(0.0, float(np.cov(chars[rows], tokens, bias=True)[0, 1] / chars[rows].var()))
    mean = float(chars[unrated].mean())
    top = float(np.sort(chars[unrated])[::-1][:asked].mean())
    average = float(tokens.mean()) + slope * (mean - float(chars[rows].mean()))
    return max(1.0, 1.0 + slope * (top - mean) / max(average, 1.0))


def _share_low(ratings: Sequence[object], recipe: Recipe) -> Interval:
    """The share of the pool that will be low and so be clustered."""
    values = [r.value for r in ratings if isinstance(r, Rating)]
    if recipe.curate.high_share is not None:
        return (1 - recipe.curate.high_share,) * 2
    if not values:
        return 0.0, 1.0
    n = len(values)
    share = sum(rating_class(v) < recipe.curate.high_rating for v in values) / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n)) / (1 + _Z**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _estimate(seen: Sampled, number: Interval, rng: np.random.Generator) -> Estimate:
    """What ``number`` records will take, if they are like those that were seen."""
    if not seen.costs:
        nothing = (0.0, 0.0)
        return Estimate(number, nothing, nothing, nothing, nothing, nothing if number[1] == 0 else None)
    asked = any(cost.requests for cost in seen.costs)

    def times(values: Sequence[float]) -> Interval:
        low, high = _mean(np.array(values, dtype=float), rng)
        return low * number[0], high * number[1]

    if asked:
        waited = times([cost.seconds for cost in seen.costs])
        seconds = (waited[0] / seen.in_parallel, waited[1] / min(seen.in_parallel, max(1.0, number[1])))
    else:
        seconds = times([seen.seconds / len(seen.costs)] * len(seen.costs))
    known = [cost.usd for cost in seen.costs if cost.usd is not None]
    return Estimate(
        number,
        times([cost.requests for cost in seen.costs]),
        times([cost.prompt_tokens for cost in seen.costs]),
        times([cost.completion_tokens for cost in seen.costs]),
        seconds,
        times(known) if len(known) == len(seen.costs) else None,
    )


def _mean(values: npt.NDArray[np.float64], rng: np.random.Generator) -> Interval:
    """The mean's interval: bootstrap, and room for what was not seen.

    So few records show nothing of what happens to one in ten (a second question, a second attempt), which may double
    what it takes: the upper end allows for as many of those as could be without one of them having been drawn.
    """
    means = rng.choice(values, (_ROUNDS, len(values))).mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    unseen = 1.0 - ((1.0 - LEVEL) / 2) ** (1.0 / len(values))
    return float(low), float(high) + unseen * float(values.mean())


def _sum(stages: Sequence[Estimate]) -> Estimate:
    """All stages together: the ends of the intervals added up, which is wider than need be."""

    def add(name: str) -> Interval:
        parts: list[Interval] = [getattr(stage, name) for stage in stages]
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    usd = None if any(stage.usd is None for stage in stages) else add("usd")
    return Estimate(
        add("records"), add("requests"), add("prompt_tokens"), add("completion_tokens"), add("seconds"), usd
    )


def table(told: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The plan as rows of text: stage, records, requests, tokens in, tokens out, time, price."""
    rows = []
    for name, stage in [*told["stages"].items(), ("total", told["total"])]:
        whole = [stage[n] for n in ("records", "requests", "prompt_tokens", "completion_tokens")]
        usd = "unknown" if stage["usd"] is None else _between(stage["usd"], "${:,.2f}")
        seconds = _between(stage["seconds"], "{:,.0f} s")
        rows.append((name, *(_between(pair, "{:,}") for pair in whole), seconds, usd))
    return rows


def _between(pair: Sequence[float], form: str) -> str:
    low, high = form.format(pair[0]), form.format(pair[1])
    return low if low == high else f"{low} – {high}"
