"""The transformers embedder, where torch is installed: against the OpenVINO one on the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='needs pip install "lm-mixup[transformers]"')
pytest.importorskip("transformers", reason='needs pip install "lm-mixup[transformers]"')

from lm_mixup.embed.minilm import MiniLMEmbedder
from lm_mixup.embed.transformers import TransformersEmbedder
from lm_mixup.errors import ModelError

TEXTS = ["A dog runs in the park.", "Ünïcödé 北京", "", "word " * 300, "the quick brown fox " * 60]


def test_the_same_vectors_as_openvino_and_each_from_its_text_alone(minilm_folder: Path) -> None:
    embedder = TransformersEmbedder(minilm_folder, max_tokens=256, batch_tokens=1024, device="cpu")
    vectors = embedder.embed(TEXTS)
    expected = MiniLMEmbedder(minilm_folder, precision="f32").embed(TEXTS)
    assert (vectors * expected).sum(1) == pytest.approx(1, abs=2e-4)
    assert embedder.embed(TEXTS[::-1])[::-1].tobytes() == vectors.tobytes()
    assert np.concatenate([embedder.embed([text]) for text in TEXTS]).tobytes() == vectors.tobytes()


def test_pooling_and_precision_are_in_the_key(minilm_folder: Path) -> None:
    first_token = TransformersEmbedder(minilm_folder, pooling="cls", dtype="bfloat16", device="cpu", batch_tokens=512)
    assert "-cpu-bfloat16-cls-" in first_token.key
    assert np.linalg.norm(first_token.embed(TEXTS[:2]), axis=1) == pytest.approx(1, abs=1e-3)


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected an encoder with safetensors weights"):
        TransformersEmbedder(tmp_path)
