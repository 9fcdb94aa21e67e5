"""The whole run, step by step: rows a second, seconds, peak memory; then once more after one row was edited.

``python -m benchmarks.pipeline [--pool FILE] [--limit N] [--json]``; the pool is ``mixed_pool.jsonl.gz`` of
``LM_MIXUP_DATA`` unless said. Everything runs with the embedded defaults, in a folder that is removed at the end.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import lm_mixup
from lm_mixup.run_folder import Manifest
from lm_mixup.steps import Silent

DATA = Path(os.environ.get("LM_MIXUP_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))


def peak_mb(*, reset: bool = False) -> float:
    """Peak resident memory of this process in MB since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Meter(Silent):
    """Notes each step's rows, seconds and peak memory as it finishes."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, Any]] = {}
        peak_mb(reset=True)

    def finish(self, step: str, manifest: Manifest, *, cached: bool) -> None:
        embedding = float(manifest.figures.get("embedding_seconds", 0.0))
        self.steps[step] = {
            "rows": manifest.in_,
            "unit": manifest.unit,
            "seconds": 0.0 if cached else round(manifest.seconds, 3),
            "embedding_seconds": 0.0 if cached else embedding,
            "rows_per_second": round(manifest.in_ / manifest.seconds, 1) if manifest.seconds and not cached else None,
            "peak_mb": round(peak_mb(), 1),
            "already_done": cached,
        }
        peak_mb(reset=True)


def measure(pool: Path, run: Path, limit: int | None) -> dict[str, Any]:
    meter = Meter()
    begin = time.perf_counter()
    result = lm_mixup.run([pool], run, settings=[f"pool.limit={limit}"] if limit else [], watcher=meter)
    whole = time.perf_counter() - begin
    embedding = sum(step["embedding_seconds"] for step in meter.steps.values())
    return {
        "seconds": round(whole, 2),
        "embedding_seconds": round(embedding, 2),
        "besides_embedding_seconds": round(whole - embedding, 2),
        "peak_mb": max(step["peak_mb"] for step in meter.steps.values()),
        "train_rows": result.summary["rows"]["train"],
        "steps": meter.steps,
    }


def edited(pool: Path, to: Path) -> Path:
    """The pool with the answer of one row in the middle replaced."""
    opened = gzip.open if pool.suffix == ".gz" else open
    with opened(pool, "rt", encoding="utf-8") as handle:
        lines = handle.readlines()
    row = json.loads(lines[len(lines) // 2])
    row["messages"][-1]["content"] = "This answer was edited by hand: it is another text than before."
    lines[len(lines) // 2] = json.dumps(row, ensure_ascii=False) + "\n"
    to.write_text("".join(lines), encoding="utf-8")
    return to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, default=DATA / "pools" / "mixed_pool.jsonl.gz")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        copy = work / "pool.jsonl"
        opened = gzip.open if arguments.pool.suffix == ".gz" else open
        with opened(arguments.pool, "rb") as handle:
            copy.write_bytes(handle.read())
        results = {"first": measure(copy, work / "run", arguments.limit)}
        edited(copy, copy)
        results["after_one_edit"] = measure(copy, work / "run", arguments.limit)
    if arguments.json:
        print(json.dumps(results))
        return
    for name, result in results.items():
        print(
            f"\n{name}: {result['seconds']} s, of which embedding {result['embedding_seconds']} s; "
            f"peak {result['peak_mb']:.0f} MB; {result['train_rows']} rows out"
        )
        print(f"{'step':<9}{'rows':>8}{'seconds':>10}{'embedding':>11}{'rows/s':>11}{'peak MB':>9}")
        for step, figures in result["steps"].items():
            speed = f"{figures['rows_per_second']:,.0f}" if figures["rows_per_second"] else "done"
            print(
                f"{step:<9}{figures['rows']:>8}{figures['seconds']:>10.2f}{figures['embedding_seconds']:>11.2f}"
                f"{speed:>11}{figures['peak_mb']:>9.0f}"
            )


if __name__ == "__main__":
    main()
