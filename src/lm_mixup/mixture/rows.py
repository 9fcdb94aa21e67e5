"""A row of MIXTURE, as it is written and read: ours as Parquet, and the authors' two JSON layouts. METHOD § 2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from lm_mixup.errors import InputError, PoolError
from lm_mixup.files import replacing, write_bytes
from lm_mixup.mixture.write import target_id
from lm_mixup.prompts import load
from lm_mixup.records import TaskType

SPLITS = ("sft", "grpo", "test")
ARTICLES = "articles.json"
"""In a trained model's folder: the articles (a row's ``group``) of all rows that it was trained on."""
ROW_GROUP = 2048
JOINT = "\n\n"
"""What parts the variants in an input. No variant of ours holds a blank line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    ``input`` is the variants joined; ``cot`` is "" where there is none; ``group`` is the article (several are joined by
    a line break); ``degraders`` and ``noise`` say for each variant what was done to it; ratings are 0–5, None where
    nobody rated. ``coverage`` is the share of the output's facts that the variants hold; ``in_subset`` whether GRPO
    trains on the row. What a layout does not hold is empty or None.
    """

    id: str
    task_type: str
    instruction: str
    input: str
    variants: tuple[str, ...]
    output: str
    cot: str = ""
    source: str = ""
    group: str = ""
    split: str = ""
    rating: float | None = None
    variant_ratings: tuple[float | None, ...] = ()
    degraders: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    coverage: float | None = None
    in_subset: bool | None = None


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "task_type", "instruction", "input")),
        ("variants", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("output", "cot", "source", "group", "split")),
        ("rating", pa.float32()),
        ("variant_ratings", pa.list_(pa.float32())),
        ("degraders", pa.list_(pa.string())),
        ("noise", pa.list_(pa.string())),
        ("coverage", pa.float32()),
        ("in_subset", pa.bool_()),
    ]
)


def instruction(task_type: TaskType) -> str:
    """What the model is asked to do, for each task type."""
    return str(load(f"mixture_instruction_{task_type}").render()[0]["content"])


def make_row(task_type: TaskType, variants: Sequence[str], output: str, **rest: Any) -> Row:
    """A row with its instruction and input filled in, and an id made of its type and output if none is given."""
    rest.setdefault("id", target_id(task_type, output))
    rest.setdefault("instruction", instruction(task_type))
    rest.setdefault("input", JOINT.join(variants))
    return Row(task_type=str(task_type), variants=tuple(variants), output=output, **rest)


def write_parquet(path: Path, rows: Iterable[Row]) -> int:
    """Write rows in one step; returns how many. The same rows give the same bytes."""
    count = 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(asdict(row))
            count += 1
            if len(batch) >= ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
                batch.clear()
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
    return count


def read_parquet(path: Path) -> list[Row]:
    """The rows of a file that :func:`write_parquet` wrote. Raises PoolError where it is another's."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise PoolError(f"{path}: expected rows of MIXTURE as Parquet: {error}") from error
    lacking = sorted({"id", "task_type", "output", "variants"} - set(table.schema.names))
    if lacking:
        raise PoolError(f"{path}: expected the columns {', '.join(SCHEMA.names)}; it lacks {', '.join(lacking)}")
    known = [name for name in table.schema.names if name in SCHEMA.names]
    return [_from_table(row) for row in table.select(known).to_pylist()]


def _from_table(row: dict[str, Any]) -> Row:
    lists = ("variants", "variant_ratings", "degraders", "noise")
    values: dict[str, Any] = {name: tuple(value or ()) if name in lists else value for name, value in row.items()}
    return Row(**{"instruction": "", "input": "", **values})


def write_authors(folder: Path, rows: Iterable[Row]) -> list[Path]:
    """The authors' layout: ``data_sft/TYPE/merged_{train,test}_TYPE_noisy.json`` and ``data_grpo/{train,test}.json``.

    The test rows stand in both. GRPO's are the rows of the subset, where one was chosen. Rows are written as they come.
    """
    names = {"sft": "train", "grpo": "train", "test": "test"}
    sft = {
        (str(t), split): folder / "data_sft" / str(t) / f"merged_{names[split]}_{t}_noisy.json"
        for t in TaskType
        for split in ("sft", "test")
    }
    grpo = {split: folder / "data_grpo" / f"{names[split]}.json" for split in ("grpo", "test")}
    paths = [*sft.values(), *grpo.values()]
    with ExitStack() as stack:
        arrays = {path: stack.enter_context(_json_array(path)) for path in paths}
        for r in rows:
            if r.split in ("sft", "test"):
                fields = ("id", "instruction", "input", "output", "cot", "source")
                arrays[sft[r.task_type, r.split]]({field: getattr(r, field) for field in fields})
            if r.split in grpo and r.in_subset is not False:
                arrays[grpo[r.split]]({"input": r.input, "output": r.output, "task_type": f"{r.task_type}_mixup"})
    return paths


@contextmanager
def _json_array(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Adds objects, one by one, to the array that the file holds in the end."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        parted = False

        def add(row: Mapping[str, Any]) -> None:
            nonlocal parted
            text = orjson.dumps(row, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n  ")
            file.write((b",\n  " if parted else b"[\n  ") + text)
            parted = True

        yield add
        file.write(b"\n]" if parted else b"[]")


def articles_of(rows: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The articles of rows that are given as (group, id): a row without one is an article of its own."""
    return frozenset(article for group, id in rows for article in (group or id).split("\n"))


def write_articles(folder: Path, articles: Iterable[str]) -> None:
    """Write what a model has met into its folder."""
    write_bytes(folder / ARTICLES, orjson.dumps(sorted(articles), option=orjson.OPT_INDENT_2))


def read_articles(folder: Path) -> frozenset[str]:
    """The articles that :func:`write_articles` wrote. Raises InputError where there are none."""
    try:
        articles = orjson.loads((folder / ARTICLES).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InputError(
            f"{folder}: expected {ARTICLES}, which lm-mixup train writes; {type(error).__name__}: {error}"
        ) from error
    if not isinstance(articles, list) or not all(isinstance(article, str) for article in articles):
        raise InputError(f"{folder / ARTICLES}: expected a list of articles' names")
    return frozenset(articles)


_STARTS = {
    TaskType.QA: re.compile(r"(?:^|(?<=\s))(?=Q:\s)"),
    TaskType.MCQ: re.compile(r"(?:^|(?<=\s))(?=Q:\s)"),
    TaskType.CS: re.compile(r"(?:^|(?<=\s))(?=C:\s)"),
}


def variants_of(task_type: TaskType, text: str) -> tuple[str, ...]:
    """The variants of an input: parted by blank lines, or, where there are none, by the label that begins each.

    The authors also join with a space alone; of ``tfq`` and ``para`` joined so, the pieces cannot be told: one variant.
    """
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    if len(parts) < 2 and task_type in _STARTS:
        parts = [part.strip() for part in _STARTS[task_type].split(text) if part.strip()]
    return tuple(parts)
