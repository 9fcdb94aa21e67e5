"""The rater behind the reward and the judge that watches it: training, and how independent the two are.

    python -m benchmarks.reward_judge                     # the figures, from LM_MIXUP_DATA (default ../shared/data)
    python -m benchmarks.reward_judge --write             # also: weights and cards into the package
    python -m benchmarks.reward_judge --mixture DIR       # also: both on targets and variants of a MIXTURE
    python -m benchmarks.reward_judge --json              # one JSON object at the end

Of the 4,000 Dolly rows with ratings by three language models, the judge learns from one half what gpt-4o-mini said, the
reward's rater from three tenths what the two others said on average, and two tenths are left to test both. No prompt
stands in two parts. Each has a damage model of its own, made from its own rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learned_rater import (
    LEARNED_DAMAGE,
    SEED,
    Vectorizer,
    accepted,
    load_rated,
    rate_all,
    round_weights,
    train_damage,
)
from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rows import Row
from lm_mixup.raters.features import FEATURES, matrix
from lm_mixup.raters.learned import JUDGE, REWARD, Floats, LearnedRater, Weights
from lm_mixup.raters.training import DEFAULTS, ranks, spearman, train
from lm_mixup.recipe import Recipe
from lm_mixup.records import Rating, Sample, TaskType
from lm_mixup.rewards import answer_sample

SHARES = {"judge": 0.5, "reward": 0.3, "test": 0.2}
HEADS = {"judge": "gpt-4o-mini", "reward": "llama+mistral"}
DRAWS = 1000
PER_TYPE = 200
"""So many targets of each task type of a MIXTURE, and one variant of each, are rated by both."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write weights and cards into the package")
    parser.add_argument("--mixture", type=Path, help="a MIXTURE: compare both on its texts")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--cache", type=Path, help="folder that keeps vectors between calls")
    args = parser.parse_args()
    data = Path(os.environ.get("LM_MIXUP_DATA", "../shared/data"))
    embedder = make_embedder(Recipe(), Edge.of(os.environ))
    vectors_of = Vectorizer(embedder, args.cache)

    samples, ratings = load_rated(data)
    vectors, features = vectors_of([s.text for s in samples]), matrix(samples)
    parts = parted(samples)
    made = {name: learn(name, parts[name], samples, vectors, features, ratings, embedder.key) for name in HEADS}
    test = parts["test"]
    rated = {n: rate_all(w.heads[HEADS[n]], w.damage, vectors[test], features[test]) for n, w in made.items()}
    length = features[test, list(FEATURES).index("completion_words")]
    nearest = {n: float((vectors[test] @ vectors[parts[n]].T).max(axis=1).mean()) for n in HEADS}
    results: dict[str, Any] = {"rows": {name: len(rows) for name, rows in parts.items()}, "nearest": nearest}
    results |= held_out(rated, length, {name: ratings[name][test] for name in ("gpt-4o-mini", "llama+mistral")})
    if args.write:
        for name, weights in made.items():
            write(name, weights, parts, samples, results, data, embedder.key)
    if args.mixture:
        raters = {
            n: LearnedRater(embedder=embedder, head=HEADS[n], weights=p)
            for n, p in (("judge", JUDGE), ("reward", REWARD))
        }
        results["mixture"] = on_mixture(load_mixture(args.mixture), raters, vectors_of)
    if args.json:
        print(json.dumps(results))


