"""A GGUF file as an OpenVINO folder whose matrices have 8 bits: what processors multiply fastest.

OpenVINO reads GGUF files as they are, with a scale for every 32 weights, after which each sum has to stop. Here the
blocks are as long as the model's matrices allow, up to 256; the numbers that go in are brought to 8 bits in the same
blocks as they come. What that is worth, in speed and in answers, stands in ``docs/distillers/trained.md``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from lm_mixup._openvino import import_openvino
from lm_mixup.llm.files import window_of
from lm_mixup.llm.openvino import import_genai, not_loaded

VERSION = 1
"""Raised when the same file would be written otherwise: it belongs into the name of what is kept."""
MAX_BLOCK = 256
_SMALLEST_BLOCK = 32
_MODEL = "openvino_model.xml"


def write_int8(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file into ``folder``, for :class:`lm_mixup.llm.openvino_slots.OpenVINOSlots`.

    Takes half a minute and four bytes of memory for each weight. Raises :class:`ModelError` for a file that OpenVINO
    GenAI cannot read, :class:`MissingExtraError` without it.
    """
    genai, openvino = import_genai(), import_openvino("running a local model with OpenVINO")
    draft = folder / "gguf"
    draft.mkdir(parents=True)
    (draft / "model.gguf").symlink_to(gguf.resolve())
    try:
        # the one way to have GenAI's own graph of the file: it is written beside it
        genai.LLMPipeline(str(draft / "model.gguf"), "CPU", enable_save_ov_model=True)
    except RuntimeError as error:
        raise not_loaded(gguf, error) from error
    core = openvino.Core()
    model = core.read_model(draft / _MODEL)
    matrices = [_matrix(core, openvino, node) for node in _products(model)]
    block = block_of([matrix.shape[1] for matrix in matrices])
    for node, matrix in zip(_products(model), matrices, strict=True):
        node.input(1).replace_source_output(_compressed(openvino, matrix, block))
    model.set_rt_info(str(block), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, folder / _MODEL, compress_to_fp16=False)
    for file in draft.glob("openvino_*tokenizer.*"):
        shutil.move(file, folder / file.name)
    (folder / "config.json").write_bytes(orjson.dumps({"max_position_embeddings": window_of(gguf)}))
    shutil.rmtree(draft)


def block_of(widths: list[int]) -> int:
    """The longest block, a multiple of 32 up to :data:`MAX_BLOCK`, that divides every matrix's width; at least 32."""
    common = int(np.gcd.reduce(widths))
    fitting = [n for n in range(_SMALLEST_BLOCK, MAX_BLOCK + 1, _SMALLEST_BLOCK) if common % n == 0]
    return max(fitting, default=_SMALLEST_BLOCK)


def quantised(matrix: np.ndarray[Any, np.dtype[np.float32]], block: int) -> tuple[Any, Any]:
    """A matrix (rows, width) as int8 (rows, width / block, block) and float16 scales (rows, width / block, 1)."""
    blocks = matrix.reshape(len(matrix), -1, block)
    scales = (np.abs(blocks).max(axis=-1, keepdims=True) / 127).astype(np.float16)
    scales[scales == 0] = 1
    return np.clip(np.rint(blocks / scales.astype(np.float32)), -127, 127).astype(np.int8), scales


def _products(model: Any) -> list[Any]:
    """The matrix products with weights: those whose right side is of one known shape."""
    products = (node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul")
    return [n for n in products if len(s := n.input(1).get_partial_shape()) == 2 and s.is_static]


def _matrix(core: Any, openvino: Any, node: Any) -> Any:
    """The weights of a product, (rows, width) float32, worked out from however they are stored."""
    weights = node.input(1).get_source_output()
    whole = openvino.Model([openvino.opset13.result(weights)], [])
    return np.array(core.compile_model(whole, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0])


def _compressed(openvino: Any, matrix: Any, block: int) -> Any:
    """The weights in the form that OpenVINO keeps in 8 bits: integers, times scales, in the matrix's shape."""
    op = openvino.opset13
    numbers, scales = quantised(matrix, block)
    product = op.multiply(op.convert(op.constant(numbers), np.float16), op.constant(scales))
    shaped = op.reshape(product, op.constant(np.array(matrix.shape, np.int64)), False)
    return op.convert(shaped, np.float32).output(0)
