"""A content-addressed table on disk: what was worked out once is never worked out again.

A store is a folder of Arrow segments that are only ever added, each written in one step, so that a process may be
killed at any moment: a segment is there whole or not at all. A row is found by its key, the content hash of
everything that it was computed from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lm_mixup.errors import RunError
from lm_mixup.files import replacing

KEY_BYTES = 16
_MERGE_AT = 200_000
"""Keys held in a dict before they go into the sorted index: a dict entry costs ten times an index entry."""


class Store:
    """Rows of ``schema`` by key. Keys are 32 hex digits. One process may write at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = pa.schema([pa.field("key", pa.binary(KEY_BYTES)), *schema])
        self._segments: list[Path] = []
        self._keys: npt.NDArray[np.bytes_] = np.empty(0, dtype=f"S{KEY_BYTES}")  # sorted
        self._where: npt.NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)  # (segment, row), aligned with _keys
        self._recent: dict[bytes, tuple[int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("seg-*.arrow")):
            self._add_segment(path, self._read(path))
        self._merge()

    def __len__(self) -> int:
        return len(self._keys) + len(self._recent)

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Positions of the keys that are not there yet; of equal keys only the first."""
        found = self._find(keys)
        out: dict[str, int] = {}
        for position, key in enumerate(keys):
            if found[position, 0] < 0:
                out.setdefault(key, position)
        return list(out.values())

    def append(self, keys: Sequence[str], columns: Sequence[pa.Array]) -> None:
        """Add rows as one segment: when this returns, they outlive the process. No key may be there already."""
        if not keys:
            return
        column = pa.array([bytes.fromhex(key) for key in keys], pa.binary(KEY_BYTES))
        table = pa.Table.from_arrays([column, *columns], schema=self.schema)
        path = self.folder / f"seg-{len(self._segments):06d}.arrow"
        with (
            replacing(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, self.schema) as writer,
        ):
            writer.write_table(table)
        self._add_segment(path, table)
        if len(self._recent) > _MERGE_AT:
            self._merge()

    def take(self, keys: Sequence[str]) -> pa.Table:
        """The rows of ``keys`` in their order, without the key column. KeyError if one is not there."""
        found = self._find(keys)
        absent = np.flatnonzero(found[:, 0] < 0)
        if len(absent):
            raise KeyError(f"{self.folder}: no row for key {keys[int(absent[0])]}")
        parts: list[pa.Table] = []
        order = np.lexsort((found[:, 1], found[:, 0]))
        for segment in np.unique(found[:, 0]):
            rows = found[order, 1][found[order, 0] == segment]
            parts.append(self._read(self._segments[int(segment)]).take(pa.array(rows)))
        if not parts:
            return self.schema.empty_table().drop_columns(["key"])
        back = np.empty(len(keys), dtype=np.int64)
        back[order] = np.arange(len(keys))
        return pa.concat_tables(parts).take(pa.array(back)).drop_columns(["key"])

    def _find(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """(n, 2) segment and row of each key, −1 where it is not there."""
        wanted = np.array([bytes.fromhex(key) for key in keys], dtype=self._keys.dtype)
        out = np.full((len(keys), 2), -1, dtype=np.int64)
        if len(self._keys) and len(wanted):
            at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
            hit = self._keys[at] == wanted
            out[hit] = self._where[at[hit]]
        if self._recent:
            for position in np.flatnonzero(out[:, 0] < 0).tolist():
                place = self._recent.get(bytes.fromhex(keys[position]))
                if place:
                    out[position] = place
        return out

    def _add_segment(self, path: Path, table: pa.Table) -> None:
        number = len(self._segments)
        self._segments.append(path)
        for row, key in enumerate(table.column("key").to_pylist()):
            self._recent[key] = (number, row)

    def _merge(self) -> None:
        if not self._recent:
            return
        keys = np.array(list(self._recent), dtype=self._keys.dtype)
        where = np.array(list(self._recent.values()), dtype=np.int64)
        keys, where = np.concatenate([self._keys, keys]), np.concatenate([self._where, where])
        order = np.argsort(keys, kind="stable")
        self._keys, self._where = keys[order], where[order]
        self._recent = {}

    def _read(self, path: Path) -> pa.Table:
        try:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise RunError(
                f"{path}: not a readable Arrow segment ({error}); remove this file to have it redone"
            ) from error
        if table.schema != self.schema:
            raise RunError(
                f"{path}: expected the columns {self.schema.names}, got {table.schema.names}; this folder was written "
                "by another version of lm-mixup: remove it to have it redone"
            )
        return table
