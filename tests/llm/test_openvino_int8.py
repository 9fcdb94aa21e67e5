"""GGUF files as OpenVINO folders with 8 bits, on a tiny random model."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("openvino_genai", reason='needs the extra: pip install "lm-mixup[genai]"')
pytest.importorskip("gguf", reason='needs the extra: pip install "lm-mixup[genai]"')

from lm_mixup.errors import ModelError
from lm_mixup.llm.openvino_int8 import block_of, quantised, write_int8
from lm_mixup.llm.openvino_slots import OpenVINOSlots
from tests.llm import tiny
from tests.llm.test_openvino_slots import ask


@pytest.mark.parametrize(
    ("widths", "block"),
    [([576, 1536], 192), ([64, 96], 32), ([2048, 8192], 256), ([896, 4864], 128), ([100], 32), ([128], 128)],
)
def test_blocks_are_as_long_as_every_matrix_allows(widths, block):
    assert block_of(widths) == block


@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from([32, 64]), st.floats(0.1, 1e3), st.integers(0, 99))
def test_eight_bits_are_off_by_half_a_step_at_most(rows, blocks, block, size, seed):
    matrix = (np.random.default_rng(seed).standard_normal((rows, blocks * block)) * size).astype(np.float32)
    matrix[0, :block] = 0
    numbers, scales = quantised(matrix, block)
    back = (numbers * scales.astype(np.float32)).reshape(matrix.shape)
    step = np.repeat(scales.astype(np.float32)[..., 0], block, axis=1)
    # half-precision scales are off by 1/2048, of up to 127 steps
    assert (np.abs(back - matrix) <= (0.5 + 127 / 2048) * step + 1e-6).all()
    assert (back[0, :block] == 0).all()


def test_it_answers_much_as_the_file_does_and_keeps_its_window(tmp_path):
    gguf = tiny.write_gguf(tmp_path / "tiny.gguf", tiny.weights())
    write_int8(gguf, tmp_path / "folder")
    names = {path.name.partition(".")[0] for path in (tmp_path / "folder").iterdir()}
    assert names == {"openvino_model", "openvino_tokenizer", "openvino_detokenizer", "config"}
    plain, small = OpenVINOSlots(gguf, engines=1), OpenVINOSlots(tmp_path / "folder", engines=1)
    assert small.context_tokens == plain.context_tokens == 2048
    assert small.count_tokens("than tea") == plain.count_tokens("than tea") == 6
    prompts = [ask(i, max_tokens=1) for i in range(40)]
    said, meant = ([a.text for a in asyncio.run(m.complete(prompts))] for m in (small, plain))
    # random weights make all tokens about as likely: the first one is the same for most prompts, not for all
    assert sum(a == b for a, b in zip(said, meant, strict=True)) >= 30
    assert len(set(meant)) > 5


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match="cannot load"):
        write_int8(tmp_path / "bad.gguf", tmp_path / "folder")
