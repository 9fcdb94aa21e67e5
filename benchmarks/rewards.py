"""The rewards: what they cost, and what each of them sees.

    python -m benchmarks.rewards                      # the format reward on 100 KB of the worst, rollouts a second
    python -m benchmarks.rewards --mixture DIR        # also: what each reward sees, on MIXTURE's test part
    python -m benchmarks.rewards --json               # one JSON object at the end

With a MIXTURE, its SFT part makes the rated library, and each target of the test part is set against copies with one
fault each, and against its own variants.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learned_rater import Vectorizer
from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.distillers.facts import Fact
from lm_mixup.distillers.support import Sources, claims
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rows import Row
from lm_mixup.ports import Embedder, Vectors
from lm_mixup.prompts.compact import completion
from lm_mixup.raters.learned import independent_judge, reward_rater
from lm_mixup.raters.training import spearman
from lm_mixup.recipe import Recipe
from lm_mixup.records import Rating, TaskType
from lm_mixup.rewards import Rollout, Scored, Scorer, Weights, format_reward, mixture_library

SIZE = 100_000
REPEATS = 3
UNITS = [
    "<think>", "</think>", "<answer>", "</answer>", "<answer></answer>", "<answer>a</answer>", "< / answer >", "<   ",
    "<", "\n", " \n", " ", "\u2028", "x\n", "Answer: ", "answer ", "Answer: True\n", "the correct answer is\n", "Q:",
    "Q: a\n", "A) x\n", "A) x\nB) y\n", "A) \n", "A)     ", "\nA:", "C: \nS: ", "a", "(A", "答",
]  # fmt: skip
FRAMES = [
    ("", ""),
    ("<think>", "</think><answer>Q: a\nA: b</answer>"),
    ("<think></think><answer>", "</answer>"),
    ("<think></think><answer>x\nanswer", "\nx</answer>"),
    ("<think></think><answer>Q: x\nA) a\nB) b\nanswer", "\nb</answer>"),
    ("<think></think><answer>Q: x\n", "\nA) a\nB) b\nAnswer: A) a</answer>"),
    ("<think></think><answer>Q: x\nA) a\nB)", "\nAnswer: B</answer>"),
    ("<answer>x\nAnswer: true", ".\n</answer>"),
]
ROLLOUTS = 32
PER_TYPE = 60
ALL = Weights(0.2, 0.2, 0.2, 0.2, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixture", type=Path, help="a MIXTURE")
    parser.add_argument("--cache", type=Path, help="folder that keeps vectors between calls")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    args = parser.parse_args()
    results: dict[str, Any] = {"format_ms": format_cost()}
    if args.mixture:
        embedder = Cached(make_embedder(Recipe(), Edge.of(os.environ)), args.cache)
        rows = load_mixture(args.mixture)
        library = mixture_library(rows, embedder, reward_rater(embedder))
        test = {t: [r for r in rows if r.split == "test" and r.task_type == t][:PER_TYPE] for t in TaskType}
        results["score"] = score_cost(Scorer(embedder.inner, library, ALL), [r for part in test.values() for r in part])
        results["claims"] = claims_seen(test)
        results["faults"] = faults_seen(test, embedder, library)
    if args.json:
        print(json.dumps(results))


def format_cost() -> dict[str, float]:
    """The format reward's worst time a task type, CPU-milliseconds, best of three each."""
    out = {}
    for kind in TaskType:
        worst, where = 0.0, ""
        for unit in UNITS:
            for head, tail in FRAMES:
                text = head + unit * (SIZE // len(unit)) + tail
                took = min(timed(lambda t=text, k=kind: format_reward(t, k)) for _ in range(REPEATS))
                if took > worst:
                    worst, where = took, f"{head[-24:]!r} + {unit!r} × {SIZE // len(unit)}"
        out[str(kind)] = round(worst * 1e3, 2)
        print(f"format, 100 KB of the worst, {kind:5} {worst * 1e3:6.2f} ms   {where}")
    return out


def timed(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


class Cached:
    """The embedder with a cache on disk, a call a file."""

    def __init__(self, inner: Embedder, folder: Path | None) -> None:
        self.inner, self.key, self.dim = inner, inner.key, inner.dim
        self._vectors = Vectorizer(inner, folder)

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._vectors(texts).astype(np.float32)


def score_cost(scorer: Scorer, rows: Sequence[Row]) -> dict[str, float]:
    """CPU-seconds to score 32 rollouts, all components, embedding with it; new answers in known groups of four."""
    chosen = random.Random(0).sample(list(rows), ROLLOUTS // 4)
    batch = [Rollout(completion(v), TaskType(r.task_type), r.output, r.variants) for r in chosen for v in
             [r.output, *(half(r.output, 0.6 + 0.1 * n) for n in range(3))]]  # fmt: skip
    scorer.score([Rollout(completion(r.output), TaskType(r.task_type), r.output, r.variants) for r in chosen])
    begin, wall = time.process_time(), time.perf_counter()
    scorer.score(batch)
    cpu, took = time.process_time() - begin, time.perf_counter() - wall
    without = Scorer(None, None, Weights(0.0, 0.0, 1.0, 1.0, 1.0))
    words = timed(lambda: without.score(batch))
    print(f"\n{len(batch)} rollouts: {cpu:.2f} CPU-s, {took:.2f} s; without embedding and rating {words:.3f} CPU-s")
    return {"rollouts": len(batch), "cpu_s": round(cpu, 3), "wall_s": round(took, 3), "words_cpu_s": round(words, 4)}


def half(text: str, share: float = 0.5) -> str:
    words = text.split(" ")
    return " ".join(words[: max(3, int(len(words) * share))])


_NAME = re.compile(r"(?<![.!?:]\s)(?<![\"“(])\b[A-ZÀ-ÖØ-Þ][\w'’-]+")


def one_fault(kind: str, text: str, other: str, rng: random.Random) -> str | None:
    """A sentence with one fault, or None where it has no place for it. ``other`` is a text on something else."""
    if kind == "another sentence":
        return other
    if kind == "number changed":
        found = list(re.finditer(r"\d+", text))
        if not found:
            return None
        at = rng.choice(found)
        return f"{text[: at.start()]}{int(at[0]) + rng.choice([1, 2, 3, 7, 10])}{text[at.end() :]}"
    if kind == "name changed":
        found = [m for m in _NAME.finditer(text) if m.start() > 0]
        theirs = [n for n in _NAME.findall(other, 1) if n not in text]
        if not found or not theirs:
            return None
        at = rng.choice(found)
        return f"{text[: at.start()]}{rng.choice(theirs)}{text[at.end() :]}"
    if kind == "denied":
        said = re.sub(r"\b(is|was|are|were|can|will|has|had)\b", r"\1 not", text, count=1)
        return said if said != text and not re.search(r"\b(?:not|no|never|nor)\b|n['’]t\b", text, re.I) else None
    count = {"a word changed": 1, "two words changed": 2}[kind]
    words, theirs = [w for w in text.split() if len(w) > 5], [w for w in other.split() if len(w) > 5 and w.islower()]
    if len(words) < count or not theirs:
        return None
    for word in rng.sample(words, count):
        text = text.replace(word, rng.choice(theirs), 1)
    return text


CLAIM_FAULTS = (
    "number changed", "name changed", "denied", "a word changed", "two words changed", "another sentence",
)  # fmt: skip


def claims_seen(test: dict[TaskType, list[Row]]) -> dict[str, list[float]]:
    """Share of targets' claims that their variants support, as they are and with one fault."""
    rng = random.Random(0)
    seen: dict[str, list[bool]] = {}
    for kind, rows in test.items():
        for n, row in enumerate(rows):
            sources, other = Sources(kind, row.variants), rows[(n + 7) % len(rows)].output
            foreign = [c.text for c in claims(kind, other) if c.part == "body"] or [other]
            for claim in claims(kind, row.output):
                if claim.part != "body":
                    continue
                seen.setdefault("as it is", []).append(sources.support(claim))
                for fault in CLAIM_FAULTS:
                    spoilt = one_fault(
                        fault, claim.text, rng.choice(foreign) if fault == CLAIM_FAULTS[-1] else other, rng
                    )
                    if spoilt and spoilt != claim.text:
                        seen.setdefault(fault, []).append(sources.support(Fact("body", spoilt)))
    print("\nclaims of targets that the variants support")
    for fault, values in seen.items():
        print(f"  {fault:20}{np.mean(values):7.1%} of {len(values)}")
    return {fault: [round(float(np.mean(values)), 4), len(values)] for fault, values in seen.items()}


def spoilt(kind: TaskType, text: str, other: str, rng: random.Random) -> dict[str, str | None]:
    """Copies of a target with one fault each."""
    sentences = re.split(r"(?<=[.!?])\s", text)
    foreign = re.split(r"(?<=[.!?])\s", other.split("\n")[-1])
    return {
        "cut in half": half(text),
        "last fifth lost": half(text, 0.8),
        "said twice": f"{text} {sentences[-1]}",
        "another's sentence added": f"{text} {foreign[-1]}",
        "number changed": one_fault("number changed", text, other, rng),
        "name changed": one_fault("name changed", text, other, rng),
        "another's target": other,
    }


def faults_seen(test: dict[TaskType, list[Row]], embedder: Cached, library: Any) -> dict[str, Any]:
    """How often each reward puts a target above its copy with a fault, and how it goes with the judge in a group."""
    judge, head = independent_judge(embedder), Scorer(embedder, reward_rater(embedder), Weights(1.0, 0.0, 0.0))
    knn = Scorer(embedder, library, ALL, mapping="linear", threshold=None)
    names = ("quality: KNN-Bayes", "quality: reward's rater", "alignment (cosine)", "coverage", "grounding", "judge")
    above: dict[str, list[list[float]]] = {}
    overall: dict[str, list[float]] = {name: [] for name in (*names, "length")}
    by_type: dict[str, dict[str, list[float]]] = {}
    for kind, rows in test.items():
        rng = random.Random(f"faults:{kind}")
        groups = []
        for n, row in enumerate(rows):
            copies = spoilt(kind, row.output, rows[(n + 7) % len(rows)].output, rng)
            copies |= {f"variant {i}": v for i, v in enumerate(row.variants[:6])}
            groups.append({"target": row.output, **{k: v for k, v in copies.items() if v and v != row.output}})
        flat = [(i, name, text) for i, group in enumerate(groups) for name, text in group.items()]
        batch = [Rollout(completion(t), kind, rows[i].output, rows[i].variants) for i, _, t in flat]
        scored, rated = knn.score(batch), head.score(batch)
        samples, vectors = [s.sample for s in scored], np.stack([s.vector for s in scored])
        said = [r.value for r in judge.rate_with_vectors(samples, vectors) if isinstance(r, Rating)]
        table = np.array([values(a, b, j) for a, b, j in zip(scored, rated, said, strict=True)])
        length = np.array([len(text.split()) for _, _, text in flat])
        owner = np.array([i for i, _, _ in flat])
        for i in range(len(groups)):
            mine = np.flatnonzero(owner == i)
            for row in mine[1:]:
                fault = "a variant" if flat[row][1].startswith("variant") else flat[row][1]
                better = np.sign(np.round(table[mine[0]] - table[row], 6)) / 2 + 0.5
                above.setdefault(fault, []).append(better.tolist())
            for name, column in zip(overall, [*table[mine].T, length[mine].astype(float)], strict=True):
                overall[name].append(spearman(column, table[mine, -1]))
        columns = dict(zip(overall, [*table.T, length.astype(float)], strict=True))
        parts = {
            n: [spearman(columns[n], table[:, -1]), np.mean(found[-len(groups) :])] for n, found in overall.items()
        }
        by_type[str(kind)] = {name: [round(float(v), 3) for v in pair] for name, pair in parts.items()}
        told = ", ".join(f"{name} {whole:.2f} ({inside:.2f})" for name, (whole, inside) in parts.items())
        print(f"\n{kind}, {len(flat)} texts: rank correlation with the judge (mean within a group): {told}")
    print(f"\ntarget above its copy (ties a half){'':8}" + "".join(f"{name:>25}" for name in names))
    for fault, found in above.items():
        print(f"{fault:32}{len(found):5}      " + "".join(f"{v:25.0%}" for v in np.mean(found, axis=0)))
    return {
        "above": {f: [len(v), *np.round(np.mean(v, axis=0), 3).tolist()] for f, v in above.items()},
        "with the judge": by_type,
    }


def values(scored: Scored, rated: Scored, judged: float) -> list[float]:
    parts = scored.components
    return [scored.rating, rated.rating, parts["alignment"], parts["coverage"], parts["grounding"], judged]  # type: ignore[list-item]


if __name__ == "__main__":
    main()
