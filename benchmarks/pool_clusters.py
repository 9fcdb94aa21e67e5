"""The trained distiller on a pool's own clusters, whose rows only resemble each other, beside extraction.

    lm-mixup run POOL -o RUN                                         # a run: its clusters, ratings and texts are used
    python -m benchmarks.pool_clusters RUN -o OUT                    # tables
    python -m benchmarks.pool_clusters RUN -o OUT --model FOLDER     # another model
    python -m benchmarks.pool_clusters RUN -o OUT --show 20          # also: outputs beside their sources

Clusters in the model's range are drawn evenly over the pool's sources and distilled by extraction, by the model with
its checks, and by the model alone; the best-rated source as it is stands beside them. OUT keeps what the model
answered: a second call asks it nothing again. All differences are less extraction, cluster by cluster, over the
clusters that both answered; 95 % intervals by bootstrap over clusters.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lm_mixup.collaborators import EMBEDDED_MODEL, Edge, make_embedder
from lm_mixup.distillers import trained
from lm_mixup.distillers.checks import CheckedDistiller
from lm_mixup.distillers.coverage import coverage
from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.distillers.grounding import grounding
from lm_mixup.distillers.lm import member_text
from lm_mixup.embed.cached import CachedEmbedder
from lm_mixup.evaluation import lengths
from lm_mixup.evaluation.baselines import BestSource
from lm_mixup.evaluation.bootstrap import ROWS, Bootstrap, Figure, Floats, as_json
from lm_mixup.evaluation.entrants import FALLBACK
from lm_mixup.evaluation.mixture import LIKE_LENGTH, remembering
from lm_mixup.evaluation.report import markdown, shown
from lm_mixup.evaluation.text import words_of
from lm_mixup.ledger import Ledger
from lm_mixup.llm.openvino_slots import OpenVINOSlots
from lm_mixup.ports import Distiller, Rater
from lm_mixup.raters.learned import LearnedRater, independent_judge
from lm_mixup.recipe import Recipe, load
from lm_mixup.records import Cluster, Distillate, Failure, Rating, rating_class
from lm_mixup.run_folder import Run
from lm_mixup.steps import Collaborators, Silent, Steps

BASE, CHECKED, ALONE, BEST = "extractive", "trained", "trained alone", "best source"
DECIMALS = {
    "rating": 2,
    "at length": 2,
    "like length": 2,
    "run's rater": 2,
    "passes": 3,
    "coverage": 3,
    "grounding": 3,
    "words": 1,
}
"""What is measured, with its decimals. rating: the independent judge's. at length: the same at the extractive
distillate's length. like length: over clusters where both differ by at most a tenth in words. run's rater: that of a
run with the embedded defaults; passes: the share that it puts into the class that a run keeps."""


@dataclass
class Made:
    """What one distiller made of the clusters, and the CPU-seconds that it took."""

    results: list[Distillate | Failure]
    cpu_s: float
    values: dict[str, Floats] = field(default_factory=dict)


def clusters_of(folder: Path, embedder: CachedEmbedder, rater: Rater) -> list[Cluster]:
    """All clusters of a run."""
    run = Run(folder, read_only=True)
    hands = Collaborators(embedder, rater, ExtractiveDistiller())
    steps = Steps(run, load(folder / "recipe.yaml"), hands, Silent())
    return [cluster for batch in steps.clusters() for cluster in batch]


def draw(clusters: Iterable[Cluster], count: int, seed: int) -> list[Cluster]:
    """At most ``count`` clusters, evenly over their sources as far as these go, at random by ``seed``."""
    sources: dict[str, list[Cluster]] = {}
    for cluster in clusters:
        sources.setdefault(cluster.source, []).append(cluster)
    for source, mine in sources.items():
        random.Random(f"{seed}:{source}").shuffle(mine)
    turns = max(map(len, sources.values()), default=0)
    ordered = [sources[name][turn] for turn in range(turns) for name in sorted(sources) if turn < len(sources[name])]
    return sorted(ordered[:count], key=lambda cluster: (cluster.source, cluster.id))


def distil(distiller: Distiller, clusters: Sequence[Cluster]) -> Made:
    began = time.process_time()
    results = distiller.distill(clusters)
    return Made(results, time.process_time() - began)


def measure(made: Made, clusters: Sequence[Cluster], judge: Rater, rater: Rater, line: float) -> None:
    """Fill in what needs this distiller alone; NaN where it failed."""
    values = {name: np.full(len(clusters), np.nan) for name in DECIMALS}
    there = [i for i, result in enumerate(made.results) if isinstance(result, Distillate)]
    kept = [result for result in made.results if isinstance(result, Distillate)]
    samples = [result.as_sample() for result in kept]
    for name, by in (("rating", judge), ("run's rater", rater)):
        for i, given in zip(there, by.rate(samples), strict=True):
            values[name][i] = given.value if isinstance(given, Rating) else np.nan
    for i, result in zip(there, kept, strict=True):
        texts, kind = [member_text(sample) for sample in clusters[i].samples], clusters[i].task_type
        values["coverage"][i] = coverage(result.answer, texts, kind)
        values["grounding"][i] = grounding(result.answer, texts, kind)
        values["words"][i] = len(words_of(result.answer))
        if np.isfinite(values["run's rater"][i]):
            values["passes"][i] = rating_class(values["run's rater"][i]) >= line
    made.values = values


def at_equal_length(made: Mapping[str, Made], clusters: Sequence[Cluster]) -> None:
    """Fill in the ratings as they would be at the extractive distillate's length."""
    kinds = [str(cluster.task_type) for cluster in clusters]
    ratings = np.array([one.values["rating"] for one in made.values()])
    words = np.array([one.values["words"] for one in made.values()])
    slope = lengths.slopes(ratings, words, kinds)
    base = np.nan_to_num(made[BASE].values["words"], nan=1.0)
    level = lengths.at_reference_length(ratings, words, base, kinds, slope)
    for one, values in zip(made.values(), level, strict=True):
        one.values["at length"] = values
        near = lengths.alike(one.values["words"], made[BASE].values["words"], LIKE_LENGTH)
        one.values["like length"] = np.where(near, one.values["rating"], np.nan)


