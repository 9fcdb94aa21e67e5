"""A BERT encoder in plain numpy, written from the paper's equations, to check the OpenVINO graph against."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Array = npt.NDArray[np.float32]


def _erf(x: Array) -> Array:
    """The error function to 1.5e-7: Abramowitz and Stegun, 7.1.26."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.asarray(np.sign(x) * (1 - series * np.exp(-x * x)))


class Oracle:
    """all-MiniLM-L6-v2: 6 layers, 12 heads, 384 wide; one text at a time, nothing padded."""

    def __init__(self, folder: Path) -> None:
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def tokens(self, text: str) -> list[int]:
        """The ids of the text's own tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def vector(self, *windows: list[int]) -> Array:
        """The normalised mean of the last states of all tokens of the windows, each between [CLS] and [SEP]."""
        mean = np.concatenate([self.states([101, *window, 102]) for window in windows]).mean(0)
        return mean / np.linalg.norm(mean)

    def states(self, ids: list[int]) -> Array:
        """(tokens, 384): the last hidden states."""
        w, n = self.weights, len(ids)
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:n]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(6):
            name = f"encoder.layer.{layer}"
            q, k, v = (
                self._linear(x, f"{name}.attention.self.{part}").reshape(n, 12, 32).transpose(1, 0, 2)
                for part in ("query", "key", "value")
            )
            scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(32))
            mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, 384)
            x = self._norm(
                x + self._linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
            )
            h = self._linear(x, f"{name}.intermediate.dense")
            h = h * 0.5 * (1 + _erf(h / math.sqrt(2)))
            x = self._norm(x + self._linear(h, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return x

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, x: Array, name: str) -> Array:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
