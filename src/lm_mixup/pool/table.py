"""The pool of a run: one Arrow file, written once, read in batches or by row number, never whole."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from lm_mixup.files import replacing
from lm_mixup.records import Message, Sample, TaskType

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("pool", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("task_type", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("messages", pa.string(), nullable=False),
        pa.field("fields", pa.string(), nullable=False),
        pa.field("rating", pa.float64()),
    ]
)
"""One row a sample; ``messages`` and ``fields`` are JSON, ``rating`` is what the pool carried (null: nothing)."""

BATCH_ROWS = 4096


def encode_messages(messages: Sequence[Message]) -> str:
    """Messages as JSON text."""
    return orjson.dumps([m.as_dict() for m in messages]).decode()


def decode_messages(text: str) -> tuple[Message, ...]:
    """The inverse of :func:`encode_messages`."""
    return tuple(Message.from_dict(value) for value in orjson.loads(text))


def write_table(path: Path, rows: Iterator[dict[str, object]]) -> int:
    """Write rows (dicts with the keys of :data:`SCHEMA`) in one step and return how many there were."""
    count = 0
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        batch: list[dict[str, object]] = []
        for row in rows:
            batch.append(row)
            count += 1
            if len(batch) == BATCH_ROWS:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    return count


class PoolTable:
    """Read access to a pool file; the text stays on disk (memory map) until a row is asked for."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        sizes = [self._reader.get_batch(i).num_rows for i in range(self._reader.num_record_batches)]
        self._starts = [0, *np.cumsum(sizes).tolist()]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column; meant for the short ones (ids, sources, languages, digests, ratings)."""
        index = SCHEMA.get_field_index(name)
        batches = range(self._reader.num_record_batches)
        return pa.chunked_array([self._reader.get_batch(i).column(index) for i in batches], SCHEMA.field(index).type)

    def batches(self) -> Iterator[list[Sample]]:
        """All samples in order, in the batches of the file."""
        for number in range(self._reader.num_record_batches):
            yield _samples(self._reader.get_batch(number))

    def rows(self, positions: npt.NDArray[np.int64] | Sequence[int]) -> list[Sample]:
        """The samples at these row numbers, in this order."""
        by_batch: dict[int, list[tuple[int, int]]] = {}
        for place, position in enumerate(positions):
            number = bisect.bisect_right(self._starts, position) - 1
            by_batch.setdefault(number, []).append((place, int(position) - self._starts[number]))
        out: list[Sample | None] = [None] * len(positions)
        for number, wanted in by_batch.items():
            taken = self._reader.get_batch(number).take(pa.array([row for _, row in wanted]))
            for (place, _), sample in zip(wanted, _samples(taken), strict=True):
                out[place] = sample
        return [sample for sample in out if sample is not None]


def _samples(batch: pa.RecordBatch) -> list[Sample]:
    names = ("id", "messages", "source", "task_type", "language", "fields")
    columns = [batch.column(name).to_pylist() for name in names]
    return [
        Sample(id_, decode_messages(messages), source, TaskType(task), language, MappingProxyType(orjson.loads(fields)))
        for id_, messages, source, task, language, fields in zip(*columns, strict=True)
    ]
