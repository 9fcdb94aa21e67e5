"""The whole walk from Python.

::

import lm_mixup

result = lm_mixup.run(["pool.jsonl"], "RUN")
for row in result.train():
    print(row["id"], row["messages"])
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_mixup import train_set
from lm_mixup.collaborators import Edge, assemble
from lm_mixup.ingest import ingest
from lm_mixup.pipeline import Walk
from lm_mixup.ports import LLM, Distiller, Embedder, Rater
from lm_mixup.recipe import Recipe, load
from lm_mixup.run_folder import Run, write_recipe
from lm_mixup.steps import Silent, Watcher

EXIT_OK, EXIT_EMPTY = 0, 3
"""Exit codes of a finished run: a train set was written; or nothing in the pool was good enough for one."""


@dataclass(frozen=True)
class Result:
    """A finished run: where it is, and its summary (the object that ``lm-mixup run --json`` prints)."""

    folder: Path
    summary: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0 where there is a train set, 3 where it is empty."""
        return EXIT_OK if self.summary["rows"]["train"] else EXIT_EMPTY

    def train(self) -> Iterator[dict[str, Any]]:
        """The rows of ``train.jsonl``."""
        return train_set.read_jsonl(self.folder / "train.jsonl")

    def lineage(self) -> Iterator[dict[str, Any]]:
        """The rows of ``lineage.jsonl``, aligned with :meth:`train`."""
        return train_set.read_jsonl(self.folder / "lineage.jsonl")


def run(
    pools: Sequence[str | Path] | str | Path,
    folder: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    settings: Iterable[str] = (),
    ratings: str | Path | None = None,
    ratings_column: str | None = None,
    embedder: Embedder | None = None,
    rater: Rater | None = None,
    distiller: Distiller | None = None,
    llm: LLM | None = None,
    watcher: Watcher | None = None,
    edge: Edge | None = None,
) -> Result:
    """Distill ``pools`` into ``folder``; called again with the same arguments, it goes on where it was cut off.

    ``recipe`` is a Recipe, a file, or None for the defaults; ``settings`` change single values
    (``"cluster.max_size=8"``). ``ratings`` is a file of ratings that are taken as they are. Collaborators that are
    given take the place of the recipe's. Raises what :mod:`lm_mixup.errors` lists.
    """
    listed = [str(pools)] if isinstance(pools, str | Path) else [str(pool) for pool in pools]
    resolved = recipe if isinstance(recipe, Recipe) else load(Path(recipe) if recipe else None, settings)
    watcher = watcher or Silent()
    edge = edge or Edge.of(os.environ)
    given = read_ratings(ratings, ratings_column)
    with Run(Path(folder)) as held:
        write_recipe(held.folder, resolved)
        watcher.start("pool", None, "rows")
        manifest, cached = ingest(held, listed, resolved.pool, given, lambda n: watcher.advance("pool", n))
        watcher.finish("pool", manifest, cached=cached)
        hands = assemble(resolved, held, edge, embedder=embedder, rater=rater, distiller=distiller, llm=llm)
        return Result(held.folder, Walk(held, resolved, hands, watcher).all())


def read_ratings(path: str | Path | None, column: str | None) -> Mapping[str, float | None]:
    """Ratings by sample id from a file; {} where there is none."""
    if path is None:
        return {}
    from lm_mixup.pool.ratings import read_ratings as read

    return read(path, column)
