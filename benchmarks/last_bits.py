"""What another number of threads or another processor may change: the train set of a run, and of the same run with
vectors whose last bits are moved.

``python -m benchmarks.last_bits RUN POOL [--share 0.05] [--json]``: RUN is a finished run of POOL with the embedded
defaults. In the second run every component of every vector is moved to the next float16 up or down with the
probability ``--share``; printed is the share of RUN's train set that is not in the other's.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import lm_mixup
from lm_mixup import train_set
from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.embed.cached import CachedEmbedder, vector_schema
from lm_mixup.ports import Vectors
from lm_mixup.recipe import load
from lm_mixup.records import digest
from lm_mixup.run_folder import Run


class Moved:
    """The embedder of a run with the last bit of some components moved, always the same ones for a text."""

    def __init__(self, inner: CachedEmbedder, share: float) -> None:
        self.inner, self.share = inner, share
        self.key, self.dim = inner.key, inner.dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = self.inner.embed(texts).astype(np.float16)
        for row, text in enumerate(texts):
            rng = np.random.default_rng(int(digest(text)[:12], 16))
            moved = rng.random(self.dim) < self.share
            towards = np.where(rng.random(int(moved.sum())) < 0.5, np.inf, -np.inf).astype(np.float16)
            vectors[row, moved] = np.nextafter(vectors[row, moved], towards)
        return vectors.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("pool")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    recipe = load(arguments.run / "recipe.yaml")
    held = Run(arguments.run, read_only=True)
    inner = make_embedder(recipe, Edge.of(os.environ))
    cached = CachedEmbedder(inner, held.store("vectors", inner.key, vector_schema(inner.dim)))
    before = {row["id"] for row in train_set.read_jsonl(arguments.run / "train.jsonl")}
    with tempfile.TemporaryDirectory() as folder:
        embedder = Moved(cached, arguments.share)
        result = lm_mixup.run([arguments.pool], Path(folder) / "run", recipe=recipe, embedder=embedder)
        after = {row["id"] for row in result.train()}
    figures = {"share_moved": arguments.share, "rows": len(before), "changed": len(before - after) / len(before)}
    if arguments.json:
        print(json.dumps(figures))
    else:
        print(f"{arguments.share:.1%} of the components moved: {figures['changed']:.2%} of {len(before)} rows changed")


if __name__ == "__main__":
    main()
