"""What a MIXTURE built without a language model is like: the figures of the issue, as one table.

    python -m benchmarks.mixture BUILT                     # a folder that lm-mixup mixture build has written
    python -m benchmarks.mixture BUILT --recover 150       # also: does clustering find the groups again (embeds more)
    python -m benchmarks.mixture BUILT --grounding         # also: which inventions of a model the writer's check sees
    python -m benchmarks.mixture BUILT --json

``BUILT`` comes from::

    lm-mixup mixture build $LM_MIXUP_DATA/wikipedia $LM_MIXUP_DATA/items -o BUILT --benchmarks $LM_MIXUP_DATA/benchmarks
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from lm_mixup.clustering import cluster
from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.embed.cached import CachedEmbedder, vector_schema
from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.mixture.by_llm import grounded
from lm_mixup.mixture.collect import Collector
from lm_mixup.mixture.degrade import RuleDegrader
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.material import Target, sample_of
from lm_mixup.mixture.noise import RATES, Noise
from lm_mixup.mixture.stats import describe
from lm_mixup.mixture.write import ExtractiveWriter
from lm_mixup.neighbors import build
from lm_mixup.recipe import Recipe
from lm_mixup.records import TaskType, digest
from lm_mixup.store import Store
from lm_mixup.task_types import parse

NOISE_LEVELS = (0.0, 1.0, 3.0, 6.0)
"""Times the default rates, on every variant."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("built", type=Path)
    parser.add_argument("--recover", type=int, default=0, metavar="N", help="targets of each type to cluster again")
    parser.add_argument("--grounding", action="store_true", help="what of invented claims the check of writers sees")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = load_mixture(arguments.built)
    manifest = json.loads((arguments.built / "manifest.json").read_text(encoding="utf-8"))
    timings = json.loads((arguments.built / "timings.json").read_text(encoding="utf-8"))
    stats = describe(rows)
    figures: dict[str, Any] = {"manifest": manifest, "seconds": timings, "stats": stats}
    show(figures)
    if arguments.recover:
        figures["recover"] = recover(arguments.recover, arguments.built / "store" / "recover")
        show_recovered(figures["recover"])
    if arguments.grounding:
        figures["grounding"] = grounding()
        for name, found in figures["grounding"].items():
            print(f"  {name:32}{found['passed']:>7,} of {found['samples']:,} pass")
    if arguments.json:
        print(json.dumps(figures))


INVENTIONS = {
    9: "the passage's own sentences",
    0: "a number added",
    1: "a name invented in a clause",
    2: "a sentence in other words",
}
"""How the server of the tests spoils what it writes, by its number."""


def grounding() -> dict[str, dict[str, int]]:
    """Kind of invention → how many samples of all types on all passages had it, and how many of them passed."""
    from tests.servers.mixture_author import INVENTED, written

    data = Path(os.environ.get("LM_MIXUP_DATA", "../shared/data"))
    out = {name: {"samples": 0, "passed": 0} for name in INVENTIONS.values()}
    for passage in Collector().collect([data / "wikipedia"]).passages:
        topic = passage.topic or " ".join(passage.text.split()[:2])
        for task_type in TaskType:
            for fault, name in INVENTIONS.items():
                said = parse_think_answer(written(str(task_type), topic, passage.text, fault))
                item = parse(task_type, said.answer) if said else None
                if item is None or said is None or (fault != 9 and not any(w in said.answer for w in INVENTED)):
                    continue
                out[name]["samples"] += 1
                out[name]["passed"] += grounded(item, f"{passage.topic}. {passage.text}")
    return out


