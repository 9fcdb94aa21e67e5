"""The order of the steps; nothing else is decided here. METHOD § 2.

What is costly is kept: vectors in ``DIR/store``, a model's answers in its ledger. A build that was stopped and is run
again goes on from there; everything else is worked out anew, in minutes, to the same bytes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson

from lm_mixup import __version__
from lm_mixup.errors import InputError
from lm_mixup.files import write_bytes
from lm_mixup.mixture.collect import Collector
from lm_mixup.mixture.contamination import Benchmarks, near_benchmarks
from lm_mixup.mixture.cot import chain_of_thought
from lm_mixup.mixture.cross_topic import CrossTopic
from lm_mixup.mixture.degrade import Degraded
from lm_mixup.mixture.grpo_subset import grpo_subset
from lm_mixup.mixture.material import Exercise, Passage, Target
from lm_mixup.mixture.rate import Line, rate_all, to_be_rated, variants_as_samples
from lm_mixup.mixture.rows import Row, make_row, write_authors, write_parquet
from lm_mixup.mixture.split import Split, assign, check_no_overlap, leaks, split_of
from lm_mixup.mixture.write import Written
from lm_mixup.ports import Embedder, Rater, Vectors
from lm_mixup.records import TaskType
from lm_mixup.run_folder import Manifest
from lm_mixup.task_types import render

LAYOUTS = ("ours", "authors")
LINES = (1.0, 2.0, 3.0, 3.5, 4.0)


class Writer(Protocol):
    """Writes targets."""

    @property
    def key(self) -> str:
        """Names everything that the targets depend on, besides the material."""
        ...

    def write(self, passages: Sequence[Passage], exercises: Sequence[Exercise]) -> Written:
        """Targets, and what was not written by reason."""
        ...


class Degrader(Protocol):
    """Makes variants of targets: :class:`RuleDegrader` and :class:`LLMDegrader` do."""

    @property
    def key(self) -> str:
        """Names everything that the variants depend on, besides the targets."""
        ...

    @property
    def told(self) -> Mapping[str, int]:
        """What there is to count besides the variants, after a call."""
        ...

    def degrade_all(self, targets: Sequence[Target]) -> list[Degraded | None]:
        """The targets with their variants, in order; None where too few came out."""
        ...


@dataclass(frozen=True)
class Settings:
    """Numbers of the build; METHOD § 2 and 3 where it has them.

    ``test`` is a share of all rows, ``sft`` of the rest. ``leak_threshold``: cosine from which two rows are nearly the
    same. ``rated_variants``: of so many targets of each type the variants are rated (None: of all).
    ``benchmark_threshold``: cosine from which a target is taken for a benchmark's item (0.75 is where
    items that ask the same in other words were seen to begin: docs/mixture.md); ``benchmark_n``: length of the
    n-grams. ``subset_threshold``, ``subset_share``, ``subset_k``: the GRPO subset.
    """

    seed: int = 0
    test: float = 0.05
    sft: float = 0.30
    leak_threshold: float = 0.92
    rated_variants: int | None = 300
    benchmark_n: int = 10
    benchmark_threshold: float = 0.75
    subset_threshold: float = 0.92
    subset_share: float = 0.5
    subset_k: int = 16


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a row is made of."""

    made: Degraded
    split: Split
    rating: float | None
    variant_ratings: tuple[float | None, ...]
    in_subset: bool | None


@dataclass
class Build:
    """What came out. ``steps`` account for every record; ``seconds`` are wall time by step, not part of the bytes.

    Rows exist one at a time, each made when it is asked for: their texts are several times what they are made of.
    """

    kept: Sequence[_Kept]
    seed: int
    steps: list[Manifest]
    figures: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.kept)

    def rows(self, split: Split | None = None) -> Iterator[Row]:
        """The rows, of one split or of all, in order."""
        return (_row(one, self.seed) for one in self.kept if split in (None, one.split))

    def subset_alone(self) -> Build:
        """The same without those rows for GRPO that it does not train on."""
        return replace(self, kept=[one for one in self.kept if one.in_subset is not False])


