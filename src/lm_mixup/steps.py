"""What each step of a run does: from the records that it reads to the records that it writes, with their counts.

The order, and whether a step needs to be done at all, is :mod:`lm_mixup.pipeline`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lm_mixup import neighbors
from lm_mixup.curation import transition_svg
from lm_mixup.embed.cached import CachedEmbedder
from lm_mixup.files import replacing, write_bytes
from lm_mixup.ingest import settled_languages
from lm_mixup.neighbors import Graph
from lm_mixup.pool.table import PoolTable
from lm_mixup.ports import Distiller, Rater
from lm_mixup.raters.cascade_rater import Cascade, CascadeRater
from lm_mixup.recipe import Recipe, in_tokens, parse_budget
from lm_mixup.records import Cluster, Distillate, digest, rating_class
from lm_mixup.run_folder import UNITS, Manifest, Run
from lm_mixup.stages import distill as distill_stage
from lm_mixup.stages import rate as rate_stage
from lm_mixup.stages.cluster import Clustered, ClusterStage
from lm_mixup.stages.curate import CurateStage
from lm_mixup.stages.distill import DistillStage
from lm_mixup.stages.rate import RateStage
from lm_mixup.stages.select import DISTILLED, ORIGINAL, Candidates, SelectStage, tokens_of

T = TypeVar("T")

_BATCH_CLUSTERS = 1024
_EMBED_ROWS = 1024
"""Rows between two signs of progress while embedding: some seconds on a small machine."""
_RATE_ROWS, _DISTILL_CLUSTERS = 2048, 256
"""How many records are worked out between two writes to the store, unless who works wants more at a time."""


class Watcher(Protocol):
    """Who wants to know how far the walk is: the command line, or nobody."""

    def start(self, step: str, total: int | None, unit: str) -> None:
        """A step begins; ``total`` records are to be done (None: not known)."""

    def advance(self, step: str, count: int) -> None:
        """``count`` more records are done."""

    def finish(self, step: str, manifest: Manifest, *, cached: bool) -> None:
        """A step is finished, or was found finished (``cached``)."""


class Silent:
    """A watcher that says nothing."""

    def start(self, step: str, total: int | None, unit: str) -> None:
        """Say nothing."""

    def advance(self, step: str, count: int) -> None:
        """Say nothing."""

    def finish(self, step: str, manifest: Manifest, *, cached: bool) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Collaborators:
    """Who does the work: the embedder (remembering), the rater and the distiller of a run.

    A rater may be a cascade that the run trains on its pool.
    """

    embedder: CachedEmbedder
    rater: Rater | Cascade
    distiller: Distiller


@dataclass
class Work:
    """What a step gives back: its counts, and what it has to say; fields as in a Manifest."""

    in_: int
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    notes: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


class Steps:
    """The steps of one run; each reads the records of those before it and writes its own."""

    def __init__(self, run: Run, recipe: Recipe, hands: Collaborators, watcher: Watcher) -> None:
        self.run = run
        self.recipe = recipe
        self.hands = hands
        self.watcher = watcher
        self.raters: tuple[Rater, Rater] | None = None if isinstance(hands.rater, Cascade) else (hands.rater,) * 2
        """Who rates the pool, and who the distillates; None: a cascade that is not trained yet."""

    @cached_property
    def pool(self) -> PoolTable:
        """The pool of the run."""
        return PoolTable(self.run.records("pool"))

    @cached_property
    def vectors(self) -> npt.NDArray[np.float16]:
        """(rows, dim) float16, mapped from disk."""
        mapped: npt.NDArray[np.float16] = np.load(self.run.records("embed"), mmap_mode="r", allow_pickle=False)
        return mapped

    def graph_of_pool(self) -> Graph:
        """The k-NN graph over all rows, mapped from disk."""
        return Graph.load(self.run.step("graph"))

    def _start(self, name: str, total: int) -> None:
        self.watcher.start(name, total, UNITS[name])

    def _advance(self, name: str) -> Callable[[int], None]:
        return lambda count: self.watcher.advance(name, count)

    def _write_batches(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        with (
            replacing(self.run.records(name)) as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd") as out,
        ):
            for batch in batches:
                out.write_batch(batch)

    def embed(self) -> Work:
        """Embed every sample's text into ``embed/vectors.npy``, (rows, dim) float16, in pool order."""
        rows, dim = len(self.pool), self.hands.embedder.dim
        self._start("embed", rows)
        self.__dict__.pop("vectors", None)
        with replacing(self.run.records("embed")) as temporary:
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=(rows, dim))
            start = 0
            for samples in self.pool.batches():
                for first in range(0, len(samples), _EMBED_ROWS):
                    texts = [s.text for s in samples[first : first + _EMBED_ROWS]]
                    out[start : start + len(texts)] = self.hands.embedder.embed(texts)
                    start += len(texts)
                    self.watcher.advance("embed", len(texts))
            out.flush()
            del out
        return Work(rows, rows)

    def unrated(self) -> npt.NDArray[np.int64]:
        """The rows of the pool that did not come with a rating."""
        return np.flatnonzero(self.pool.column("rating").is_null().to_numpy(zero_copy_only=False))

    def learn(self, cascade: Cascade) -> Work:
        """Train a cascade on the rows to be rated: its judge rates a part, and what it says teaches the rest."""
        rows = self.unrated()
        self._start("cascade", cascade.plan.questions(len(rows)))
        card = cascade.train(
            self.run.step("cascade"),
            embedder=self.hands.embedder,
            vectors=self.vectors if len(rows) == len(self.pool) else self.vectors[rows],
            fetch=lambda at: self.pool.rows(rows[at]),
            progress=self._advance("cascade"),
        ).card
        figures = {name: card[name] for name in ("rows", "rounds")}
        failed = card["asked"] - card["judged"]
        return Work(card["asked"], card["judged"], failed=failed, figures=figures)

    def rate(self) -> Work:
        """Rate every sample that did not come with a rating."""
        self._start("rate", len(self.pool))
        rater, _ = self._raters()
        at_once = _at_once(rater, _RATE_ROWS)
        stage = RateStage(rater, self._ratings(rater), chunk_rows=at_once)
        given = iter(self.pool.column("rating").to_pylist())
        together = _together(self.pool.batches(), at_once)
        batches = ((samples, [next(given) for _ in samples]) for samples in together)
        self._write_batches("rate", rate_stage.SCHEMA, stage.run(batches, self._advance("rate")))
        table = self.run.read_records("rate", ["rating", "reason"])
        work = _worked(len(table), table.column("rating").null_count, table.column("reason"))
        if isinstance(rater, CascadeRater):
            asked, judged, rows = (rater.card[name] for name in ("asked", "judged", "rows"))
            failed = f" ({asked - judged} questions failed)" if judged < asked else ""
            said = f"the judge rated {judged} of {rows} rows{failed}; what it taught rates the rest"
            work.notes = (*work.notes, said)
        return work

    def _ratings(self, rater: Rater) -> Any:
        return self.run.store("ratings", rater.key, rate_stage.STORE_SCHEMA)

    def _raters(self) -> tuple[Rater, Rater]:
        assert self.raters is not None  # the walk trains a cascade before anybody rates
        return self.raters

    def graph(self, before: Manifest | None) -> Work:
        """Find every row's nearest rows; ``before`` is the manifest of the graph that stands there, if any."""
        settings = self.recipe.neighbors
        self._start("graph", len(self.pool))
        vectors = self.vectors
        build: dict[str, Any] = {
            "seed": self.recipe.seed,
            "exact_below": settings.exact_below,
            "error_target": settings.error,
            "threads": self.recipe.embed.threads,
        }
        if before and before.in_ < len(vectors) and before.figures["vectors"] == _hash(vectors[: before.in_]):
            # rows were appended: the old part of the graph still stands
            graph = neighbors.extend(Graph.load(self.run.step("graph")), vectors, wanted=settings.k, **build)
        else:
            graph = neighbors.build(vectors, settings.k, **build)
        graph.save(self.run.step("graph"))
        quality = {"exact": graph.exact, "recall": graph.recall, "error": graph.error}
        figures = {**quality, "k": graph.k, "vectors": _hash(vectors)}
        return Work(len(vectors), len(vectors), figures=figures)

    def curate(self) -> Work:
        """Correct the ratings, and split high from low."""
        table = self.run.read_records("rate", ["id", "rating"])
        rating = table.column("rating").to_numpy(zero_copy_only=False)
        rated = np.flatnonzero(~np.isnan(rating))
        settings = self.recipe.curate
        self._start("curate", len(rated))
        curated, flagged, confidence = rating.copy(), np.zeros(len(rating), bool), np.full(len(rating), np.nan)
        figures: dict[str, Any] = {}
        note = ""
        if settings.method == "ds2":
            stage = CurateStage(
                neighbors=settings.neighbors,
                rounds=settings.rounds,
                sample=settings.sample,
                min_confidence=settings.min_confidence,
                most_wrong=settings.most_wrong,
                seed=self.recipe.seed,
            )
            found = stage.run(rating[rated], self.graph_of_pool(), rated)
            curated[rated], flagged[rated], confidence[rated] = found.curated, found.flagged, found.confidence
            note = found.note
            drawing = self.run.step("curate") / "transition.svg"
            drawing.unlink(missing_ok=True)
            if found.estimated:
                write_bytes(drawing, transition_svg(found).encode())
            figures = {
                "classes": found.classes.tolist(),
                "transition": np.round(found.transition, 4).tolist(),
                "prior": np.round(found.prior, 4).tolist(),
                "flagged": int(flagged.sum()),
                "replaced": int((curated[rated] != rating[rated]).sum()),
            }
        high, line = tiers(curated, settings.high_rating, settings.high_share)
        tier = [None if np.isnan(r) else "high" if h else "low" for r, h in zip(rating, high, strict=True)]
        columns = {
            "id": table.column("id"),
            "rating": pa.array(rating, from_pandas=True),
            "curated_rating": pa.array(curated, from_pandas=True),
            "flagged": pa.array(flagged),
            "confidence": pa.array(confidence, from_pandas=True),
            "tier": pa.array(tier, pa.string()),
        }
        self.run.write_records("curate", pa.table(columns))
        figures |= {"high": int(high.sum()), "high_line": line}
        return Work(len(rated), len(rated), notes=(note,) if note else (), figures=figures)

    def cluster(self) -> Work:
        """Group the low samples."""
        tiers = self.run.read_records("curate", ["tier"]).column("tier")
        low = np.flatnonzero(pc.equal(tiers, "low").fill_null(False).to_numpy(zero_copy_only=False))
        self._start("cluster", len(low))
        found = self.cluster_rows(low)
        ids = self.pool.column("id").take(pa.array(low)).to_pylist()
        columns = {
            "row": pa.array(low, pa.int64()),
            "id": pa.array(ids, pa.string()),
            "cluster": pa.array(cluster_ids(found.labels.tolist(), ids), pa.string()),
            "reason": pa.array([reason or None for reason in found.reasons], pa.string()),
        }
        self.run.write_records("cluster", pa.table(columns))
        dropped = dict(found.dropped)
        return Work(len(low), len(low) - sum(dropped.values()), dropped, figures=dict(found.figures))

    def cluster_rows(self, rows: npt.NDArray[np.int64]) -> Clustered:
        """Cluster these rows of the pool as the recipe says."""
        settings = self.recipe.cluster
        stage = ClusterStage(
            min_size=settings.min_size,
            max_size=settings.max_size,
            mean_size=settings.mean_size,
            floor=settings.floor,
            alone=settings.alone,
        )
        return stage.run(self.vectors, self.graph_of_pool(), rows=rows, groups=self._groups()[rows])

    def _groups(self) -> npt.NDArray[np.int64]:
        """(rows of the pool,) one number each; rows of different numbers never share a cluster."""
        sources = self.pool.column("source")
        columns = [self.pool.column("task_type").to_pylist()]
        if not self.recipe.cluster.across_languages:
            columns.append(settled_languages(self.pool.column("language"), sources))
        if not self.recipe.cluster.across_sources:
            columns.append(sources.to_pylist())
        numbers: dict[tuple[str, ...], int] = {}
        return np.array([numbers.setdefault(parts, len(numbers)) for parts in zip(*columns, strict=True)], np.int64)

    def clusters(self) -> Iterator[list[Cluster]]:
        """The clusters in the order of their first rows, in batches."""
        table = self.run.read_records("cluster", ["row", "cluster"])
        table = table.filter(pc.is_valid(table.column("cluster")))
        members: dict[str, list[int]] = {}
        for row, name in zip(table.column("row").to_pylist(), table.column("cluster").to_pylist(), strict=True):
            members.setdefault(name, []).append(row)
        rating = self.run.read_records("curate", ["curated_rating"]).column("curated_rating").to_numpy()
        return self.clusters_of(members, rating)

    def clusters_of(
        self, members: Mapping[str, Sequence[int]], rating: npt.NDArray[np.float64]
    ) -> Iterator[list[Cluster]]:
        """Clusters by name from their rows of the pool and the ratings of all rows, texts read a batch at a time."""
        names = list(members)
        step = max(_BATCH_CLUSTERS, _at_once(self.hands.distiller, 0))
        for start in range(0, len(names), step):
            batch = names[start : start + step]
            rows = [row for name in batch for row in members[name]]
            samples = dict(zip(rows, self.pool.rows(rows), strict=True))
            yield [
                distill_stage.as_cluster(name, [samples[r] for r in members[name]], rating[members[name]].tolist())
                for name in batch
            ]

    def distill(self) -> Work:
        """Turn every cluster into one sample."""
        names = self.run.read_records("cluster", ["cluster"]).column("cluster")
        self._start("distill", pc.count_distinct(names, mode="only_valid").as_py())
        batches = self.distill_stage().run(self.clusters(), self._advance("distill"))
        self._write_batches("distill", distill_stage.SCHEMA, batches)
        table = self.run.read_records("distill", ["answer", "reason"])
        return _worked(len(table), table.column("answer").null_count, table.column("reason"))

    def distill_stage(self) -> DistillStage:
        """The distill stage with the run's distiller."""
        store = self.run.store("distillates", self.hands.distiller.key, distill_stage.STORE_SCHEMA)
        at_once = _at_once(self.hands.distiller, _DISTILL_CLUSTERS)
        return DistillStage(self.hands.distiller, store, chunk_clusters=at_once)

    def _distillates(self) -> Iterator[list[Distillate]]:
        for batch in pq.ParquetFile(self.run.records("distill")).iter_batches(batch_size=_BATCH_CLUSTERS):
            yield distill_stage.read(pa.Table.from_batches([batch]))

    def rerate(self) -> Work:
        """Rate the distillates with the same rater, and count those below the high line as dropped.

        A cascade shows its judge those that may be high.
        """
        self._start("rerate", self.run.need("distill").kept)
        _, rater = self._raters()
        at_once = _at_once(rater, _RATE_ROWS)
        stage = RateStage(rater, self._ratings(rater), chunk_rows=at_once)
        samples = _together(([made.as_sample() for made in batch] for batch in self._distillates()), at_once)
        batches = ((batch, [None] * len(batch)) for batch in samples)
        self._write_batches("rerate", rate_stage.SCHEMA, stage.run(batches, self._advance("rerate")))
        table = self.run.read_records("rerate", ["rating", "reason"])
        work = _worked(len(table), table.column("rating").null_count, table.column("reason"))
        good = int(self._good_distillates().sum())
        if good < work.kept:
            work.dropped["rated-low"] = work.kept - good
            work.kept = good
        return work

    def _good_distillates(self) -> npt.NDArray[np.bool_]:
        rating = self.run.read_records("rerate", ["rating"]).column("rating").to_numpy(zero_copy_only=False)
        line = self.run.need("curate").figures["high_line"]
        return np.array([not np.isnan(r) and _is_high(r, line) for r in rating], bool)

    def select(self) -> Work:
        """Take the budget from the high originals and the distillates that rated high."""
        candidates = self._candidates()
        count = len(candidates.ids)
        budget = parse_budget(self.recipe.select.budget, len(self.pool)) if len(self.pool) else 0
        self._start("select", count)
        result = self.select_stage().run(candidates, budget)
        self.run.write_records("select", result.table)
        dropped = _count([reason for reason in result.table.column("reason").to_pylist() if reason])
        return Work(count, count - sum(dropped.values()), dropped, notes=result.notes, figures=result.figures)

    def select_stage(self) -> SelectStage:
        """The select stage as the recipe sets it."""
        settings = self.recipe.select
        return SelectStage(
            ratio=settings.ratio,
            neighbors=settings.neighbors,
            order=settings.order,
            duplicate_cosine=settings.duplicate_cosine,
            min_sources=settings.min_sources,
            in_tokens=in_tokens(settings.budget),
            method=settings.method,
            seed=self.recipe.seed,
        )

    def _candidates(self) -> Candidates:
        curated = self.run.read_records("curate", ["tier", "curated_rating"])
        high = np.flatnonzero(pc.equal(curated.column("tier"), "high").fill_null(False).to_numpy(zero_copy_only=False))
        taken = pa.array(high)
        ids = self.pool.column("id").take(taken).to_pylist()
        texts = self.pool.column("digest").take(taken).to_pylist()
        ratings = curated.column("curated_rating").take(taken).to_numpy(zero_copy_only=False)
        vectors = [np.asarray(self.vectors[high], dtype=np.float32)]
        good = self._good_distillates()
        rerated = self.run.read_records("rerate", ["rating"]).column("rating").to_numpy(zero_copy_only=False)
        tokens, groups = self.tokens_of_pool(high), self.strata_of_pool(high)
        made_ids: list[str] = []
        sources = [1] * len(ids)
        start = 0
        for batch in self._distillates():
            keep = [made for made, is_good in zip(batch, good[start : start + len(batch)], strict=True) if is_good]
            start += len(batch)
            if keep:
                samples = [made.as_sample() for made in keep]
                made_ids += [made.id for made in keep]
                sources += [len(made.used_ids) for made in keep]
                texts += [s.digest for s in samples]
                tokens += tokens_of(samples)
                groups += [self._stratum(s.source, str(s.task_type)) for s in samples]
                vectors.append(self.hands.embedder.embed([s.text for s in samples]))
        return Candidates(
            ids=[*ids, *made_ids],
            origins=[ORIGINAL] * len(ids) + [DISTILLED] * len(made_ids),
            texts=texts,
            sources=sources,
            ratings=np.concatenate([ratings, rerated[good]]),
            vectors=np.concatenate(vectors),
            tokens=np.array(tokens, np.int64) if in_tokens(self.recipe.select.budget) else None,
            groups=groups,
        )

    def tokens_of_pool(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """What each of these rows of the pool costs, where the budget is in tokens; else nothing is counted."""
        if not in_tokens(self.recipe.select.budget):
            return []
        counted = np.fromiter((n for batch in self.pool.batches() for n in tokens_of(batch)), np.int64, len(self.pool))
        costs: list[int] = counted[rows].tolist()
        return costs

    def strata_of_pool(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The stratum of each of these rows of the pool."""
        taken = pa.array(rows)
        sources, types = (self.pool.column(name).take(taken).to_pylist() for name in ("source", "task_type"))
        return [self._stratum(source, task_type) for source, task_type in zip(sources, types, strict=True)]

    def _stratum(self, source: str, task_type: str) -> str:
        values = {"source": source, "task_type": task_type}
        return "\0".join(values[name] for name in self.recipe.select.stratify)


def _at_once(worker: object, default: int) -> int:
    """How many records to give to a rater or a distiller at a time: more where it says so (an endpoint)."""
    return max(default, getattr(worker, "at_once", None) or 0)


def _together(batches: Iterable[list[T]], at_least: int) -> Iterator[list[T]]:
    """The batches, put together until they hold at least so many."""
    gathered: list[T] = []
    for batch in batches:
        gathered += batch
        if len(gathered) >= at_least:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def cluster_id(member_ids: Sequence[str]) -> str:
    """The name of a cluster: the same for the same members, whatever their order and place."""
    return "mix-" + digest(sorted(member_ids))[:16]


def cluster_ids(labels: Sequence[int], ids: Sequence[str]) -> list[str | None]:
    """A name for each row's cluster that depends on its members alone; None where the label is negative."""
    members: dict[int, list[str]] = {}
    for label, id_ in zip(labels, ids, strict=True):
        members.setdefault(label, []).append(id_)
    names = {label: cluster_id(rows) for label, rows in members.items()}
    return [names[label] if label >= 0 else None for label in labels]


def _worked(count: int, failed: int, reasons: pa.ChunkedArray) -> Work:
    """The counts of a row-wise step; its failures by reason are among the figures and, if there are any, in a note."""
    if not failed:
        return Work(count, count)
    by_reason = _count([reason for reason in reasons.to_pylist() if reason])
    listed = ", ".join(f"{number} {reason}" for reason, number in by_reason.items())
    note = f"{failed} of {count} failed: {listed}; they are tried again when the step is redone"
    return Work(count, count - failed, failed=failed, notes=(note,), figures={"failures": by_reason})


def tiers(
    rating: npt.NDArray[np.float64], high_rating: float, high_share: float | None
) -> tuple[npt.NDArray[np.bool_], dict[str, float]]:
    """Which rows are high, and the line that says so: a class, or a rating that a share of the pool reaches."""
    rated = rating[~np.isnan(rating)]
    if high_share is None:
        line = {"class": high_rating}
    else:
        line = {"rating": float(np.quantile(rated, 1 - high_share, method="higher")) if len(rated) else 5.0}
    return np.array([not np.isnan(r) and _is_high(r, line) for r in rating], bool), line


def _is_high(rating: float, line: dict[str, float]) -> bool:
    return rating_class(rating) >= line["class"] if "class" in line else rating >= line["rating"]


def _hash(vectors: npt.NDArray[np.float16]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(vectors).tobytes(), digest_size=16).hexdigest()


def _count(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}
