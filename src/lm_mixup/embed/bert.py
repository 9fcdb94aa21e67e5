"""A BERT encoder as an OpenVINO graph, written node by node from its safetensors weights: no torch, no ONNX.

The graph takes padded token ids and pools in itself, so that one small matrix leaves it, not every token's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lm_mixup.errors import ModelError

MASKED_SCORE = -10_000.0
"""Added to the attention scores of padding; its exponential is exactly 0 in float32 and in bfloat16."""

Weights = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BertConfig:
    """What of a ``config.json`` the graph depends on."""

    layers: int
    heads: int
    width: int
    positions: int
    eps: float

    @classmethod
    def read(cls, path: Path) -> BertConfig:
        """Read a Hugging Face ``config.json``; raises ModelError for anything but a plain BERT encoder."""
        try:
            raw = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise ModelError(f"{path}: expected a BERT config.json, got {error}") from error
        expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for name, value in expected.items():
            if raw.get(name, value) != value:
                raise ModelError(
                    f"{path}: expected {name} {value!r}, got {raw[name]!r}; only plain BERT encoders run on OpenVINO "
                    "here, other encoders through the transformers embedder"
                )
        try:
            return cls(
                layers=int(raw["num_hidden_layers"]),
                heads=int(raw["num_attention_heads"]),
                width=int(raw["hidden_size"]),
                positions=int(raw["max_position_embeddings"]),
                eps=float(raw.get("layer_norm_eps", 1e-12)),
            )
        except KeyError as error:
            raise ModelError(f"{path}: expected the field {error} of a BERT config.json, found none") from error


def build(openvino: Any, config: BertConfig, weights: Weights) -> Any:
    """The graph: ``ids`` (rows, length) int32 and ``mask`` (rows, length) float32 in {0, 1} → (rows, width) float32.

    A row of the result is the *sum* of the last hidden state over the row's unmasked tokens: divided by their number
    it is the mean pooling of sentence-transformers, and sums of several windows of one text can be added first.

    ``weights`` are named as in the Hugging Face ``BertModel``, in float32. Raises ModelError where one is missing.
    """
    op = openvino.opset13
    depth = config.width // config.heads

    def const(value: Any, dtype: Any = np.float32) -> Any:
        return op.constant(np.ascontiguousarray(value, dtype=dtype))

    def ints(*values: int) -> Any:
        return const(values, np.int32)

    def tensor(name: str) -> npt.NDArray[np.float32]:
        if name not in weights:
            raise ModelError(f"model.safetensors: expected a BERT encoder, found no tensor {name!r} in it")
        return weights[name]

    def weight(name: str) -> Any:
        return const(tensor(name))

    def layer_norm(x: Any, name: str) -> Any:
        x = op.mvn(x, const([-1], np.int64), True, config.eps, "inside_sqrt")
        return op.add(op.multiply(x, weight(f"{name}.weight")), weight(f"{name}.bias"))

    def linear(x: Any, name: str) -> Any:
        return op.add(op.matmul(x, weight(f"{name}.weight"), False, True), weight(f"{name}.bias"))

    def split_heads(x: Any) -> Any:  # (rows, length, width) → (rows, heads, length, depth)
        return op.transpose(op.reshape(x, ints(0, 0, config.heads, depth), True), ints(0, 2, 1, 3))

    first_axis = const(0, np.int32)
    ids = op.parameter([-1, -1], np.int32, name="ids")
    mask = op.parameter([-1, -1], np.float32, name="mask")

    length = op.gather(op.shape_of(ids, "i32"), ints(1), first_axis)
    # token type 0 throughout, so its row is one constant with the positions
    places = tensor("embeddings.position_embeddings.weight") + tensor("embeddings.token_type_embeddings.weight")[0]
    positions = op.slice(const(places), ints(0), length, ints(1), ints(0))
    words = op.gather(weight("embeddings.word_embeddings.weight"), ids, first_axis)
    x = layer_norm(op.add(words, positions), "embeddings.LayerNorm")

    # (rows, 1, 1, length): 0 for a token, MASKED_SCORE for padding
    bias = op.unsqueeze(op.multiply(op.subtract(const(1.0), mask), const(MASKED_SCORE)), ints(1, 2))
    for number in range(config.layers):
        name = f"encoder.layer.{number}"
        q, k, v = (split_heads(linear(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = op.add(op.multiply(op.matmul(q, k, False, True), const(depth**-0.5)), bias)
        mixed = op.transpose(op.matmul(op.softmax(scores, -1), v, False, False), ints(0, 2, 1, 3))
        mixed = op.reshape(mixed, ints(0, 0, config.width), True)
        x = layer_norm(op.add(linear(mixed, f"{name}.attention.output.dense"), x), f"{name}.attention.output.LayerNorm")
        inner = op.gelu(linear(x, f"{name}.intermediate.dense"), "erf")
        x = layer_norm(op.add(linear(inner, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")

    total = op.squeeze(op.matmul(op.unsqueeze(mask, ints(1)), x, False, False), ints(1))
    return openvino.Model([total], [ids, mask], "bert-encoder")