class Builder:
    """Puts the steps together. Collaborators are passed in; a remembering ``embedder`` makes the build resumable.

    ``benchmarks`` is a folder, or None for no check. ``progress`` is told each step.
    """

    def __init__(
        self,
        *,
        embedder: Embedder,
        rater: Rater,
        writer: Writer,
        degrader: Degrader,
        collector: Collector | None = None,
        cross_topic: CrossTopic | None = None,
        line: Line | None = None,
        benchmarks: Path | None = None,
        settings: Settings | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._embedder = embedder
        self._rater = rater
        self._writer = writer
        self._degrader = degrader
        self._collector = collector or Collector()
        self._cross_topic = cross_topic
        self._line = line or Line()
        self._benchmarks = benchmarks
        self._settings = settings or Settings()
        self._progress = progress
        self._begun = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def build(self, sources: Sequence[str | Path], *, limit: int | None = None) -> Build:
        """Build from the sources; ``limit`` rows of each file at most. Raises what the steps raise."""
        steps: list[Manifest] = []
        self._begun = time.perf_counter()
        collected = self._collector.collect(sources, limit=limit)
        steps.append(self._step("collect", "source rows", collected.rows, collected.kept, collected.dropped))
        written = self._writer.write(collected.passages, collected.exercises)
        targets = written.targets
        steps.append(self._step("write", "targets", written.tried, len(targets), written.dropped))
        del collected, written  # from here on the targets are all that is needed
        targets, vectors = self._clean(targets, steps)
        weights, strata = _groups(targets)
        assigned = assign(
            weights, strata=strata, test=self._settings.test, sft=self._settings.sft, seed=self._settings.seed
        )
        made, origin = self._degrade(targets, steps)
        made = self._cross(made, vectors[origin], assigned, steps)
        vectors = self._embed([one.target for one in made])
        ratings, variant_ratings = self._rate(made)
        figures: dict[str, Any] = {"lines": _lines(made, ratings)}
        if self._degrader.told:
            figures["degrader_told"] = dict(self._degrader.told)
        chosen = self._above(made, ratings, steps)
        splits = [split_of(one.target.groups, assigned) for one in made]
        kept, subset = self._split(made, chosen, vectors, splits, steps)
        check_no_overlap([made[i].target.groups for i in kept], [splits[i] for i in kept])
        rows = [
            _Kept(
                made[i], splits[i], ratings[i], variant_ratings[i], bool(subset[i]) if splits[i] == Split.GRPO else None
            )
            for i in kept
        ]
        return Build(rows, self._settings.seed, steps, figures, dict(self._seconds))

    def _clean(self, targets: list[Target], steps: list[Manifest]) -> tuple[list[Target], Vectors]:
        """Targets that no benchmark holds, and their vectors."""
        if self._benchmarks is None:
            return targets, self._embed(targets)
        known = Benchmarks.read(self._benchmarks, n=self._settings.benchmark_n)
        dropped: Counter[str] = Counter()
        left = [t for t in targets if not known.shares(render(t.item))]
        dropped["benchmark-ngram"] = len(targets) - len(left)
        vectors = self._embed(left)
        near = near_benchmarks(vectors, self._vectors(known.texts), threshold=self._settings.benchmark_threshold)
        dropped["benchmark-embedding"] = int(near.sum())
        kept = [t for t, is_near in zip(left, near.tolist(), strict=True) if not is_near]
        steps.append(self._step("decontaminate", "targets", len(targets), len(kept), dropped))
        return kept, vectors[~near]

    def _degrade(self, targets: Sequence[Target], steps: list[Manifest]) -> tuple[list[Degraded], list[int]]:
        """The targets with variants, and their positions among all targets."""
        tried = self._degrader.degrade_all(targets)
        origin = [i for i, one in enumerate(tried) if one is not None]
        made = [one for one in tried if one is not None]
        lost = Counter({"too-few-variants": len(tried) - len(made)})
        steps.append(self._step("degrade", "targets", len(targets), len(made), lost))
        return made, origin

    def _cross(
        self, made: list[Degraded], vectors: Vectors, assigned: Mapping[str, Split], steps: list[Manifest]
    ) -> list[Degraded]:
        if self._cross_topic is None:
            return made
        targets = [one.target for one in made]
        pairs = self._cross_topic.pairs(targets, vectors, [str(split_of(t.groups, assigned)) for t in targets])
        merged: dict[int, Degraded] = {}
        gone: set[int] = set()
        for a, b in pairs:
            both = self._cross_topic.merge(made[a], made[b])
            if both is not None:
                merged[a] = both
                gone.add(b)
        out = [merged.get(i, one) for i, one in enumerate(made) if i not in gone]
        steps.append(
            self._step("cross_topic", "targets", len(made), len(out), Counter({"merged-into-another": len(gone)}))
        )
        return out

    def _rate(self, made: Sequence[Degraded]) -> tuple[list[float | None], list[tuple[float | None, ...]]]:
        ratings = rate_all(self._rater, [one.target.as_sample() for one in made])
        chosen = to_be_rated(made, self._settings.rated_variants, seed=self._settings.seed)
        samples = [
            s for one, is_chosen in zip(made, chosen, strict=True) if is_chosen for s in variants_as_samples(one)
        ]
        said = iter(rate_all(self._rater, samples))
        variants = [
            tuple(next(said) for _ in one.variants) if is_chosen else (None,) * len(one.variants)
            for one, is_chosen in zip(made, chosen, strict=True)
        ]
        return ratings, variants

    def _above(self, made: Sequence[Degraded], ratings: Sequence[float | None], steps: list[Manifest]) -> list[int]:
        """Positions of the targets that pass the line."""
        passes = self._line.passes([one.target.task_type for one in made], ratings)
        chosen = [i for i, good in enumerate(passes) if good]
        failed = sum(rating is None for rating in ratings)
        low = Counter({"below-the-line": len(made) - len(chosen) - failed})
        steps.append(self._step("rate", "targets", len(made), len(chosen), low, failed))
        return chosen

    def _split(
        self,
        made: Sequence[Degraded],
        chosen: list[int],
        vectors: Vectors,
        splits: Sequence[Split],
        steps: list[Manifest],
    ) -> tuple[list[int], np.ndarray[Any, np.dtype[np.bool_]]]:
        """Positions of the rows that stay, and (all,) whether each is in the GRPO subset."""
        gone, counts = leaks(vectors[chosen], [splits[i] for i in chosen], threshold=self._settings.leak_threshold)
        kept = [i for i, is_gone in zip(chosen, gone.tolist(), strict=True) if not is_gone]
        steps.append(self._step("split", "rows", len(chosen), len(kept), counts))
        rows = [i for i in kept if splits[i] == Split.GRPO]
        subset = np.zeros(len(made), np.bool_)
        types = [str(made[i].target.task_type) for i in rows]
        inside, out = grpo_subset(
            vectors[rows],
            types,
            threshold=self._settings.subset_threshold,
            share=self._settings.subset_share,
            k=self._settings.subset_k,
        )
        subset[np.array(rows, np.int64)] = inside
        steps.append(self._step("grpo_subset", "rows", len(rows), int(inside.sum()), out))
        return kept, subset

    def _embed(self, targets: Sequence[Target]) -> Vectors:
        return self._vectors([target.as_sample().text for target in targets])

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed(texts) if texts else np.zeros((0, self._embedder.dim), np.float32)

    def _step(self, name: str, unit: str, in_: int, kept: int, dropped: Mapping[str, int], failed: int = 0) -> Manifest:
        now = time.perf_counter()
        self._seconds[name], self._begun = round(now - self._begun, 3), now
        lost = {reason: count for reason, count in sorted(dropped.items()) if count}
        manifest = Manifest(name, "", unit, in_, kept, lost, failed)
        told = ", ".join(
            [f"{count:,} {reason}" for reason, count in lost.items()] + ([f"{failed:,} failed"] if failed else [])
        )
        self._progress(
            f"{name:<13} {kept:,} of {in_:,} {unit}{f' ({told})' if told else ''}  {self._seconds[name]:.1f} s"
        )
        return manifest

    def description(self) -> dict[str, Any]:
        """What the rows depend on, besides the sources."""
        return {
            "embedder": self._embedder.key,
            "rater": self._rater.key,
            "writer": self._writer.key,
            "degrader": self._degrader.key,
            "line": asdict(self._line),
            "settings": asdict(self._settings),
        }


def save(built: Build, description: Mapping[str, Any], folder: Path, *, layout: str = "ours") -> Build:
    """Write the splits, ``manifest.json`` and, apart from what is the same in every run, ``timings.json``.

    ``layout`` ``ours`` is a Parquet file for each split; ``authors`` their JSON files, whose GRPO part is the subset
    alone. Returns what was written; the manifest comes last.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "authors":
        built = built.subset_alone()
        write_authors(folder, built.rows())
    else:
        for split in Split:
            write_parquet(folder / f"{split}.parquet", built.rows(split))
    write_bytes(folder / "timings.json", orjson.dumps(built.seconds, option=orjson.OPT_INDENT_2))
    manifest = {
        "version": __version__,
        "layout": layout,
        "steps": [{"step": m.step, **{k: v for k, v in m.counts().items() if k != "seconds"}} for m in built.steps],
        "rows": {str(s): sum(one.split == s for one in built.kept) for s in Split},
        **built.figures,
        **description,
    }
    write_bytes(folder / "manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return built


def _row(one: _Kept, seed: int) -> Row:
    made, target = one.made, one.made.target
    return make_row(
        target.task_type,
        [render(v.item) for v in made.variants],
        render(target.item),
        id=target.id,
        cot=chain_of_thought(made, seed=seed),
        source=target.source,
        group="\n".join(target.groups),
        split=str(one.split),
        rating=one.rating,
        variant_ratings=one.variant_ratings,
        degraders=tuple("+".join(v.kinds) for v in made.variants),
        noise=tuple("+".join(v.noise) for v in made.variants),
        coverage=round(made.coverage, 4),
        in_subset=one.in_subset,
    )


def _groups(targets: Sequence[Target]) -> tuple[dict[str, int], dict[str, str]]:
    """Rows of each group, and the task types that it serves."""
    types: dict[str, Counter[str]] = {}
    for target in targets:
        for group in target.groups:
            types.setdefault(group, Counter())[str(target.task_type)] += 1
    return {g: c.total() for g, c in types.items()}, {g: " ".join(sorted(c)) for g, c in types.items()}


def _lines(made: Sequence[Degraded], ratings: Sequence[float | None]) -> dict[str, dict[str, int]]:
    """How many targets of each type would pass which absolute line."""
    out: dict[str, dict[str, int]] = {}
    for task_type in TaskType:
        known = [r for one, r in zip(made, ratings, strict=True) if one.target.task_type == task_type and r is not None]
        if known:
            passing = {f"at_least_{line:g}": sum(r >= line for r in known) for line in LINES}
            out[str(task_type)] = {"targets": len(known), **passing}
    return out