def compare(made: Mapping[str, Made], draws: Bootstrap) -> dict[str, Any]:
    """Means, and differences less extraction, by distiller, measure and source."""
    told: dict[str, Any] = {}
    for name, one in made.items():
        means = {m: draws.figures(values) for m, values in one.values.items() if m != "like length"}
        less = {m: draws.differences(values, made[BASE].values[m]) for m, values in one.values.items()}
        told[name] = {"means": means} if name == BASE else {"means": means, "less extractive": less}
    return told


def reasons(results: Sequence[Distillate | Failure]) -> Counter[str]:
    """Why extraction was taken, figures left out; and how often the model was."""
    found: Counter[str] = Counter()
    for result in results:
        if isinstance(result, Failure):
            found[f"failed: {result.reason}"] += 1
        elif FALLBACK in result.think:
            found[re.sub(r"\d+%?", "N", result.think.rpartition(FALLBACK)[2].strip(" ]"))] += 1
        else:
            found["taken from the model"] += 1
    return found


def tables(told: Mapping[str, Any], scopes: Mapping[str, int], shares: Mapping[str, Mapping[str, float]]) -> str:
    """Everything as Markdown: a table of means and one of differences for each source, and for all."""
    parts = []
    for scope, count in scopes.items():
        parts.append(f"### {'all sources' if scope == ROWS else scope}, {count} clusters")
        heads = ["distiller", "answered", "taken from the model", *(m for m in DECIMALS if m != "like length")]
        lines = []
        for name, figures in told.items():
            means = {m: by_scope[scope] for m, by_scope in figures["means"].items()}
            taken = f"{shares[name][scope]:.0%}" if name in shares else ""
            cells = [shown(means[m], DECIMALS[m], interval=m == "rating") for m in means]
            lines.append([name, str(means["words"].rows), taken, *cells])
        parts.append(markdown(heads, lines))
        differences = [
            [f"{name} − {BASE}", *(_told(figures["less extractive"][m][scope], DECIMALS[m], m) for m in DECIMALS)]
            for name, figures in told.items()
            if name != BASE
        ]
        parts.append(markdown(["difference", *DECIMALS], differences))
    return "\n\n".join(parts)


def _told(figure: Figure, decimals: int, measure_: str) -> str:
    text = shown(figure, decimals, sign=True)
    text = f"**{text}**" if figure.low > 0 or figure.high < 0 else text
    return f"{text}, n={figure.rows}" if measure_ == "like length" else text


