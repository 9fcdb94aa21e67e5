"""Any Hugging Face encoder through torch: the paper's BGE-M3 on a GPU, or a model that OpenVINO does not run here.

A batch always has the full shape for its length, filled up with empty rows, and the length follows from the text's own
tokens: so a text's vector does not depend on its company. Small calls pay for it; embed many texts at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lm_mixup.embed.windows import batches, window_spans
from lm_mixup.errors import InputError, MissingExtraError, ModelError
from lm_mixup.ports import Vectors


class TransformersEmbedder:
    """Embeds with ``model``: a folder or a hub id (at ``revision``), with safetensors weights.

    ``pooling``: ``mean`` over the tokens (MiniLM, E5, GTE) or the first token, ``cls`` (BGE). ``max_tokens``: length of
    a window with its special tokens; longer texts are cut into at most ``max_windows`` windows as in
    :func:`~lm_mixup.embed.windows.window_spans`, averaged by tokens. ``device``: None takes a GPU where there is one.
    ``dtype``: ``float32``, ``bfloat16`` or ``float16``. ``batch_tokens``: tokens a batch, padding included.

    Code that comes with a model is never run, and pickled weights are never read.
    Raises MissingExtraError without torch and transformers, ModelError where the model cannot be loaded.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        revision: str = "main",
        pooling: Literal["mean", "cls"] = "mean",
        max_tokens: int = 512,
        max_windows: int = 4,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        batch_tokens: int = 8192,
        length_step: int = 32,
    ) -> None:
        if pooling not in ("mean", "cls"):
            raise InputError(f"pooling: expected 'mean' or 'cls', got {pooling!r}")
        if dtype not in ("float32", "bfloat16", "float16"):
            raise InputError(f"dtype: expected 'float32', 'bfloat16' or 'float16', got {dtype!r}")
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("The transformers embedder", "transformers", "torch and transformers") from error
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
            loaded = AutoModel.from_pretrained(model, revision=revision, trust_remote_code=False, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"{model}: expected an encoder with safetensors weights, got: {error}") from error
        self._torch = torch
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._weights_hash = _hash_of(loaded, self._tokenizer)
        self._model = loaded.to(device=self._device, dtype=getattr(torch, dtype)).eval()
        self._pooling = pooling
        self._prefix, self._suffix = _special_tokens(self._tokenizer)
        self._content_tokens = max_tokens - len(self._prefix) - len(self._suffix)
        if self._content_tokens < 1 or max_windows < 1:
            raise InputError(f"expected max_tokens and max_windows that leave room, got {max_tokens} and {max_windows}")
        self._max_tokens = max_tokens
        self._max_windows = max_windows
        self._dtype = dtype
        self._batch_tokens = batch_tokens
        self._length_step = length_step

    @property
    def key(self) -> str:
        """Weights and tokenizer (by content), kind of device, precision, pooling, windows, version of the method."""
        device = self._device.partition(":")[0]
        return (
            f"hf-{self._weights_hash}-{device}-{self._dtype}-{self._pooling}-w{self._max_tokens}x{self._max_windows}-v1"
        )

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._model.config.hidden_size)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n_texts, dim) float32, unit rows (rounded to float16, as all embedders here)."""
        windows: list[list[int]] = []
        owners: list[int] = []
        for row, text in enumerate(texts):
            tokens = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            for begin, end in window_spans(len(tokens), self._content_tokens, self._max_windows):
                windows.append([*self._prefix, *tokens[begin:end], *self._suffix])
                owners.append(row)
        if not windows:
            return np.empty((0, self.dim), np.float32)
        sums = np.add.reduceat(self._sums(windows), np.flatnonzero(np.diff(owners, prepend=-1)), axis=0)
        sums /= np.linalg.norm(sums, axis=1, keepdims=True)
        return sums.astype(np.float16).astype(np.float32)

    def _sums(self, windows: Sequence[Sequence[int]]) -> Vectors:
        """(n_windows, dim): the pooled state of each window times its number of tokens."""
        sums = np.empty((len(windows), self.dim), np.float32)
        lengths = [len(window) for window in windows]
        padding = self._tokenizer.pad_token_id or 0
        for rows, length in batches(lengths, batch_tokens=self._batch_tokens, step=self._length_step):
            shape = (max(1, self._batch_tokens // length), length)
            ids, mask = np.full(shape, padding, np.int64), np.zeros(shape, np.int64)
            mask[len(rows) :, 0] = 1  # an empty row still attends to one token: no division by zero
            for place, row in enumerate(rows):
                ids[place, : lengths[row]] = windows[row]
                mask[place, : lengths[row]] = 1
            sums[rows] = self._forward(ids, mask)[: len(rows)]
        return sums

    def _forward(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Vectors:
        torch = self._torch
        with torch.inference_mode():
            attention = torch.from_numpy(mask).to(self._device)
            states = self._model(input_ids=torch.from_numpy(ids).to(self._device), attention_mask=attention)[
                0
            ].float()  # (rows, length, dim)
            weights = attention.float().unsqueeze(-1)  # (rows, length, 1)
            pooled = (states * weights).sum(1) if self._pooling == "mean" else states[:, 0] * weights.sum(1)
            result: Vectors = pooled.cpu().numpy()
            return result


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text, found by looking at what it does to a letter."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise ModelError("expected a tokenizer that adds special tokens around a text, found one that changes the text")


def _hash_of(model: Any, tokenizer: Any) -> str:
    """8 hex digits over the weights as loaded and the tokenizer's vocabulary and rules."""
    import torch

    whole = hashlib.blake2b(digest_size=4)
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(name.encode())
        # seen as bytes: numpy has no bfloat16
        whole.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    rules = getattr(tokenizer, "backend_tokenizer", None)
    whole.update((rules.to_str() if rules is not None else repr(sorted(tokenizer.get_vocab().items()))).encode())
    return whole.hexdigest()