def show(figures: dict[str, Any]) -> None:
    manifest, stats = figures["manifest"], figures["stats"]
    print(f"{'step':14}{'in':>8}{'kept':>8}  dropped; seconds with embedding")
    for step in manifest["steps"]:
        lost = ", ".join(f"{count:,} {reason}" for reason, count in step["dropped"].items())
        print(f"{step['step']:14}{step['in']:>8,}{step['kept']:>8,}  {lost}; {figures['seconds'][step['step']]:.1f} s")
    print("\ntargets before the line, and how many pass which absolute line")
    for task_type, found in manifest["lines"].items():
        rest = "  ".join(f"{name.removeprefix('at_least_')}: {count:,}" for name, count in found.items())
        print(f"  {task_type:6}{rest}")
    print("\nrows by split, variants a target (least, mean, most), facts held (mean, share of rows >= 0.9)")
    for task_type, splits in stats["by_type_and_split"].items():
        n, c = stats["variants_per_target"][task_type], stats["coverage"][task_type]
        print(
            f"  {task_type:6}{splits}  {n['least']:.0f} {n['mean']:.2f} {n['most']:.0f}  "
            f"{c['mean']:.4f} {100 * c['share_at_least_0.9']:.2f} %"
        )
    print(f"\nformat {stats['format']}; groups in two splits: {stats['shared_groups']}")
    print("\nrated below the target (below the five targets nearest in length), n")
    types = [str(t) for t in TaskType]
    print(f"  {'':24}" + "".join(f"{t:>20}" for t in types))
    for name, found in stats["rated_below_target"].items():
        cells = [
            f"{100 * f['below']:.0f} % ({100 * f['length_matched']:.0f} %) {f['variants']}"
            if (f := found.get(t))
            else "–"
            for t in types
        ]
        print(f"  {name:24}" + "".join(f"{cell:>20}" for cell in cells))


def recover(per_type: int, store: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Level of noise → task type → pairwise precision, recall and F1 of clusters against the true groups."""
    data = Path(os.environ.get("LM_MIXUP_DATA", "../shared/data"))
    found = Collector().collect([data / "wikipedia", data / "items"])
    targets = ExtractiveWriter().write(found.passages, found.exercises).targets
    inner = make_embedder(Recipe(), Edge.of(os.environ))
    embedder = CachedEmbedder(inner, Store(store, vector_schema(inner.dim)))
    out: dict[str, dict[str, dict[str, float]]] = {}
    for level in NOISE_LEVELS:
        noise = Noise({kind: min(1.0, rate * level) for kind, rate in RATES.items()})
        degrader = RuleDegrader(noise=noise, noisy=1.0)
        out[f"{level:g}"] = {}
        for task_type in TaskType:
            chosen = sorted((t for t in targets if t.task_type == task_type), key=lambda t: digest(t.id))[:per_type]
            out[f"{level:g}"][str(task_type)] = _f1(chosen, degrader, embedder)
    return out


def _f1(targets: list[Target], degrader: RuleDegrader, embedder: CachedEmbedder) -> dict[str, float]:
    pairs = [
        (sample_of("", v.item).text, number)
        for number, made in enumerate(degrader.degrade_all(targets))
        for v in (made.variants if made else ())
    ]
    np.random.default_rng(0).shuffle(pairs)  # type: ignore[arg-type]
    truth = np.array([int(number) for _, number in pairs])
    vectors = embedder.embed([str(text) for text, _ in pairs])
    mean = len(pairs) / len(set(truth.tolist()))
    labels = cluster(vectors, build(vectors, 24), min_size=2, max_size=20, mean_size=mean).labels
    together = Counter(zip(labels.tolist(), truth.tolist(), strict=True))
    both = sum(n * (n - 1) / 2 for (label, _), n in together.items() if label >= 0)
    said = sum(n * (n - 1) / 2 for label, n in Counter(labels.tolist()).items() if label >= 0)
    true = sum(n * (n - 1) / 2 for n in Counter(truth.tolist()).values())
    precision, recall = both / max(said, 1), both / max(true, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4), "variants": len(pairs)}


def show_recovered(found: dict[str, dict[str, dict[str, float]]]) -> None:
    print("\npairwise F1 of clusters of the shuffled variants against the true groups, by times the default noise")
    for level, types in found.items():
        print(f"  x{level:6}" + "  ".join(f"{t} {f['f1']:.3f}" for t, f in types.items()))


if __name__ == "__main__":
    main()
