"""Reading MIXTURE, ours or the authors', from a folder or from the hub, into the same rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from lm_mixup.errors import MissingExtraError, PoolError
from lm_mixup.mixture.rows import SPLITS, Row, make_row, read_parquet, variants_of
from lm_mixup.pool.plain import plain
from lm_mixup.records import TaskType

_SFT_FILE = re.compile(r"^merged_(train|test)_(qa|mcq|tfq|cs|para)(?:_noisy)?\.json$")
GRPO_FOLDERS = ("data_grpo", "data/llm_mixup", "llm_mixup", "data", ".")
"""Where the authors' GRPO files have been seen: their download script renames ``data_grpo``, their config reads
``data/llm_mixup``."""
_HUB_ID = re.compile(r"^(?:hf://(?:datasets/)?)?([\w.-]+/[\w.-]+)$")


def load_mixture(where: str | Path, *, cache_dir: Path | None = None, endpoint: str | None = None) -> list[Row]:
    """The rows of a folder in any of the layouts, or of a hub id such as ``dokiik/MIXTURE``.

    ``cache_dir`` and ``endpoint`` are the hub's; None: as its own settings say.

    A row that stands in several files of a layout (the test rows do) is given once, with all that the files say of it.
    Raises PoolError where nothing is found or a file is not of its shape.
    """
    folder = Path(where)
    if not folder.exists():
        found = _HUB_ID.match(str(where))
        if not found:
            raise PoolError(f"{where}: no such folder, and no hub id (NAME/NAME)")
        folder = _from_hub(found[1], cache_dir, endpoint)
    rows = list(_ours(folder)) or list(_authors(folder))
    if not rows:
        raise PoolError(
            f"{where}: expected sft.parquet, grpo.parquet or test.parquet, or the authors' "
            "data_sft/TYPE/merged_train_TYPE_noisy.json and data_grpo/train.json; found neither"
        )
    return _once(rows)


def _ours(folder: Path) -> Iterator[Row]:
    for split in SPLITS:
        path = folder / f"{split}.parquet"
        if path.is_file():
            yield from (replace(row, split=row.split or split) for row in read_parquet(path))


def _authors(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.rglob("merged_*.json")):
        found = _SFT_FILE.match(path.name)
        if found:
            split = "sft" if found[1] == "train" else "test"
            for number, row in enumerate(_array(path)):
                yield _row(row, TaskType(found[2]), split, path, number)
    for place in GRPO_FOLDERS:
        files = [(folder / place / f"{name}.json", split) for name, split in (("train", "grpo"), ("test", "test"))]
        if any(path.is_file() for path, _ in files):
            for path, split in files:
                if path.is_file():
                    for number, row in enumerate(_array(path)):
                        yield _row(row, _task_type(row, path, number), split, path, number)
            return


def _row(row: Mapping[str, Any], task_type: TaskType, split: str, path: Path, number: int) -> Row:
    for name in ("input", "output"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise PoolError(f'{path} element {number}: expected text in "{name}", got {row.get(name)!r:.80}')
    given = {name: str(row[name]) for name in ("id", "cot", "source", "instruction") if row.get(name) not in (None, "")}
    # the instruction of GRPO's rows is in nobody's file: ours for the type takes its place
    return make_row(
        task_type, variants_of(task_type, row["input"]), row["output"], input=row["input"], split=split, **given
    )


def _task_type(row: Mapping[str, Any], path: Path, number: int) -> TaskType:
    said = str(row.get("task_type", "")).removesuffix("_mixup")
    if said not in set(TaskType):
        raise PoolError(
            f'{path} element {number}: expected "task_type" among {", ".join(f"{t}_mixup" for t in TaskType)}, '
            f"got {row.get('task_type')!r:.80}"
        )
    return TaskType(said)


def _array(path: Path) -> list[dict[str, Any]]:
    try:
        rows = plain(orjson.loads(path.read_bytes()))
    except (OSError, orjson.JSONDecodeError) as error:
        raise PoolError(f"{path}: expected a JSON array: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PoolError(f"{path}: expected a JSON array of objects")
    return rows


def _once(rows: list[Row]) -> list[Row]:
    """Rows of one type, input, output and split once: the first, with what it lacks taken from the later ones."""
    out: dict[tuple[str, str, str, str], Row] = {}
    for row in rows:
        key = (row.task_type, row.input, row.output, row.split)
        first = out.get(key)
        if first is None:
            out[key] = row
        else:
            more = {name: getattr(row, name) for name in ("cot", "source", "group") if not getattr(first, name)}
            out[key] = replace(first, **more)
    return list(out.values())


def _from_hub(name: str, cache_dir: Path | None, endpoint: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise MissingExtraError("reading from the hub", "hub", "huggingface-hub") from None
    try:
        return Path(
            snapshot_download(
                name,
                repo_type="dataset",
                cache_dir=cache_dir,
                endpoint=endpoint,
                allow_patterns=["*.json", "*.parquet"],
            )
        )
    except (HfHubHTTPError, OSError) as error:
        raise PoolError(f"{name}: cannot be fetched from the hub: {type(error).__name__}") from error
