"""A stand-in embedder without a model: for tests of recipes and of stages, not for real runs.

It sees letters, not meaning: texts that share character sequences are near, a paraphrase is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import InputError
from lm_mixup.ports import Vectors

# multiplier and finaliser of splitmix64: well-mixed 64-bit hashes from integer arithmetic alone, the same everywhere
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


class HashEmbedder:
    """Unit vectors of hashed character n-grams, with signs (the "hashing trick"), square roots of counts.

    ``dim``: length of a vector. ``ngrams``: lengths of the character sequences that are counted, in the case-folded
    text with a space on either side. An empty text, and one whose counts cancel out, gets the first axis.
    Exactly the same on every machine. About 10,000 short texts a second.
    """

    def __init__(self, *, dim: int = 256, ngrams: Sequence[int] = (3, 5)) -> None:
        if dim < 2:
            raise InputError(f"dim: expected at least 2, got {dim}")
        if not ngrams or min(ngrams) < 1:
            raise InputError(f"ngrams: expected lengths of at least 1, got {list(ngrams)}")
        self._dim = dim
        self._ngrams = tuple(sorted(set(ngrams)))

    @property
    def key(self) -> str:
        """Kind, lengths of n-grams, dimension, version of the method."""
        return f"hash-n{'.'.join(map(str, self._ngrams))}-d{self._dim}-v1"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n_texts, dim) float32, unit rows (rounded to float16, as all embedders here)."""
        vectors = np.zeros((len(texts), self._dim), np.float32)
        for row, text in enumerate(texts):
            counts = self._counts(text)
            values = np.sign(counts) * np.sqrt(np.abs(counts))
            norm = np.sqrt((values * values).sum())
            if norm == 0:
                vectors[row, 0] = 1.0
            else:
                vectors[row] = (values / norm).astype(np.float16)
        return vectors

    def _counts(self, text: str) -> npt.NDArray[np.float64]:
        counts = np.zeros(self._dim)
        if not text:
            return counts
        points = np.frombuffer(f" {text.casefold()} ".encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
        for length in self._ngrams:
            if len(points) < length:
                continue
            hashes = np.full(len(points) - length + 1, np.uint64(length))
            for offset in range(length):  # arithmetic modulo 2**64 is what is wanted here
                hashes = (hashes ^ points[offset : offset + len(hashes)]) * _MULTIPLIER
                hashes ^= hashes >> np.uint64(29)
            hashes = (hashes * _MIX) >> np.uint64(16)
            signs = np.where(hashes & np.uint64(1), 1.0, -1.0)
            buckets = ((hashes >> np.uint64(1)) % np.uint64(self._dim)).astype(np.int64)
            counts += np.bincount(buckets, signs, minlength=self._dim)
        return counts
