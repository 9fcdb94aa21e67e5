"""An embedder that remembers: each text is embedded once per run, however often it is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lm_mixup.ports import Embedder, Vectors
from lm_mixup.records import digest
from lm_mixup.store import Store


def vector_schema(dim: int) -> pa.Schema:
    """Columns of a store of vectors: float16, which moves a cosine by less than 0.001."""
    return pa.schema([pa.field("vector", pa.list_(pa.float16(), dim))])


class CachedEmbedder:
    """An Embedder over another one and a store. Vectors come back as stored, in float16 precision.

    ``seconds`` is the time spent in the inner embedder, ``embedded`` the number of texts it was given.
    """

    def __init__(self, inner: Embedder, store: Store, *, chunk_texts: int = 4096) -> None:
        self._inner = inner
        self._store = store
        self._chunk_texts = chunk_texts
        self.seconds = 0.0
        self.embedded = 0

    @property
    def key(self) -> str:
        """The inner embedder's key."""
        return self._inner.key

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._inner.dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n_texts, dim) float32 unit rows (to float16 precision). Finished chunks outlive the process."""
        keys = [digest(text) for text in texts]
        missing = self._store.missing(keys)
        for start in range(0, len(missing), self._chunk_texts):
            self._fill(missing[start : start + self._chunk_texts], keys, texts)
        column = self._store.take(keys).column("vector").combine_chunks()
        flat = np.asarray(column.flatten(), dtype=np.float16)
        return flat.reshape(len(texts), self.dim).astype(np.float32)

    def _fill(self, positions: Sequence[int], keys: Sequence[str], texts: Sequence[str]) -> None:
        begin = time.perf_counter()
        vectors = np.asarray(self._inner.embed([texts[i] for i in positions]), dtype=np.float32)
        self.seconds += time.perf_counter() - begin
        self.embedded += len(positions)
        if vectors.shape != (len(positions), self.dim) or not np.isfinite(vectors).all():
            raise ValueError(
                f"embedder {self.key!r}: expected finite vectors of shape {(len(positions), self.dim)}, "
                f"got shape {vectors.shape}"
            )
        flat = pa.array(vectors.astype(np.float16).ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, self.dim)
        self._store.append([keys[i] for i in positions], [column])