def parted(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """The rows of each part, in order: whole prompts, drawn by the seed."""
    prompts: dict[str, int] = {}
    group = np.array([prompts.setdefault(sample.prompt.casefold(), len(prompts)) for sample in samples])
    place = np.empty(len(prompts))
    place[np.random.default_rng(SEED).permutation(len(prompts))] = np.arange(len(prompts)) / len(prompts)
    edges = np.cumsum([0.0, *SHARES.values()])
    return {
        name: np.flatnonzero((low <= place[group]) & (place[group] < high))
        for name, low, high in zip(SHARES, edges[:-1], edges[1:], strict=True)
    }


def learn(
    name: str,
    rows: np.ndarray,
    samples: Sequence[Sample],
    vectors: Floats,
    features: Floats,
    ratings: dict[str, Floats],
    key: str,
) -> Weights:
    damage = train_damage([samples[i] for i in rows], LEARNED_DAMAGE)
    head = HEADS[name]
    weights, reports = train(
        vectors[rows], features[rows], {head: ratings[head][rows]}, embedders=accepted(key), damage=damage
    )
    print(f"{name:8}{head:16}{len(rows):6} rows, five-fold within them: {reports[head].spearman}")
    return round_weights(weights)


def held_out(rated: dict[str, Floats], length: Floats, theirs: dict[str, Floats]) -> dict[str, Any]:
    """What both say of rows that neither has seen."""
    gpt, two = theirs["gpt-4o-mini"], theirs["llama+mistral"]
    pairs = {
        "judge, gpt-4o-mini": (rated["judge"], gpt),
        "judge, gpt-4o-mini, beyond length": (rated["judge"], gpt, length),
        "reward, gpt-4o-mini": (rated["reward"], gpt),
        "reward, gpt-4o-mini, beyond length": (rated["reward"], gpt, length),
        "reward, llama+mistral": (rated["reward"], two),
        "reward, llama+mistral, beyond length": (rated["reward"], two, length),
        "length, gpt-4o-mini": (length, gpt),
        "length, llama+mistral": (length, two),
        "gpt-4o-mini, llama+mistral": (gpt, two),
        "judge, reward": (rated["judge"], rated["reward"]),
        "judge, reward, beyond length": (rated["judge"], rated["reward"], length),
        "judge, length": (rated["judge"], length),
        "reward, length": (rated["reward"], length),
    }
    draws = np.random.default_rng(SEED).integers(len(length), size=(DRAWS, len(length)))
    out: dict[str, Any] = {}
    print(f"\nSpearman on {len(length)} rows that neither has seen, 95 % bootstrap intervals\n")
    for name, columns in pairs.items():
        spread = np.quantile([partial(*(c[i] for c in columns)) for i in draws], [0.025, 0.975])
        out[name] = [round(float(v), 4) for v in (partial(*columns), *spread)]
        print(f"{name:40}{out[name][0]:7.3f} [{out[name][1]:.3f}, {out[name][2]:.3f}]")
    return {"held_out": out}


def partial(a: Floats, b: Floats, given: Floats | None = None) -> float:
    """Rank correlation; with ``given`` the partial one."""
    if given is None:
        return spearman(a, b)
    x, y, z = (ranks(column) for column in (a, b, given))
    table = np.column_stack([z, np.ones(len(z))])
    rest = [column - table @ np.linalg.lstsq(table, column, rcond=None)[0] for column in (x, y)]
    scale = np.sqrt((rest[0] @ rest[0]) * (rest[1] @ rest[1]))
    return float(rest[0] @ rest[1] / scale) if scale > 0 else 0.0


def on_mixture(rows: Sequence[Row], raters: dict[str, LearnedRater], vectors_of: Vectorizer) -> dict[str, Any]:
    """Both raters on targets and variants: how they go together, with length, and whom they put higher."""
    out: dict[str, Any] = {}
    print(f"\nOn MIXTURE's test part: {PER_TYPE} targets a type at most, a variant each (Spearman)\n")
    print(f"{'type':6}{'texts':>6}{'judge~reward':>14}{'given length':>14}{'judge~length':>14}{'reward~length':>15}"
          f"{'target higher: judge':>22}{'reward':>8}{'share >= 3.5: judge':>22}{'reward':>8}")  # fmt: skip
    for kind in TaskType:
        chosen = [row for row in rows if row.task_type == kind and row.split == "test" and row.variants][:PER_TYPE]
        texts = [row.output for row in chosen] + [row.variants[0] for row in chosen]
        samples = [answer_sample(str(i), kind, text) for i, text in enumerate(texts)]
        vectors = vectors_of([sample.text for sample in samples]).astype(np.float32)
        said = {n: values_of(rater.rate_with_vectors(samples, vectors)) for n, rater in raters.items()}
        length = np.log1p([len(text.split()) for text in texts])
        half = len(chosen)
        figures = {
            "texts": len(texts),
            "judge, reward": partial(said["judge"], said["reward"]),
            "judge, reward, beyond length": partial(said["judge"], said["reward"], length),
            "judge, length": partial(said["judge"], length),
            "reward, length": partial(said["reward"], length),
            **{f"target higher, {n}": float((said[n][:half] > said[n][half:]).mean()) for n in said},
            **{f"high, {n}": float((said[n] >= 3.5).mean()) for n in said},
        }
        out[str(kind)] = {name: round(value, 4) for name, value in figures.items()}
        f = list(figures.values())
        print(
            f"{kind:6}{f[0]:6}{f[1]:14.3f}{f[2]:14.3f}{f[3]:14.3f}{f[4]:15.3f}{f[5]:22.1%}{f[6]:8.1%}{f[7]:22.1%}{f[8]:8.1%}"
        )
    return out


def values_of(rated: Sequence[Any]) -> Floats:
    assert all(isinstance(one, Rating) for one in rated)
    return np.array([one.value for one in rated])


def write(
    name: str,
    weights: Weights,
    parts: dict[str, np.ndarray],
    samples: Sequence[Sample],
    results: dict[str, Any],
    data: Path,
    key: str,
) -> None:
    path = {"judge": JUDGE, "reward": REWARD}[name]
    files = ("pools/dolly.jsonl", "ratings/dolly.jsonl")
    ids = {part: "\n".join(samples[i].id for i in rows) for part, rows in parts.items()}
    card = {
        "name": path.stem,
        "what": f"a ridge head that imitates {HEADS[name]}, and a damage model; see docs/rewards.md",
        "trained_on": f"{len(parts[name])} of 4,000 rows of Dolly 15k (CC BY-SA 3.0), released with DS2; "
        f"the other rater's {len(parts['reward' if name == 'judge' else 'judge'])} and "
        f"{len(parts['test'])} for the test are not among them, nor are their prompts",
        "rows_sha256": {part: hashlib.sha256(text.encode()).hexdigest() for part, text in ids.items()},
        "data_sha256": {file: hashlib.sha256((data / file).read_bytes()).hexdigest() for file in files},
        "damage_kinds": list(LEARNED_DAMAGE),
        "settings": dataclasses.asdict(DEFAULTS),
        "trained_with_vectors_of": key,
        "command": "python -m benchmarks.reward_judge --write",
        "date": datetime.date.today().isoformat(),
        "licence": "Apache-2.0",
        "results": results,
    }
    made = dataclasses.replace(weights, card=card)
    made.save(path)
    print(f"wrote {path.name} ({path.stat().st_size / 1024:.0f} KiB), digest {made.digest()}")


if __name__ == "__main__":
    main()
