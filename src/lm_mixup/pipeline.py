"""The order of the stages, and what of it needs to be done.

::

    pool → embed → graph → (cascade →) rate → curate → cluster → distill → rerate → select → train set

Each step has a key: the hash of its settings, its collaborators' keys and the outputs that it reads. A step whose
manifest has the same key is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lm_mixup import __version__, train_set
from lm_mixup.files import write_bytes
from lm_mixup.ports import Rater
from lm_mixup.raters.cascade_rater import Cascade
from lm_mixup.raters.training import MIN_ROWS
from lm_mixup.recipe import Recipe, dump
from lm_mixup.run_folder import UNITS, Manifest, Run, step_key, summary
from lm_mixup.steps import Collaborators, Silent, Steps, Watcher, Work


class Walk:
    """The walk of one run. Call the steps in order, or :meth:`all`; finished steps are skipped."""

    def __init__(self, run: Run, recipe: Recipe, hands: Collaborators, watcher: Watcher | None = None) -> None:
        self.run = run
        self.recipe = recipe
        self.hands = hands
        self.watcher = watcher or Silent()
        self.steps = Steps(run, recipe, hands, self.watcher)

    def all(self) -> dict[str, Any]:
        """Every step after the pool was read, then the train set; returns the summary."""
        for prepare in (self.embed, self.graph):
            prepare()
        for stage in (self.rate, self.curate, self.cluster, self.distill, self.rerate, self.select):
            stage()
        return self.finish()

    def embed(self) -> Manifest:
        """Embed every sample's text."""
        return self._step("embed", self.steps.embed, reads=("pool",), embedder=self.hands.embedder.key)

    def graph(self) -> Manifest:
        """Find every row's nearest rows, once, for all stages that ask."""
        before = self.run.manifest("graph")
        settings = self.recipe.neighbors.model_dump()
        return self._step(
            "graph", lambda: self.steps.graph(before), reads=("embed",), settings=settings, seed=self.seed
        )

    def learn(self) -> Manifest | None:
        """Where the rater is a cascade: train it on the rows to be rated. None where there is nothing to learn.

        A pool of fewer rows than one can learn from is rated by the judge alone.
        """
        cascade = self.hands.rater
        if not isinstance(cascade, Cascade):
            return None
        if len(self.steps.unrated()) < MIN_ROWS:
            self.steps.raters = (cascade.judge, cascade.judge)
            return None
        manifest = self._step(
            "cascade", lambda: self.steps.learn(cascade), reads=("pool", "embed"), cascade=cascade.key
        )
        self.steps.raters = cascade.raters(self.run.step("cascade"), embedder=self.hands.embedder)
        return manifest

    def rate(self) -> Manifest:
        """Rate every sample that did not come with a rating."""
        rater, _ = self._raters()
        return self._step("rate", self.steps.rate, reads=("pool",), rater=rater.key)

    def curate(self) -> Manifest:
        """Correct the ratings, and split high from low."""
        settings = self.recipe.curate.model_dump()
        return self._step("curate", self.steps.curate, reads=("rate", "graph"), settings=settings, seed=self.seed)

    def cluster(self) -> Manifest:
        """Group the low samples."""
        settings = self.recipe.cluster.model_dump()
        return self._step("cluster", self.steps.cluster, reads=("pool", "graph", "curate"), settings=settings)

    def distill(self) -> Manifest:
        """Turn every cluster into one sample."""
        reads = ("pool", "curate", "cluster")
        return self._step("distill", self.steps.distill, reads=reads, distiller=self.hands.distiller.key)

    def rerate(self) -> Manifest:
        """Rate the distillates with the same rater."""
        line = self.run.need("curate").figures["high_line"]
        _, rater = self._raters()
        return self._step("rerate", self.steps.rerate, reads=("distill",), rater=rater.key, line=line)

    def select(self) -> Manifest:
        """Take the budget from the high originals and the distillates that rated high."""
        settings = self.recipe.select.model_dump()
        reads = ("pool", "embed", "curate", "rerate")
        return self._step("select", self.steps.select, reads=reads, settings=settings, seed=self.seed)

    def finish(self) -> dict[str, Any]:
        """Write the train set, its lineage and its card; return the summary."""
        train_set.write(self.run, seed=self.seed, versions=self.versions)
        told = summary(self.run)
        write_bytes(self.run.folder / "README.md", train_set.card(told, dump(self.recipe)).encode())
        return told

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.recipe.seed

    @property
    def versions(self) -> dict[str, str]:
        """What made the train set."""
        return {
            "lm_mixup": __version__,
            "embedder": self.hands.embedder.key,
            "rater": self._raters()[0].key,
            "distiller": self.hands.distiller.key,
        }

    def _raters(self) -> tuple[Rater, Rater]:
        """Who rates the pool, and who the distillates."""
        if self.steps.raters is None:
            self.learn()
        assert self.steps.raters is not None
        return self.steps.raters

    def _step(self, name: str, work: Callable[[], Work], *, reads: tuple[str, ...], **depends: object) -> Manifest:
        outputs = {read: self.run.need(read).output for read in reads}
        key = step_key(version=__version__, step=name, outputs=outputs, **depends)
        done = self.run.finished(name, key)
        if done:
            self.watcher.finish(name, done, cached=True)
            return done
        self.run.begin(name)
        begin, embedding = time.perf_counter(), self.hands.embedder.seconds
        result = work()
        manifest = Manifest(
            step=name,
            key=key,
            unit=UNITS[name],
            in_=result.in_,
            kept=result.kept,
            dropped=result.dropped,
            failed=result.failed,
            seconds=time.perf_counter() - begin,
            notes=result.notes,
            figures=result.figures | {"embedding_seconds": round(self.hands.embedder.seconds - embedding, 3)},
        )
        manifest = self.run.finish(manifest)
        self.watcher.finish(name, manifest, cached=False)
        return manifest
