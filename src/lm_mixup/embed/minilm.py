"""The embedded embedder: all-MiniLM-L6-v2 (or another small BERT encoder with mean pooling) through OpenVINO.

**A vector is a function of its text alone.** Every window is padded to a length that follows from its own token
count, batches come in a fixed set of shapes, and each infer stream has one thread. So the company a text keeps, its
place in the call and the number of threads do not change a byte (``tests/embed/test_minilm.py`` holds this).
Another CPU or another OpenVINO release may move the last bits.

**Long texts are not cut in silence.** A window holds 254 tokens and the two special ones. A longer text is split
into consecutive windows of equal length; one of more than ``max_windows`` windows is *sampled* by ``max_windows`` full
windows spread evenly over it, the first at its beginning and the last at its end. The text's vector is the mean over
all tokens of its windows, normalised. At 4 windows, a text of 1,016 tokens (about 750 English words) is read whole.

**An empty text** has a vector: the model's for an empty sequence, ``[CLS] [SEP]``.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lm_mixup._openvino import import_openvino
from lm_mixup.embed.bert import BertConfig, build
from lm_mixup.embed.windows import batches, window_spans
from lm_mixup.errors import InputError, MissingExtraError, ModelError
from lm_mixup.ports import Vectors

Precision = Literal["auto", "bf16", "f32"]

WINDOW_TOKENS = 256
"""The length that the model was trained for (its ``sentence_bert_config.json``), with the two special tokens."""

LENGTH_STEP = 8
"""Windows are padded to a multiple of this many tokens."""

METHOD_VERSION = 1
"""Goes into the key; raised whenever the same text and weights would give another vector."""

_FILES = ("config.json", "tokenizer.json", "model.safetensors")
_CHUNK_TEXTS = 4096
_TOKENIZE_TEXTS = 256

_Tokens = npt.NDArray[np.int32]


class MiniLMEmbedder:
    """Embeds texts with a BERT encoder in ``folder`` (``config.json``, ``tokenizer.json``, ``model.safetensors``).

    ``precision``: ``bf16`` halves the time and keeps a cosine of at least 0.9995 to float32; ``auto`` takes it where
    the CPU has bfloat16 units and ``f32`` elsewhere. The key names what was taken, so vectors of the two are never
    mixed. ``threads``: how many infer streams, one thread each; default all cores that the process may use.
    ``max_windows``: how many windows of a long text are read. ``batch_tokens``: tokens a batch, padding included.

    Vectors are rounded to float16: written as such and read back, they are the same numbers. Norms are 1 ± 2e-4.

    Raises ModelError where the folder holds no such encoder, MissingExtraError without ``openvino``, ``tokenizers``
    or ``safetensors``, InputError for a setting that cannot be.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        precision: Precision = "auto",
        threads: int | None = None,
        max_windows: int = 4,
        batch_tokens: int = 2048,
    ) -> None:
        if max_windows < 1:
            raise InputError(f"max_windows: expected at least 1, got {max_windows}")
        if batch_tokens < WINDOW_TOKENS:
            raise InputError(f"batch_tokens: expected at least {WINDOW_TOKENS}, got {batch_tokens}")
        if threads is not None and threads < 1:
            raise InputError(f"threads: expected at least 1, got {threads}")
        self._folder = Path(folder)
        self._max_windows = max_windows
        self._batch_tokens = batch_tokens
        self._threads = threads or len(os.sched_getaffinity(0))
        missing = [name for name in _FILES if not (self._folder / name).is_file()]
        if missing:
            raise ModelError(f"{self._folder}: expected a model folder, but it holds no {', '.join(missing)}")

        openvino = import_openvino("The embedded embedder")
        config = BertConfig.read(self._folder / "config.json")
        self._window_tokens = min(WINDOW_TOKENS, config.positions)
        self._dim = config.width
        self._tokenizer, self._cls, self._sep = _load_tokenizer(self._folder / "tokenizer.json")
        core = openvino.Core()
        self._precision = _choose_precision(core, precision)
        self._key = (
            f"minilm-{_content_hash(self._folder)}-{self._precision}"
            f"-w{self._window_tokens}x{max_windows}-v{METHOD_VERSION}"
        )
        model = build(openvino, config, _load_weights(self._folder / "model.safetensors"))
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self._precision,
                "NUM_STREAMS": self._threads,
                "INFERENCE_NUM_THREADS": self._threads,
                # pinned streams of two processes would sit on the same cores
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._queue = openvino.AsyncInferQueue(compiled, self._threads)
        self._lock = threading.Lock()

    @property
    def key(self) -> str:
        """Weights and tokenizer (by content), precision, window and number of windows, version of the method.

        Left out because they do not change a result by more than its last bits: threads, batch size, folder, CPU,
        OpenVINO release.
        """
        return self._key

    @property
    def dim(self) -> int:
        """Length of a vector: 384 for all-MiniLM-L6-v2."""
        return self._dim

    @property
    def precision(self) -> str:
        """What is computed in: ``bf16`` or ``f32``."""
        return self._precision

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n_texts, dim) float32, unit rows, in the order of the texts. Safe to call from several threads."""
        vectors = np.empty((len(texts), self._dim), np.float32)
        for start in range(0, len(texts), _CHUNK_TEXTS):
            chunk = texts[start : start + _CHUNK_TEXTS]
            windows, owners = self._windows(chunk)
            # a text's windows stand together and in order: their sums are added in the same order whatever the call
            sums = np.add.reduceat(self._sums(windows), np.flatnonzero(np.diff(owners, prepend=-1)), axis=0)
            sums /= np.linalg.norm(sums, axis=1, keepdims=True)
            vectors[start : start + len(chunk)] = sums.astype(np.float16)
        return vectors

    def _windows(self, texts: Sequence[str]) -> tuple[list[_Tokens], npt.NDArray[np.int64]]:
        """All windows of the texts, and for each the index of its text; every text has at least one."""
        windows: list[_Tokens] = []
        owners: list[int] = []
        for start in range(0, len(texts), _TOKENIZE_TEXTS):
            part = list(texts[start : start + _TOKENIZE_TEXTS])
            # one thread means one: encode_batch would use every core
            if self._threads == 1:
                encoded = [self._tokenizer.encode(text, add_special_tokens=False) for text in part]
            else:
                encoded = self._tokenizer.encode_batch_fast(part, add_special_tokens=False)
            for offset, encoding in enumerate(encoded):
                tokens = np.array(encoding.ids, np.int32)
                for begin, end in window_spans(len(tokens), self._window_tokens - 2, self._max_windows):
                    windows.append(np.concatenate(([self._cls], tokens[begin:end], [self._sep]), dtype=np.int32))
                    owners.append(start + offset)
        return windows, np.array(owners, np.int64)

    def _sums(self, windows: Sequence[_Tokens]) -> Vectors:
        """(n_windows, dim): the sum over tokens of each window, in order."""
        sums = np.empty((len(windows), self._dim), np.float32)

        def keep(request: Any, rows: npt.NDArray[np.int64]) -> None:
            sums[rows] = request.get_output_tensor(0).data[: len(rows)]

        with self._lock:
            self._queue.set_callback(keep)
            try:
                lengths = [len(window) for window in windows]
                for rows, length in batches(lengths, batch_tokens=self._batch_tokens, step=LENGTH_STEP):
                    shape = (_ladder(len(rows), self._batch_tokens // length), length)
                    ids, mask = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
                    for place, row in enumerate(rows):
                        ids[place, : len(windows[row])] = windows[row]
                        mask[place, : len(windows[row])] = 1.0
                    self._queue.start_async([ids, mask], rows)
            finally:
                self._queue.wait_all()
        return sums


def _ladder(rows: int, full: int) -> int:
    """The number of rows that a batch is filled up to: a number of three significant bits, or a full batch.

    OpenVINO prepares its kernels for every new shape (up to 40 ms), and a bounded set of shapes is one that a test
    can hold to "the same bytes". Three bits fill up by a quarter at most.
    """
    step = 1 << max(0, rows.bit_length() - 3)
    return min(full, -(-rows // step) * step)


def _choose_precision(core: Any, wanted: Precision) -> str:
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "auto":
        return "bf16" if has_bf16 else "f32"
    if wanted not in ("bf16", "f32"):
        raise InputError(f"precision: expected 'auto', 'bf16' or 'f32', got {wanted!r}")
    if wanted == "bf16" and not has_bf16:
        # OpenVINO would fall back to f32 without a word, and the key would lie
        raise InputError("precision: 'bf16' was asked for, but this CPU has no bfloat16 units; use 'auto' or 'f32'")
    return wanted


def _load_tokenizer(path: Path) -> tuple[Any, int, int]:
    """The tokenizer without its own cutting and padding, and the ids of ``[CLS]`` and ``[SEP]``."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("The embedded embedder", "embedded", "tokenizers") from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # boundary: tokenizers raises a bare Exception for a bad file
        raise ModelError(f"{path}: expected a tokenizer.json, got {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if cls is None or sep is None:
        raise ModelError(f"{path}: expected a BERT tokenizer with [CLS] and [SEP], found none")
    return tokenizer, cls, sep


def _load_weights(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingExtraError("The embedded embedder", "embedded", "safetensors") from error
    try:
        weights: dict[str, npt.NDArray[np.float32]] = load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path}: expected a safetensors file, got {error}") from error
    return weights


def _content_hash(folder: Path) -> str:
    """8 hex digits over the files that decide a vector."""
    whole = hashlib.blake2b(digest_size=4)
    for name in _FILES:
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
