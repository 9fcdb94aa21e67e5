"""The stand-in embedder."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.embed.hashing import HashEmbedder
from lm_mixup.errors import InputError
from lm_mixup.ports import Embedder

TEXTS = st.lists(st.text(max_size=60), min_size=1, max_size=8)


def test_it_is_an_embedder() -> None:
    assert isinstance(HashEmbedder(), Embedder)


@given(TEXTS, st.randoms(use_true_random=False))
def test_unit_rows_that_depend_on_their_text_alone(texts: list[str], random: object) -> None:
    embedder = HashEmbedder(dim=64)
    vectors = embedder.embed(texts)
    assert vectors.shape == (len(texts), 64)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert (vectors == vectors.astype(np.float16)).all()
    order = list(range(len(texts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert embedder.embed([texts[i] for i in order]).tobytes() == vectors[order].tobytes()


def test_shared_letters_are_near_and_others_are_not() -> None:
    a, b, c = HashEmbedder().embed(
        ["The capital of France is Paris.", "the capital of france is Paris!", "Boil eggs for ten minutes"]
    )
    assert a @ b > 0.8
    assert a @ c < 0.3


def test_the_same_numbers_on_every_machine() -> None:
    vectors = HashEmbedder(dim=32).embed(["", "a", "naïve café 北京", "x" * 1000])
    assert vectors[0].tolist() == [1.0] + [0.0] * 31
    found = hashlib.sha256(vectors.astype("<f2").tobytes()).hexdigest()
    assert found == "3d3f733835fda3f6c3f4c8434993648a54b6319aa07144c0d0285948830e66c9"


def test_the_key_names_the_settings() -> None:
    keys = {HashEmbedder().key, HashEmbedder(dim=128).key, HashEmbedder(ngrams=(2,)).key}
    assert len(keys) == 3


@pytest.mark.parametrize("settings", [{"dim": 1}, {"ngrams": ()}, {"ngrams": (0,)}])
def test_settings_that_cannot_be(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        HashEmbedder(**settings)  # type: ignore[arg-type]
