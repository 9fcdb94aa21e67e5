"""The embedder that remembers: each text once, the same bytes after a restart, nonsense refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_mixup.embed.cached import CachedEmbedder, vector_schema
from lm_mixup.store import Store
from tests.fakes import WordEmbedder


def cached(folder: Path, inner: WordEmbedder) -> CachedEmbedder:
    return CachedEmbedder(inner, Store(folder, vector_schema(inner.dim)), chunk_texts=2)


def test_each_text_is_embedded_once_even_across_restarts(tmp_path: Path):
    inner = WordEmbedder()
    texts = ["a b", "c", "a b", "d e f", "c"]
    first = cached(tmp_path, inner).embed(texts)
    assert inner.texts == 3
    again = cached(tmp_path, inner)
    assert np.array_equal(again.embed(texts[::-1]), first[::-1])
    assert inner.texts == 3
    assert again.embedded == 0
    assert np.allclose(first, inner.embed(texts), atol=1e-3)
    assert (again.key, again.dim) == (inner.key, inner.dim)


def test_no_text_gives_no_vector(tmp_path: Path):
    assert cached(tmp_path, WordEmbedder()).embed([]).shape == (0, 64)


@pytest.mark.parametrize("vectors", [np.zeros((1, 3)), np.full((2, 64), np.nan)])
def test_vectors_of_another_shape_or_no_numbers_are_refused(tmp_path: Path, vectors: np.ndarray):
    class Broken(WordEmbedder):
        def embed(self, texts):
            return vectors

    with pytest.raises(ValueError, match="expected finite vectors"):
        cached(tmp_path, Broken()).embed(["a", "b"])
