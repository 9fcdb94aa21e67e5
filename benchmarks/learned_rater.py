"""The learned rater's figures, and the training of the weights that the package ships.

    python -m benchmarks.learned_rater                    # the figures, from LM_MIXUP_DATA (default ../shared/data)
    python -m benchmarks.learned_rater --inputs           # also: which texts to embed
    python -m benchmarks.learned_rater --write            # also: weights and card into the package
    python -m benchmarks.learned_rater --json             # one JSON object at the end

Trained on the ratings of 4,000 Dolly rows by three language models. Sound texts without ratings (OpenAssistant,
Wikipedia) serve the damage model alone. Nothing of ``benchmarks/`` in the data is read.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gzip
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lm_mixup import pool
from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.embed.minilm import MiniLMEmbedder
from lm_mixup.ports import Embedder
from lm_mixup.raters.damage import DROPS, damage
from lm_mixup.raters.features import FEATURES, matrix
from lm_mixup.raters.learned import SHIPPED, Damage, Floats, Head, LearnedRater, Weights
from lm_mixup.raters.training import (
    DAMAGE_FEATURES,
    DEFAULTS,
    Report,
    cross_validate,
    fit_damage,
    fit_head,
    folds_of,
    spearman,
    train,
)
from lm_mixup.recipe import Recipe
from lm_mixup.records import Message, Rating, Sample, rating_class

RATERS = ("gpt-4o-mini", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3")
SEED = 0
LEARNED_DAMAGE = ("shuffle", "loop", "stutter", "markup", "garble", "refusal", "echo")
"""The kinds that the damage model learns. Not ``cut`` (a third of the sound Dolly rows lack their full stop), ``typos``
and ``other_answer``: nothing in the features tells them from sound text."""
DAMAGE_TEST_ROWS = 400
POOL_TEST_ROWS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write weights and card into the package")
    parser.add_argument("--inputs", action="store_true", help="compare what to embed: joint text, parts, or all")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--model", type=Path, help="folder of all-MiniLM-L6-v2 (default: found by the model resolver)")
    parser.add_argument("--cache", type=Path, help="folder that keeps vectors between calls")
    args = parser.parse_args()
    data = Path(os.environ.get("LM_MIXUP_DATA", "../shared/data"))
    embedder: Embedder = MiniLMEmbedder(args.model) if args.model else make_embedder(Recipe(), Edge.of(os.environ))
    vectors_of = Vectorizer(embedder, args.cache)

    samples, ratings = load_rated(data)
    vectors, features = vectors_of([s.text for s in samples]), matrix(samples)
    sound = [*samples, *load_sound(data)]
    model = train_damage(sound, LEARNED_DAMAGE)
    weights, reports = train(vectors, features, ratings, embedders=accepted(embedder.key), damage=model)

    results: dict[str, Any] = {"heads": {name: describe(report) for name, report in reports.items()}}
    print_heads(reports)
    results["damage"] = damage_table(samples, sound, vectors, features, ratings["gpt-4o-mini"], vectors_of)
    head = weights.heads["gpt-4o-mini"]
    results["sound_loss"] = false_alarms(sound, model)
    results["transfer"] = transfer(data, weights, vectors_of)
    results["pools"] = pool_shares(data, head, model, vectors_of)
    if args.inputs:
        results["inputs"] = compare_inputs(samples, vectors, features, ratings, vectors_of)
    if args.model:
        results["precision"] = precision_gap(args.model, samples, vectors, features, head)
    if args.write:
        weights = write(weights, results, data, embedder.key)
    results["rows_a_second"] = speed(samples, vectors, embedder)
    if args.json:
        print(json.dumps(results, default=str))


class Vectorizer:
    """The embedder with a cache on disk, by the hash of all texts of a call."""

    def __init__(self, embedder: Embedder, folder: Path | None) -> None:
        self.embedder, self.folder = embedder, folder

    def __call__(self, texts: Sequence[str]) -> Floats:
        """(n_texts, dim) of these texts."""
        if self.folder is None:
            return self.embedder.embed(texts).astype(np.float64)
        whole = hashlib.sha256(self.embedder.key.encode())
        for text in texts:
            whole.update(hashlib.sha256(text.encode()).digest())
        path = self.folder / f"{whole.hexdigest()[:24]}.npy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, self.embedder.embed(texts))
        return np.load(path, allow_pickle=False).astype(np.float64)


def accepted(key: str) -> tuple[str, ...]:
    """The embedders whose vectors these weights take: the same model in either precision, any number of windows.

    Rated rows fit into one window, so how many windows a long text gets played no part in training.
    """
    model, _, rest = key.partition("-bf16-" if "-bf16-" in key else "-f32-")
    window, _, version = rest.partition("x")
    return tuple(f"{model}-{precision}-{window}x*-{version.split('-')[-1]}" for precision in ("bf16", "f32"))


def read_pool(path: Path) -> list[Sample]:
    return [row.sample for row in pool.read([str(path)]) if isinstance(row, pool.PoolRow)]


def load_rated(data: Path) -> tuple[list[Sample], dict[str, Floats]]:
    """The rated Dolly rows and their ratings by each head's name."""
    samples = read_pool(data / "pools" / "dolly.jsonl")
    rows = {}
    for line in (data / "ratings" / "dolly.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["id"]] = [row[name] for name in RATERS]
    table = np.array([rows[s.id] for s in samples], dtype=np.float64)
    ratings = {name: table[:, column] for column, name in enumerate(RATERS)}
    ratings["mean"] = table.mean(axis=1)
    # two of the three: a reward learned from it leaves gpt-4o-mini as an independent judge
    ratings["llama+mistral"] = table[:, 1:].mean(axis=1)
    return samples, ratings


def load_sound(data: Path) -> list[Sample]:
    """Texts by people, in several languages and with code, that nothing is wrong with; without ratings."""
    talks = [s for name in ("oasst1", "oasst1_other_languages") for s in read_pool(data / "pools" / f"{name}.jsonl")]
    with gzip.open(data / "wikipedia" / "paragraphs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    paragraphs = [
        Sample(
            f"wikipedia-{i}",
            (Message("user", f"Write a paragraph about {row['title'] or 'this'}."), Message("assistant", row["text"])),
            "wikipedia",
        )
        for i, row in enumerate(rows[:1500])
    ]
    return [*talks, *paragraphs]


def damaged(sound: Sequence[Sample], kinds: Sequence[str], copies: int) -> tuple[list[Sample], list[str]]:
    """``copies`` damaged copies of each sample, the kinds in turn."""
    order = np.random.default_rng(SEED).permutation(len(sound))
    out: list[Sample] = []
    names: list[str] = []
    for turn, at in enumerate(order):
        other = sound[order[(turn + 1) % len(order)]]
        for copy in range(copies):
            kind = kinds[(turn + copy * 3) % len(kinds)]
            bad = damage(sound[at], kind, seed=SEED, other=other)
            if bad is not None:
                out.append(bad)
                names.append(kind)
    return out, names


def train_damage(sound: Sequence[Sample], kinds: Sequence[str]) -> Damage:
    bad, names = damaged(sound, kinds, copies=2)
    features = matrix([*sound, *bad])
    return fit_damage(features, np.array([0.0] * len(sound) + [DROPS[name] for name in names]))


def describe(report: Report) -> dict[str, Any]:
    def interval(value: Any) -> list[float]:
        return [round(v, 4) for v in dataclasses.astuple(value)]

    return {
        "rows": report.rows,
        "spearman": interval(report.spearman),
        "length_alone": interval(report.length),
        "beyond_length": interval(report.beyond_length),
        "high_auc": round(report.high_auc, 4),
        "class_shares": np.round(report.shares[:, 0], 4).tolist(),
        "class_shares_of_rater": np.round(report.shares[:, 1], 4).tolist(),
        "largest_share_gap": round(float(np.abs(report.shares[:, 0] - report.shares[:, 1]).max()), 4),
    }


def print_heads(reports: Mapping[str, Report]) -> None:
    print("\nFive-fold cross-validation over 4,000 Dolly rows, seed 0, nested; 95 % intervals by bootstrap\n")
    print(f"{'head':26}{'Spearman':24}{'length alone':24}{'beyond length':24}{'AUC high':>9}{'share gap':>11}")
    for name, r in reports.items():
        gap = np.abs(r.shares[:, 0] - r.shares[:, 1]).max()
        print(f"{name:26}{r.spearman!s:24}{r.length!s:24}{r.beyond_length!s:24}{r.high_auc:9.3f}{gap:10.1%}")
    for name in ("gpt-4o-mini", "mean"):
        print(f"\nclass shares, {name}: 0 to 5, head / rater")
        print("   ".join(f"{own:.1%}/{theirs:.1%}" for own, theirs in reports[name].shares))


def damage_table(
    samples: Sequence[Sample],
    sound: Sequence[Sample],
    vectors: Floats,
    features: Floats,
    ratings: Floats,
    vectors_of: Vectorizer,
) -> dict[str, Any]:
    """How unseen rows fall when damaged: merit alone, with damage, and with the kind left out of training."""
    fold = folds_of(len(samples), len(samples) // DAMAGE_TEST_ROWS, SEED)
    test, rest = np.flatnonzero(fold == 0), np.flatnonzero(fold != 0)
    unseen = {samples[i].id for i in test}
    learned_from = [s for s in sound if s.id not in unseen]
    head = fit_head(vectors[rest], features[rest], ratings[rest])
    full = train_damage(learned_from, LEARNED_DAMAGE)
    merit = np.array([head.merit(vectors[i], features[i]) for i in test])
    before = np.maximum(0, merit - np.array([full.loss(features[i]) for i in test]))
    out = {}
    print(f"\nDamaged copies of {len(test)} unseen rows (head gpt-4o-mini): share rated lower, mean change\n")
    print(f"{'kind':14}{'rows':>5}{'merit alone':>18}{'with damage':>18}{'kind unseen':>18}")
    for kind in DROPS:
        pairs = [(k, damage(samples[i], kind, seed=SEED, other=samples[rest[k]])) for k, i in enumerate(test)]
        kept = [(k, bad) for k, bad in pairs if bad is not None]
        at = np.array([k for k, _ in kept])
        bad = [copy for _, copy in kept]
        bad_vectors, bad_features = vectors_of([s.text for s in bad]), matrix(bad)
        bad_merit = np.array([head.merit(v, f) for v, f in zip(bad_vectors, bad_features, strict=True)])
        others = [k for k in LEARNED_DAMAGE if k != kind]
        blind = full if kind not in LEARNED_DAMAGE else train_damage(learned_from, others)
        row = {"rows": len(bad), "merit": _fall(merit[at], bad_merit)}
        for name, model in (("full", full), ("unseen", blind)):
            after = np.maximum(0, bad_merit - np.array([model.loss(f) for f in bad_features]))
            row[name] = _fall(before[at], after)
        out[kind] = row
        cells = "".join(f"{row[n]['lower']:10.0%} {row[n]['change']:+7.2f}" for n in ("merit", "full", "unseen"))
        print(f"{kind:14}{len(bad):5}{cells}")
    return out


def _fall(before: Floats, after: Floats) -> dict[str, float]:
    # a row that is at 0 already cannot fall
    can = before > 0.25
    change = (after - before)[can]
    return {"lower": round(float((change < 0).mean()), 4), "change": round(float(change.mean()), 4)}


def false_alarms(sound: Sequence[Sample], model: Damage) -> dict[str, Any]:
    losses = np.array([model.loss(f) for f in matrix(sound)])
    sources = np.array([s.source for s in sound])
    print("\nWhat sound texts lose to the damage model\n")
    out = {}
    for source in dict.fromkeys(sources.tolist()):
        part = losses[sources == source]
        out[source] = {
            "rows": len(part),
            "mean": round(float(part.mean()), 4),
            "touched": round(float((part > 0).mean()), 4),
        }
        print(f"{source:26}{len(part):6} rows, mean {part.mean():.3f} points, {np.mean(part > 0):.1%} lose any")
    return out


def transfer(data: Path, weights: Weights, vectors_of: Vectorizer) -> dict[str, Any]:
    """Against GPT-4 on Vicuna and MT-bench answers, rated for task-specific rubrics: another pool, another question."""
    with gzip.open(data / "ratings" / "prometheus_three_draws.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    samples = [
        Sample(f"p{i}", (Message("user", r["instruction"]), Message("assistant", r["output"])))
        for i, r in enumerate(rows)
    ]
    gpt4 = np.array([np.mean(r["gpt4_scores_1_5"]) for r in rows])
    prompts = [f"{r['bench']}{r['idx']}" for r in rows]
    vectors, features = vectors_of([s.text for s in samples]), matrix(samples)
    print("\nTransfer to 640 Vicuna and MT-bench answers rated by GPT-4: Spearman over all, within prompts\n")
    out = {}
    own = {name: rate_all(head, weights.damage, vectors, features) for name, head in weights.heads.items()}
    for name, values in {**own, "log length": features[:, 0]}.items():
        out[name] = [
            round(spearman(a, b), 4) for a, b in ((values, gpt4), (_within(values, prompts), _within(gpt4, prompts)))
        ]
        print(f"{name:26}{out[name][0]:.3f}  {out[name][1]:.3f}")
    return out


def rate_all(head: Head, model: Damage | None, vectors: Floats, features: Floats) -> Floats:
    lost = [model.loss(f) if model else 0.0 for f in features]
    return np.array([max(0.0, head.merit(v, f) - d) for v, f, d in zip(vectors, features, lost, strict=True)])


def _within(values: Floats, groups: Sequence[str]) -> Floats:
    names, index = np.unique(np.array(groups), return_inverse=True)
    return values - (np.bincount(index, values, len(names)) / np.bincount(index, minlength=len(names)))[index]


def pool_shares(data: Path, head: Head, model: Damage, vectors_of: Vectorizer) -> dict[str, Any]:
    samples = read_pool(data / "pools" / "mixed_pool.jsonl.gz")
    by_source: dict[str, list[Sample]] = {}
    for sample in samples:
        by_source.setdefault(sample.source, []).append(sample)
    print(f"\nClass shares 0 to 5 on up to {POOL_TEST_ROWS} rows of each source (head gpt-4o-mini)\n")
    out = {}
    for source, rows in sorted(by_source.items()):
        part = rows[:POOL_TEST_ROWS]
        values = rate_all(head, model, vectors_of([s.text for s in part]), matrix(part))
        shares = np.bincount([rating_class(v) for v in values], minlength=6) / len(values)
        out[source] = np.round(shares, 4).tolist()
        print(f"{source:26}" + "".join(f"{share:8.1%}" for share in shares))
    return out


def compare_inputs(
    samples: Sequence[Sample], joint: Floats, features: Floats, ratings: Mapping[str, Floats], vectors_of: Vectorizer
) -> dict[str, Any]:
    prompts, completions = (vectors_of([getattr(s, part) for s in samples]) for part in ("prompt", "completion"))
    nothing = np.zeros((len(samples), 1))
    choices = {
        "features alone": nothing,
        "joint text": joint,
        "prompt + completion": np.hstack([prompts, completions]),
        "all three": np.hstack([joint, prompts, completions]),
    }
    print("\nWhat to embed: Spearman, cross-validated as above\n")
    out = {}
    for name, inputs in choices.items():
        found = [
            cross_validate(inputs, features, ratings[head], draws=200).spearman for head in ("gpt-4o-mini", "mean")
        ]
        out[name] = [dataclasses.astuple(value) for value in found]
        print(f"{name:26}gpt-4o-mini {found[0]}   mean {found[1]}")
    bare = cross_validate(joint, features * 0.0, ratings["gpt-4o-mini"], draws=200).spearman
    out["joint text, no features"] = [dataclasses.astuple(bare)]
    print(f"{'joint text, no features':26}gpt-4o-mini {bare}")
    return out


def precision_gap(
    folder: Path, samples: Sequence[Sample], vectors: Floats, features: Floats, head: Head
) -> list[float]:
    """How far ratings move when the vectors are computed in float32: mean and largest change over 400 rows."""
    part = slice(0, POOL_TEST_ROWS)
    other = MiniLMEmbedder(folder, precision="f32").embed([s.text for s in samples[part]]).astype(np.float64)
    pairs = zip(vectors[part], other, features[part], strict=True)
    moved = np.abs([head.merit(a, f) - head.merit(b, f) for a, b, f in pairs])
    print(f"\nfloat32 in place of bfloat16 vectors: mean change {moved.mean():.4f}, largest {moved.max():.4f}")
    return [round(float(moved.mean()), 5), round(float(moved.max()), 5)]


def write(weights: Weights, results: Mapping[str, Any], data: Path, key: str) -> Weights:
    files = ("pools/dolly.jsonl", "ratings/dolly.jsonl")
    card = {
        "name": SHIPPED.stem,
        "what": "ridge heads on MiniLM vectors and surface features, and a damage model; see docs/raters/learned.md",
        "trained_on": "4,000 rows of Dolly 15k (CC BY-SA 3.0) with ratings by three language models, released with DS2",
        "data_sha256": {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in files},
        "damage_kinds": list(LEARNED_DAMAGE),
        "damage_features": list(DAMAGE_FEATURES),
        "drops": {kind: DROPS[kind] for kind in LEARNED_DAMAGE},
        "settings": dataclasses.asdict(DEFAULTS),
        "trained_with_vectors_of": key,
        "command": "python -m benchmarks.learned_rater --inputs --write",
        "date": datetime.date.today().isoformat(),
        "licence": "Apache-2.0",
        "results": dict(results),
    }
    rounded = round_weights(dataclasses.replace(weights, card=card))
    rounded.save(SHIPPED)
    print(f"\nwrote {SHIPPED.name} ({SHIPPED.stat().st_size / 1024:.0f} KiB), digest {rounded.digest()}")
    return rounded


def round_weights(weights: Weights) -> Weights:
    """The weights to seven digits: another BLAS's last bits do not make other weights."""

    def near(value: Any) -> Any:
        numbers = np.array([float(f"{x:.7g}") for x in np.ravel(value)]).reshape(np.shape(value))
        return float(numbers) if numbers.ndim == 0 else numbers

    def all_near(thing: Any) -> Any:
        return dataclasses.replace(thing, **{f.name: near(getattr(thing, f.name)) for f in dataclasses.fields(thing)})

    heads = {name: all_near(head) for name, head in weights.heads.items()}
    return dataclasses.replace(weights, heads=heads, damage=all_near(weights.damage))


def speed(samples: Sequence[Sample], vectors: Floats, embedder: Embedder) -> float:
    """Rows a second on one core, embedding left out, features included."""
    rater = LearnedRater(embedder=embedder)
    # fresh copies: a sample remembers its prompt and text
    rows = [Sample(s.id, s.messages) for s in samples]
    narrow = vectors.astype(np.float32)
    begin = time.process_time()
    rated = rater.rate_with_vectors(rows, narrow)
    rate = len(rows) / (time.process_time() - begin)
    assert all(isinstance(r, Rating) for r in rated)
    print(f"\n{rate:,.0f} rows a CPU-second besides embedding ({len(FEATURES)} features, one thread)")
    return round(rate)


if __name__ == "__main__":
    main()