def show(clusters: Sequence[Cluster], made: Mapping[str, Made], count: int, seed: int) -> None:
    """Outputs beside their sources, for reading."""
    for i in sorted(random.Random(seed).sample(range(len(clusters)), min(count, len(clusters)))):
        cluster = clusters[i]
        print(f"\n===== {cluster.id} {cluster.source} {cluster.task_type}")
        for number, (sample, rating) in enumerate(zip(cluster.samples, cluster.ratings, strict=True), start=1):
            print(f"--- source {number} ({rating:.1f})\n{member_text(sample)}")
        for name in (BASE, ALONE, CHECKED):
            result = made[name].results[i]
            figures = {m: round(float(made[name].values[m][i]), 2) for m in ("rating", "coverage", "grounding")}
            text = result.answer if isinstance(result, Distillate) else f"{result.reason}: {result.detail}"
            print(f"--- {name} {figures}\n{text}")
        taken = made[CHECKED].results[i]
        print(taken.think if isinstance(taken, Distillate) else taken.reason)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder of lm-mixup run")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder that keeps answers and vectors")
    parser.add_argument("--model", default=trained.DEFAULT, help="a shipped name, or a folder of lm-mixup train")
    parser.add_argument("--clusters", type=int, default=300)
    parser.add_argument("--sources", nargs="*", help="of these sources alone")
    parser.add_argument("--best-from", type=float, default=0.0, help="clusters whose best row is rated this or better")
    parser.add_argument("--alike-from", type=float, default=0.0, help="clusters whose rows share so many words (0–1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", type=int, help="engines of one thread (default: one a core)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N clusters with what was made of them")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    edge = Edge.of(os.environ)
    with Run(args.out) as run:
        (args.out / "recipe.yaml").touch()
        recipe = Recipe.model_validate({"embed": {"model": EMBEDDED_MODEL}})
        embedder = remembering(make_embedder(recipe, edge), run)
        judge, rater = independent_judge(embedder), LearnedRater(embedder=embedder, head=recipe.rate.head)
        model = trained.load(args.model)
        ledger = run.resources.enter_context(Ledger(args.out / "ledger.sqlite"))
        path = trained.runnable(model, cache_dir=edge.cache_dir)
        llm = OpenVINOSlots(path, slots=trained.SLOTS, lookup=trained.LOOKUP, engines=args.engines, ledger=ledger)
        checked = trained.checked(model, llm, least_rating=args.best_from, least_alike=args.alike_from)
        known = clusters_of(args.run, embedder, rater)
        if args.sources:
            known = [cluster for cluster in known if cluster.source in args.sources]
        inside = in_range(checked, known)
        clusters = draw(inside, args.clusters, args.seed)
        made = {BASE: distil(ExtractiveDistiller(), clusters), ALONE: distil(trained.distiller(model, llm), clusters)}
        made[CHECKED] = distil(checked, clusters)  # its model's answers come from the ledger
        made[BEST] = distil(BestSource(), clusters)
        for one in made.values():
            measure(one, clusters, judge, rater, recipe.curate.high_rating)
    at_equal_length(made, clusters)
    sources = [cluster.source for cluster in clusters]
    told = compare(made, Bootstrap([cluster.id for cluster in clusters], sources, seed=args.seed))
    scopes = {**dict(sorted(Counter(sources).items())), ROWS: len(sources)}
    shares = {CHECKED: taken_by_source(made[CHECKED].results, sources)}
    about = {
        "model": args.model,
        "clusters": len(known),
        "in_range": dict(sorted(Counter(cluster.source for cluster in inside).items())),
        "drawn": len(clusters),
        "cpu_s": {name: round(one.cpu_s, 2) for name, one in made.items()},
        "why": dict(reasons(made[CHECKED].results).most_common()),
    }
    if args.json:
        plain = {name: {part: {m: as_json(f) for m, f in by.items()} for part, by in figures.items()}
                 for name, figures in told.items()}  # fmt: skip
        print(json.dumps({**about, "taken_from_the_model": shares[CHECKED], "figures": plain}))
    else:
        print(*(f"- {name}: {value}" for name, value in about.items()), "", tables(told, scopes, shares), sep="\n")
    if args.show:
        show(clusters, made, args.show, args.seed)


def in_range(checked: CheckedDistiller, clusters: Sequence[Cluster]) -> list[Cluster]:
    """The clusters that the model would be asked about."""
    extracted = ExtractiveDistiller().distill(clusters)
    pairs = zip(clusters, extracted, strict=True)
    return [cluster for cluster, other in pairs if not checked.outside(cluster, other)]


def taken_by_source(results: Sequence[Distillate | Failure], sources: Sequence[str]) -> dict[str, float]:
    """The share of clusters whose distillate is the model's own, by source, and of all."""
    own = [isinstance(result, Distillate) and FALLBACK not in result.think for result in results]
    shares = {s: float(np.mean([o for o, mine in zip(own, sources, strict=True) if mine == s])) for s in set(sources)}
    return {**dict(sorted(shares.items())), ROWS: float(np.mean(own)) if own else float("nan")}


if __name__ == "__main__":
    main()
