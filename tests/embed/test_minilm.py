"""The embedded embedder: the real model, on few texts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.embed.minilm import MiniLMEmbedder
from lm_mixup.errors import InputError, ModelError
from lm_mixup.ports import Embedder
from tests.embed.bert_oracle import Oracle

SENTENCES = [
    "A dog runs in the park.",
    "Q: What is the capital of France?\nA: Paris",
    "def add(a, b):\n    return a + b  # { braces } </answer>",
    "Ünïcödé, 北京, العربية, 🎉, и кириллица",
    "x",
    "$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "",
    "   \n\t ",
]
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "seven", "wizards", "brew", "strong", "tea", "at", "dawn")


def words(count: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, count).tolist())


# lengths on both sides of every kind of boundary: a step of padding, a window, the most windows
POOL = [
    *SENTENCES,
    *(words(n, n) for n in (3, 5, 6, 7, 13, 14, 15, 61, 62, 63, 100, 126, 253, 254, 255, 300, 600, 1500)),
]


@pytest.fixture(scope="module", params=["f32", "bf16"])
def embedder(request: pytest.FixtureRequest, minilm_folder: Path) -> MiniLMEmbedder:
    try:
        return MiniLMEmbedder(minilm_folder, precision=request.param, threads=2, batch_tokens=1024)
    except InputError as error:  # a CPU without bfloat16
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def oracle(minilm_folder: Path) -> Oracle:
    return Oracle(minilm_folder)


@pytest.fixture(scope="module")
def alone(embedder: MiniLMEmbedder) -> list[bytes]:
    """The bytes of each text of the pool, embedded on its own."""
    return [embedder.embed([text]).tobytes() for text in POOL]


def cosines(vectors: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.asarray((vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1))


def test_the_model_computes_what_its_equations_say(embedder: MiniLMEmbedder, oracle: Oracle) -> None:
    texts = [*SENTENCES, words(40), words(150)]
    expected = np.stack([oracle.vector(oracle.tokens(text)) for text in texts])
    least = 0.999999 if embedder.precision == "f32" else 0.9995
    assert cosines(embedder.embed(texts), expected).min() >= least


def test_meaning_is_near_and_a_known_similarity_is_met(embedder: MiniLMEmbedder) -> None:
    a, b, c = embedder.embed(["That is a happy person", "That is a happy dog", "Today is a sunny day"])
    # the figures of the model's own card on the hub
    assert a @ b == pytest.approx(0.695, abs=0.01)
    assert a @ c == pytest.approx(0.257, abs=0.01)


def test_shape_dtype_unit_rows_and_float16_values(embedder: MiniLMEmbedder) -> None:
    assert isinstance(embedder, Embedder)
    vectors = embedder.embed(SENTENCES)
    assert vectors.shape == (len(SENTENCES), embedder.dim) == (len(SENTENCES), 384)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 2e-4
    assert (vectors == vectors.astype(np.float16)).all()
    assert embedder.embed([]).shape == (0, 384)


@settings(max_examples=10, deadline=None)
@given(picked=st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=16))
def test_a_vector_depends_on_its_text_alone(embedder: MiniLMEmbedder, alone: list[bytes], picked: list[int]) -> None:
    vectors = embedder.embed([POOL[i] for i in picked])
    assert [row.tobytes() for row in vectors] == [alone[i] for i in picked]


@settings(max_examples=10, deadline=None)
@given(texts=st.lists(st.text(max_size=200), min_size=2, max_size=12), random=st.randoms(use_true_random=False))
def test_any_texts_in_any_order(embedder: MiniLMEmbedder, texts: list[str], random: object) -> None:
    vectors = embedder.embed(texts)
    order = list(range(len(texts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    cut = len(order) // 2
    first, second = (embedder.embed([texts[i] for i in part]) for part in (order[:cut], order[cut:]))
    assert np.concatenate([first, second]).tobytes() == vectors[order].tobytes()
    assert np.isfinite(vectors).all()


def test_threads_and_batch_size_do_not_change_a_byte(
    embedder: MiniLMEmbedder, alone: list[bytes], minilm_folder: Path
) -> None:
    other = MiniLMEmbedder(minilm_folder, precision=embedder.precision, threads=1, batch_tokens=4096)  # type: ignore[arg-type]
    assert other.embed(POOL).tobytes() == b"".join(alone)
    assert other.key == embedder.key
    assert f"-{embedder.precision}-" in embedder.key


def test_a_longer_text_is_read_whole_in_equal_windows(embedder: MiniLMEmbedder, oracle: Oracle) -> None:
    text = words(300)
    tokens = oracle.tokens(text)
    assert 254 < len(tokens) <= 508
    half = len(tokens) // 2
    expected = oracle.vector(tokens[:half], tokens[half:])
    assert cosines(embedder.embed([text]), expected[None])[0] >= 0.9995


def test_a_very_long_text_is_sampled_from_end_to_end(minilm_folder: Path, oracle: Oracle) -> None:
    text = f"{words(900, 1)} unmistakable {words(900, 2)} the final word is zebra"
    tokens = oracle.tokens(text)
    middle = (len(tokens) - 254) // 2
    expected = oracle.vector(tokens[:254], tokens[middle : middle + 254], tokens[-254:])
    three = MiniLMEmbedder(minilm_folder, threads=1, max_windows=3)
    assert cosines(three.embed([text]), expected[None])[0] >= 0.9995
    # what stands at the end counts: it is not cut off
    changed = text.replace("zebra", "a very different matter, namely quantum chromodynamics and its lattice methods")
    assert three.embed([text]).tobytes() != three.embed([changed]).tobytes()


def test_a_megabyte_is_no_trouble(embedder: MiniLMEmbedder) -> None:
    vectors = embedder.embed(["word " * 200_000, "a" * 1_000_000])
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 2e-4


def test_the_key_names_what_a_vector_depends_on(minilm_folder: Path, tmp_path: Path) -> None:
    one = MiniLMEmbedder(minilm_folder, precision="f32", threads=1)
    assert one.key == MiniLMEmbedder(minilm_folder, precision="f32", threads=2, batch_tokens=512).key
    assert one.key.endswith("-f32-w256x4-v1")
    assert one.key != MiniLMEmbedder(minilm_folder, precision="f32", max_windows=1).key
    # another tokenizer in a copy of the folder
    shutil.copytree(minilm_folder, tmp_path / "copy")
    raw = json.loads((tmp_path / "copy/tokenizer.json").read_text())
    raw["normalizer"]["lowercase"] = False
    (tmp_path / "copy/tokenizer.json").write_text(json.dumps(raw))
    assert MiniLMEmbedder(tmp_path / "copy", precision="f32").key != one.key


@pytest.mark.parametrize("options", [{"max_windows": 0}, {"threads": 0}, {"batch_tokens": 8}, {"precision": "int8"}])
def test_settings_that_cannot_be(minilm_folder: Path, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        MiniLMEmbedder(minilm_folder, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", b"{", "expected a BERT config.json"),
        ("config.json", b"{}", "num_hidden_layers"),
        ("config.json", b'{"model_type": "roberta"}', "expected model_type 'bert', got 'roberta'"),
        ("tokenizer.json", b"{}", r"tokenizer\.json: expected a tokenizer"),
        ("model.safetensors", b"junk", "expected a safetensors file"),
        ("model.safetensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "found no tensor"),
    ],
)
def test_a_folder_that_holds_no_such_model(
    minilm_folder: Path, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / file).symlink_to(minilm_folder / file)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=f"holds no {name}"):
        MiniLMEmbedder(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=told):
        MiniLMEmbedder(tmp_path)


def test_nothing_is_sent_and_nothing_written_home(minilm_folder: Path, tmp_path: Path) -> None:
    program = f"""
import sys, threading
touched = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        touched.append((event, arguments))
sys.addaudithook(watch)
from lm_mixup.embed.minilm import MiniLMEmbedder
assert MiniLMEmbedder({str(minilm_folder)!r}, threads=1).embed(["a"]).shape == (1, 384)
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(5)
assert not touched, touched
assert sys.modules["openvino_telemetry"] is None
"""
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("CI", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
