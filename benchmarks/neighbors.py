"""Neighbours, clusters, curation and near-duplicates: ours beside a textbook implementation and one faiss graph.

    python -m benchmarks.neighbors --n 50000                  # generated rows (benchmarks/generated.py)
    python -m benchmarks.neighbors --data mixed_pool          # the real pool of LM_MIXUP_DATA, embedded first
    python -m benchmarks.neighbors --vectors V.npy            # any (n, dim) unit rows
    python -m benchmarks.neighbors --n 10000 --json           # one JSON array at the end
    python -m benchmarks.neighbors --growth G.json            # generated rows of all SIZES into G.json, drawn in G.svg
    OMP_NUM_THREADS=2 python -m benchmarks.neighbors --n 1000000 --threads 2 --only clusters --textbook-rows 0

The textbook runs on at most ``--textbook-rows`` rows (or queries against all rows, for searches) and is scaled to all:
its seconds are then marked with *. ``same_rows`` sets the quality of ours beside the textbook's on the rows that both
were given. ``strangers``: the share of rows whose mean cosine to the others of their cluster is below 0.4. ``x graph``
is our CPU-seconds over those of one plain faiss IVF graph (k = 16, 4 √n cells, 8 probes) of the same vectors in the
same run, or nothing where ``--only`` leaves that out. Set OMP_NUM_THREADS=1 for one thread. ``--growth`` goes on where
it was interrupted: it measures nothing that G.json holds already.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import textbook
from benchmarks.generated import generate
from benchmarks.neighbors_plot import drawing, exponent
from lm_mixup import pool
from lm_mixup.clustering import cluster, figures
from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.curation import curate
from lm_mixup.neighbors import Graph, build
from lm_mixup.neighbors.search import search_exact, unit
from lm_mixup.recipe import Recipe
from lm_mixup.selection import NearDuplicates, long_tail, near_duplicates

BANDS = {
    "cluster 2-5, mean 3": {"min_size": 2, "max_size": 5, "mean_size": 3.0},
    "cluster 2-25, mean 10": {"min_size": 2, "max_size": 25, "mean_size": 10.0},
}
GRAPH_K = 24
FLOORS = (0.3, 0.4, 0.5, 0.6, 0.7)
STRANGER = 0.4
WORKS = ("yardstick", "clusters", "long-tail", "curation", "near-duplicates")
YARDSTICK, CONTROL = "plain faiss IVF graph", "curation, clean control"
SIZES = (10_000, 30_000, 50_000, 100_000, 300_000)
SAID = (
    "clusters",
    "mean_size",
    "cosine_to_mean",
    "pairwise_cosine",
    "pairwise_cosine_by_row",
    "pairwise_cosine_by_cluster",
    "pairwise_cosine_tenth_percentile",
)


@dataclass
class Line:
    """One piece of work. ``scaled``: the textbook's seconds are projected from fewer rows. ``times_graph``: of CPU."""

    work: str
    n: int
    ours_s: float
    ours_cpu_s: float
    peak_mb: float
    times_graph: float | None = None
    textbook_s: float | None = None
    textbook_cpu_s: float | None = None
    scaled: bool = False
    quality: dict[str, Any] = field(default_factory=dict)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """The result, wall seconds, CPU seconds, and the peak of resident memory in MB while it ran (Linux)."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if clear.exists():
        clear.write_text("5")
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = 0.0
    if status.exists():
        peak = next(int(x.split()[1]) / 1024 for x in status.read_text().splitlines() if x.startswith("VmHWM"))
    return result, wall, cpu, peak


def line(name: str, n: int, work: Callable[[], Any]) -> tuple[Any, Line]:
    result, wall, cpu, peak = timed(work)
    return result, Line(name, n, round(wall, 3), round(cpu, 3), round(peak))


def plain_faiss_graph(vectors: np.ndarray, threads: int) -> None:
    """One plain IVF graph: the yardstick."""
    import faiss

    faiss.omp_set_num_threads(threads)
    rows = vectors.astype(np.float32)
    cells = max(1, int(4 * len(rows) ** 0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(rows[: 64 * cells])
    index.add(rows)
    index.nprobe = 8
    for low in range(0, len(rows), 1 << 16):
        index.search(rows[low : low + (1 << 16)], 17)


def graph_line(vectors: np.ndarray, threads: int) -> tuple[Graph, Line]:
    graph, out = line("graph, k = 24", len(vectors), lambda: build(vectors, GRAPH_K, threads=threads))
    out.quality = {"exact": graph.exact, "recall": round(graph.recall, 4), "error": round(graph.error, 5)}
    return graph, out


def quality(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures of clusters, and the share of strangers in them."""
    said = figures(vectors, np.arange(len(vectors)), labels.astype(np.int64))
    placed = np.flatnonzero(labels >= 0)
    rows, own = unit(vectors[placed]), labels[placed]
    sizes = np.bincount(own)
    by = np.argsort(own, kind="stable")
    present, begins = np.unique(own[by], return_index=True)
    sums = np.zeros((len(sizes), rows.shape[1]), np.float32)
    sums[present] = np.add.reduceat(rows[by], begins, axis=0)
    strange = [
        (np.einsum("ij,ij->i", rows[part], sums[own[part]]) - 1) / np.maximum(sizes[own[part]] - 1, 1) < STRANGER
        for part in np.array_split(np.arange(len(placed)), 1 + len(placed) // 10_000)
    ]
    return {key: said[key] for key in SAID if key in said} | {
        "strangers": round(float(np.concatenate(strange).mean()), 4)
    }


def cluster_lines(vectors: np.ndarray, graph: Graph, groups: np.ndarray | None, some: np.ndarray) -> list[Line]:
    """Every row placed, in each band; on rows of real sources also the curve over the floors.

    ``some``: the rows that the textbook is given, as dense as all are where that can be had.
    """
    out = []
    n = len(vectors)
    for name, band in BANDS.items():
        found, one = line(name, n, lambda band=band: cluster(vectors, graph, groups=groups, **band))
        one.quality = quality(vectors, found.labels)
        if len(some):
            labels, wall, cpu, _ = timed(lambda band=band: textbook.clusters(unit(some), **band))
            scale, one.scaled = (n / len(some)) ** 2, len(some) < n
            one.textbook_s, one.textbook_cpu_s = round(wall * scale, 1), round(cpu * scale, 1)
            ours = cluster(some, graph if len(some) == n else build(some, GRAPH_K), **band).labels
            same = {"ours": quality(some, ours), "textbook": quality(some, labels)}
            one.quality["same_rows"] = {"rows": len(some), **same}
        out.append(one)
    for floor in FLOORS if groups is not None else ():
        found, one = line(
            f"cluster 2-5, floor {floor}", n, lambda floor=floor: cluster(vectors, graph, groups=groups, floor=floor)
        )
        one.quality = {"left_out": round(float((found.labels < 0).mean()), 4), **quality(vectors, found.labels)}
        out.append(one)
    return out


def long_tail_line(vectors: np.ndarray, graph: Graph, graph_s: Line, rows: int, sample: int = 2048) -> Line:
    """Ours includes the graph, since it is nothing without."""
    ours, one = line("long-tail, k = 15 (with the graph)", len(vectors), lambda: long_tail(graph))
    one.ours_s, one.ours_cpu_s = one.ours_s + graph_s.ours_s, one.ours_cpu_s + graph_s.ours_cpu_s
    one.peak_mb = max(one.peak_mb, graph_s.peak_mb)
    drawn = np.sort(np.random.default_rng(0).permutation(len(vectors))[:sample])
    base = unit(vectors)
    exact = 1 - search_exact(base[drawn], base, min(15, len(base) - 1), own=drawn)[1].astype(float).mean(axis=1)
    one.quality = {"spearman_with_exact": round(spearman(ours[drawn], exact), 5)}
    if rows:
        queries = drawn[: min(sample, len(drawn))]
        _, wall, cpu, _ = timed(lambda: textbook.long_tail(base, queries))
        scale, one.scaled = len(vectors) / len(queries), len(queries) < len(vectors)
        one.textbook_s, one.textbook_cpu_s = round(wall * scale, 1), round(cpu * scale, 1)
    return one


def curation_lines(
    vectors: np.ndarray, graph: Graph, true: np.ndarray, observed: np.ndarray, rows: int, exact: bool
) -> list[Line]:
    n = len(vectors)
    found, one = line("curation (without the graph)", n, lambda: curate(observed, graph))
    wrong = observed != true
    one.quality = {
        "wrong": round(float(wrong.mean()), 4),
        "flagged": round(float(found.flagged.mean()), 4),
        "average_precision": round(average_precision(found.confidence, wrong), 4),
        "wrong_after": round(float((found.curated != true).mean()), 4),
    }
    if exact and not graph.exact:
        base = unit(vectors)
        ids, similarities = search_exact(base, base, GRAPH_K, own=np.arange(n))
        same = curate(observed, Graph(ids, similarities, graph.copy_of, True, 1.0)).flagged
        one.quality["flags_jaccard_with_exact"] = round(
            float((same & found.flagged).sum() / (same | found.flagged).sum()), 4
        )
    if rows:
        few = min(n, rows)
        share = np.full(6, 0.2)
        _, wall, cpu, _ = timed(
            lambda: textbook.flags(unit(vectors[:few]), observed[:few].astype(int), share, rounds=1)
        )
        scale, one.scaled = 51 * (n / few) ** 2, True
        one.textbook_s, one.textbook_cpu_s = round(wall * scale, 1), round(cpu * scale, 1)
    clean, control = line(CONTROL, n, lambda: curate(true, graph))
    control.quality = {"flagged": round(float(clean.flagged.mean()), 4)}
    return [one, control]


def duplicates_line(vectors: np.ndarray, rows: int, threshold: float) -> Line:
    ours, one = line(
        f"near-duplicates {threshold}", len(vectors), lambda: near_duplicates(vectors, threshold=threshold)
    )
    one.quality = {"kept": round(float(ours.kept.mean()), 4), "exact": ours.exact}
    if rows:
        few = min(len(vectors), rows)
        stands, wall, cpu, _ = timed(lambda: textbook.near_duplicates(unit(vectors[:few]), threshold))
        scale, one.scaled = (len(vectors) / few) ** 2, few < len(vectors)
        one.textbook_s, one.textbook_cpu_s = round(wall * scale, 1), round(cpu * scale, 1)
        part = near_duplicates(vectors[:few], threshold=threshold).stands_for
        one.quality["same_as_textbook"] = round(float((stands == part).mean()), 5)
    one.quality |= sound(vectors, ours, threshold)
    return one


def sound(vectors: np.ndarray, found: NearDuplicates, threshold: float, sample: int = 2000) -> dict[str, float]:
    """Held against the definition on a sample of rows, by full products: 1 and 1 where nothing is missed or invented.

    ``pair_recall``: of the near pairs of a sampled row with an earlier kept row, the share where the row is stood for;
    ``right_first``: of the sampled rows, how many are stood for by exactly the first such row, or by none.
    """
    drawn = np.sort(np.random.default_rng(1).permutation(len(vectors))[:sample])
    kept, base = np.flatnonzero(found.kept), unit(vectors)
    caught = pairs = right = 0
    for rows in np.array_split(drawn, 1 + sample * len(kept) // 10**8):
        near = (base[rows] @ base[kept].T >= threshold) & (kept < rows[:, None])
        first = np.where(near.any(axis=1), kept[near.argmax(axis=1)], rows)
        right += int((first == found.stands_for[rows]).sum())
        pairs += int(near.sum())
        caught += int(near[found.stands_for[rows] != rows].sum())
    return {"pairs": pairs, "pair_recall": caught / pairs if pairs else 1.0, "right_first": right / len(drawn)}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def average_precision(score: np.ndarray, truth: np.ndarray) -> float:
    hits = truth[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))


def mixed_pool() -> tuple[np.ndarray, np.ndarray]:
    """Vectors and source numbers of the real pool, embedded by the embedded default (some minutes)."""
    path = Path(os.environ.get("LM_MIXUP_DATA", "../shared/data")) / "pools" / "mixed_pool.jsonl.gz"
    samples = [row.sample for row in pool.read([str(path)]) if isinstance(row, pool.PoolRow)]
    embedder = make_embedder(Recipe(), Edge.of(os.environ))
    vectors = embedder.embed([sample.text for sample in samples]).astype(np.float16)
    return vectors, np.unique([sample.source for sample in samples], return_inverse=True)[1]


def run(args: argparse.Namespace) -> list[Line]:
    groups = true = observed = some = None
    if args.vectors:
        vectors = np.load(args.vectors, allow_pickle=False)
    elif args.data == "mixed_pool":
        vectors, groups = mixed_pool()
    else:
        made = generate(args.n, seed=args.seed)
        vectors, true, observed = made.vectors, made.true, made.observed
        # as many rows a centre as all have: the first rows of all would have hardly a mate each
        some = vectors if args.n <= args.textbook_rows else generate(args.textbook_rows, seed=args.seed).vectors
    if args.n and len(vectors) > args.n:
        vectors, groups = vectors[: args.n], None if groups is None else groups[: args.n]
    some = vectors[: args.textbook_rows] if some is None else some
    lines = []
    if "yardstick" in args.only:
        lines.append(line(YARDSTICK, len(vectors), lambda: plain_faiss_graph(vectors, args.threads))[1])
    graph, first = graph_line(vectors, args.threads)
    lines.append(first)
    if "clusters" in args.only:
        lines += cluster_lines(vectors, graph, groups, some)
    if "long-tail" in args.only:
        lines.append(long_tail_line(vectors, graph, first, args.textbook_rows))
    if "curation" in args.only and true is not None and observed is not None:
        lines += curation_lines(vectors, graph, true, observed, args.textbook_rows, args.exact)
    for threshold in (0.92, 0.85) if "near-duplicates" in args.only else ():
        lines.append(duplicates_line(vectors, args.textbook_rows, threshold))
    for one in lines if "yardstick" in args.only else ():
        one.times_graph = round(one.ours_cpu_s / lines[0].ours_cpu_s, 2)
    return lines


def growth(path: Path, args: argparse.Namespace) -> None:
    """Fill ``path`` with the lines of all sizes, and draw their CPU-seconds beside it."""
    measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for size in args.sizes:
        if str(size) not in measured:
            args.n = size
            measured[str(size)] = [asdict(one) for one in run(args)]
            path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
            print(f"{size:,} rows\n{table([Line(**one) for one in measured[str(size)]])}", flush=True)
    sizes = sorted(measured, key=int)
    series = {
        one["work"]: [
            (int(size), found["ours_cpu_s"])
            for size in sizes
            for found in measured[size]
            if found["work"] == one["work"]
        ]
        for one in measured[sizes[0]]
        if one["work"] not in (YARDSTICK, CONTROL)
    }
    path.with_suffix(".svg").write_text(drawing(series), encoding="utf-8")
    for name, points in series.items():
        print(f"{name:38} N^{exponent(points):.2f}")


def table(lines: list[Line]) -> str:
    rows = [f"{'work':38} {'n':>8} {'ours s':>8} {'cpu s':>8} {'x graph':>8} {'textbook cpu s':>14} {'MB':>6}  quality"]
    for one in lines:
        theirs = "" if one.textbook_s is None else f"{one.textbook_cpu_s:g}{'*' if one.scaled else ''}"
        quality = ", ".join(f"{key} {value}" for key, value in one.quality.items())
        multiple = "" if one.times_graph is None else f"{one.times_graph:.2f}"
        rows.append(
            f"{one.work:38} {one.n:8} {one.ours_s:8.2f} {one.ours_cpu_s:8.2f} {multiple:>8} {theirs:>14} "
            f"{one.peak_mb:6.0f}  {quality}"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=0, help="rows; 10,000 for generated ones")
    parser.add_argument("--data", choices=["generated", "mixed_pool"], default="generated")
    parser.add_argument("--vectors", type=Path, help="an .npy file of unit rows instead")
    parser.add_argument("--textbook-rows", type=int, default=4000, help="0: without the textbook")
    parser.add_argument("--only", choices=WORKS, nargs="+", default=WORKS, help="only these pieces of work")
    parser.add_argument("--exact", action="store_true", help="compare curation with an exact graph above 50,000 rows")
    parser.add_argument("--threads", type=int, default=1, help="of faiss; numpy's are OMP_NUM_THREADS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--growth", type=Path, metavar="G.json", help="measure generated rows of all sizes, and draw them"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    args = parser.parse_args()
    if args.growth:
        return growth(args.growth, args)
    if not args.n and args.data == "generated" and not args.vectors:
        args.n = 10_000
    lines = run(args)
    print(json.dumps([asdict(one) for one in lines]) if args.json else table(lines))
    return None


if __name__ == "__main__":
    main()
