"""What the user came for: train.jsonl, its lineage, and the data set card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from lm_mixup import __version__
from lm_mixup.files import replacing
from lm_mixup.pool.table import PoolTable
from lm_mixup.records import Distillate
from lm_mixup.run_folder import Run
from lm_mixup.stages import distill

_BATCH_ROWS = 1000


@dataclass(frozen=True)
class Product:
    """One row of the train set with where it comes from."""

    row: dict[str, Any]
    lineage: dict[str, Any]


def write(run: Run, *, seed: int, versions: Mapping[str, str]) -> int:
    """Write ``train.jsonl`` and ``lineage.jsonl``, line for line, and return the number of rows.

    The order is shuffled under the seed, so that the first n rows are a fair sample of the whole.
    """
    count = 0
    with (
        replacing(run.folder / "train.jsonl") as train,
        replacing(run.folder / "lineage.jsonl") as lineage,
        train.open("wb") as train_file,
        lineage.open("wb") as lineage_file,
    ):
        for product in products(run, seed=seed, versions=versions):
            train_file.write(orjson.dumps(product.row) + b"\n")
            lineage_file.write(orjson.dumps(product.lineage) + b"\n")
            count += 1
    return count


def products(run: Run, *, seed: int, versions: Mapping[str, str]) -> Iterator[Product]:
    """The rows of the train set in order, a batch of texts in memory at a time."""
    selected = run.read_records("select")
    chosen = selected.filter(selected.column("selected")).to_pylist()
    chosen.sort(key=lambda row: _shuffle_key(seed, row["id"]))
    pool = PoolTable(run.records("pool"))
    wanted = {row["id"] for row in chosen}
    places = _Places(run, pool, wanted)
    for start in range(0, len(chosen), _BATCH_ROWS):
        batch = chosen[start : start + _BATCH_ROWS]
        originals = [places.rows[row["id"]] for row in batch if row["origin"] == "original"]
        texts = {sample.id: sample for sample in pool.rows(originals)}
        for row in batch:
            if row["origin"] == "original":
                sample = texts[row["id"]]
                messages = [m.as_dict() for m in sample.messages]
                tools = {"tools": sample.fields["tools"]} if sample.fields.get("tools") else {}
                yield Product({"id": sample.id, "messages": messages, **tools}, places.original(row, versions))
            else:
                made = places.distillates[row["id"]]
                messages = [m.as_dict() for m in made.messages]
                yield Product({"id": made.id, "messages": messages}, places.distilled(row, made, versions))


class _Places:
    """Where each selected row, and each source of a selected distillate, stands in the pool."""

    def __init__(self, run: Run, pool: PoolTable, wanted: set[str]) -> None:
        table = run.read_records("distill")
        table = table.filter(pc.is_in(table.column("id"), value_set=pa.array(sorted(wanted), pa.string())))
        self.distillates: dict[str, Distillate] = {d.id: d for d in distill.read(table)}
        sources = {id_ for d in self.distillates.values() for id_ in d.source_ids}
        needed = pa.array(sorted(wanted | sources), pa.string())
        ids = pool.column("id")
        at = np.flatnonzero(pc.is_in(ids, value_set=needed).to_numpy())
        self.rows: dict[str, int] = dict(zip(ids.take(pa.array(at)).to_pylist(), at.tolist(), strict=True))
        self._at = {row: place for place, row in enumerate(at.tolist())}
        self._pool = {name: pool.column(name).take(pa.array(at)).to_pylist() for name in ("pool", "line", "source")}
        rated = run.read_records("curate", ["rating", "curated_rating"]).take(pa.array(at))
        self._rating = rated.column("rating").to_pylist()
        self._curated = rated.column("curated_rating").to_pylist()

    def original(self, row: dict[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
        place = self._at[self.rows[row["id"]]]
        return {
            "id": row["id"],
            "origin": "original",
            "source_ids": [row["id"]],
            "cluster": None,
            "rating_before": self._rating[place],
            "rating": row["rating"],
            "sources": [self._source(row["id"])],
            "versions": dict(versions),
        }

    def distilled(self, row: dict[str, Any], made: Distillate, versions: Mapping[str, str]) -> dict[str, Any]:
        sources = [self._source(id_) for id_ in made.source_ids]
        return {
            "id": made.id,
            "origin": "distilled",
            "source_ids": list(made.source_ids),
            "used_ids": list(made.used_ids),
            "cluster": made.cluster,
            "rating_before": round(sum(s["rating"] for s in sources) / len(sources), 4),
            "rating": row["rating"],
            "think": made.think,
            "sources": sources,
            "versions": dict(versions),
        }

    def _source(self, id_: str) -> dict[str, Any]:
        place = self._at[self.rows[id_]]
        entry = {name: values[place] for name, values in self._pool.items()}
        return {"id": id_, **entry, "rating": self._curated[place]}


def _shuffle_key(seed: int, id_: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{id_}".encode(), digest_size=16).digest()


def card(summary: Mapping[str, Any], recipe_text: str) -> str:
    """The data set card: YAML front matter that the hub understands, then what was done, in figures."""
    rows, stages = summary["rows"], summary["stages"]
    lines = [
        "---",
        "language_creators: [machine-generated, found]",
        "task_categories: [text-generation]",
        "tags: [instruction-tuning, instruction-distillation, lm-mixup]",
        f"size_categories: [{_size_category(rows['train'])}]",
        "configs:",
        "- config_name: default",
        "  data_files: train.jsonl",
        "---",
        "",
        "# A distilled instruction-tuning set",
        "",
        f"{rows['train']} rows, made from {rows['in']} by [lm-mixup](https://arxiv.org/abs/2510.20449) {__version__}. "
        "The licence is that of the pools it was made from: name it here before you publish.",
        "",
        "| stage | unit | in | kept | dropped | failed |",
        "|---|---|---|---|---|---|",
    ]
    for name, stage in stages.items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in stage["dropped"].items()) or "0"
        lines.append(f"| {name} | {stage['unit']} | {stage['in']} | {stage['kept']} | {dropped} | {stage['failed']} |")
    lines += ["", f"Quarantined before the first stage: {rows['quarantined']} rows (`quarantine.jsonl`).", ""]
    if summary["notes"]:
        lines += [*(f"- {note}" for note in summary["notes"]), ""]
    lines += [
        "Each line of `train.jsonl` has its origin in the same line of `lineage.jsonl`: the rows of the pool that it "
        "was made from, with file, line and rating.",
        "",
        "## Recipe",
        "",
        "```yaml",
        recipe_text.strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _size_category(rows: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < limit:
            return name
    return "n>1M"


def before_and_after(run: Run) -> dict[str, dict[str, float | int | None]]:
    """Figures of the pool and of the train set: rows, mean rating, share of high ratings, mean completion length."""
    curated = run.read_records("curate", ["rating"]).column("rating")
    lineage = list(read_jsonl(run.folder / "lineage.jsonl"))
    lengths_before = _lengths(
        sample.completion for batch in PoolTable(run.records("pool")).batches() for sample in batch
    )
    train = list(read_jsonl(run.folder / "train.jsonl"))
    lengths_after = _lengths(row["messages"][-1]["content"] for row in train)
    ratings_after = [row["rating"] for row in lineage]
    return {
        "pool": {
            "rows": len(curated),
            "mean_rating": _mean([r for r in curated.to_pylist() if r is not None]),
            "mean_completion_characters": lengths_before,
        },
        "train set": {
            "rows": len(train),
            "mean_rating": _mean(ratings_after),
            "mean_completion_characters": lengths_after,
            "distilled": sum(row["origin"] == "distilled" for row in lineage),
        },
    }


def telling_examples(run: Run, count: int) -> list[str]:
    """Ids of distilled rows worth showing: those that used the most sources, the better rated first."""
    made = [row for row in read_jsonl(run.folder / "lineage.jsonl") if row["origin"] == "distilled"]
    made.sort(key=lambda row: (-len(row["used_ids"]), -row["rating"], row["id"]))
    return [row["id"] for row in made[:count]]


def story(run: Run, id_: str) -> dict[str, Any] | None:
    """A row of the train set with its lineage and the texts of its sources; None where there is no such row."""
    for row, lineage in zip(
        read_jsonl(run.folder / "train.jsonl"), read_jsonl(run.folder / "lineage.jsonl"), strict=True
    ):
        if row["id"] != id_:
            continue
        pool = PoolTable(run.records("pool"))
        wanted = {source["id"]: source for source in lineage["sources"]}
        at = np.flatnonzero(pc.is_in(pool.column("id"), value_set=pa.array(list(wanted), pa.string())).to_numpy())
        texts = {sample.id: [m.as_dict() for m in sample.messages] for sample in pool.rows(at)}
        sources = [source | {"messages": texts[source["id"]]} for source in lineage["sources"]]
        return {**lineage, "messages": row["messages"], "sources": sources}
    return None


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file that a run wrote itself."""
    with path.open("rb") as handle:
        for line in handle:
            yield orjson.loads(line)


def _lengths(texts: Iterator[str]) -> float | None:
    return _mean([float(len(text)) for text in texts])


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None
