"""Benchmarks' items are kept out: by word n-grams, and by embeddings.

A benchmark is any file of rows with a ``question``, ``prompt`` or ``input`` (and a ``context``); see :func:`texts_of`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import InputError
from lm_mixup.neighbors import search
from lm_mixup.pool.containers import container_of, open_binary, read_rows
from lm_mixup.pool.rows import FileReport
from lm_mixup.ports import Vectors

_TOKEN = re.compile(r"\w+")
_ASKED = ("question", "prompt", "input", "Question")
_MIN_WHOLE_WORDS = 5


class Benchmarks:
    """The texts of benchmarks as sets of ``n``-grams of words.

    A text of fewer than ``n`` words counts as a whole, if it has at least five words.
    """

    def __init__(self, texts: Sequence[str], *, n: int = 10) -> None:
        self.n = n
        self.texts = list(dict.fromkeys(texts))
        self._grams: set[int] = set()
        self._whole: dict[int, set[str]] = {}
        for text in self.texts:
            words = _words(text)
            if len(words) >= n:
                self._grams.update(_grams(words, n))
            elif len(words) >= _MIN_WHOLE_WORDS:
                self._whole.setdefault(len(words), set()).add(" ".join(words))

    @classmethod
    def read(cls, folder: Path, *, n: int = 10) -> Benchmarks:
        """All benchmarks in a folder. Raises InputError where there is none."""
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder of benchmarks")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        texts = [text for path in files for text in texts_of(path)]
        if not texts:
            raise InputError(f"{folder}: found no benchmark: expected rows with a question, a prompt or an input")
        return cls(texts, n=n)

    def shares(self, text: str) -> bool:
        """Whether the text has an n-gram, or the whole of a short text, in common with a benchmark."""
        words = _words(text)
        if any(gram in self._grams for gram in _grams(words, self.n)):
            return True
        return any(
            " ".join(words[start : start + length]) in whole
            for length, whole in self._whole.items()
            for start in range(len(words) - length + 1)
        )


def near_benchmarks(vectors: Vectors, benchmarks: Vectors, *, threshold: float = 0.75) -> npt.NDArray[np.bool_]:
    """(n,) whether a row's vector is nearer than ``threshold`` (cosine) to a benchmark's. Both are unit rows."""
    if not len(vectors) or not len(benchmarks):
        return np.zeros(len(vectors), np.bool_)
    near: npt.NDArray[np.bool_] = search(vectors, benchmarks, 1)[1][:, 0] >= np.float16(threshold)
    return near


def texts_of(path: Path) -> Iterator[str]:
    """What a file of a benchmark asks, and the passages that it asks about; nothing from files of other kinds."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            yield from (text for row in csv.DictReader(file) for text in _asked(row))
        return
    container = container_of(path)
    if container is None:
        return
    if path.suffix == ".json":
        import orjson

        with open_binary(path) as stream:
            whole = orjson.loads(stream.read())
        rows = whole.get("examples", []) if isinstance(whole, dict) else whole
        yield from (text for row in rows if isinstance(row, dict) for text in _asked(row))
        return
    for raw in read_rows(path, container, FileReport(path.name, container, 0)):
        if raw.value is not None:
            yield from _asked(raw.value)


def _asked(row: Mapping[str, Any]) -> Iterator[str]:
    for name in (*_ASKED, "context"):
        if isinstance(row.get(name), str) and row[name].strip():
            yield row[name].strip()


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text.casefold())


def _grams(words: Sequence[str], n: int) -> set[int]:
    # Python's own hash of text changes from process to process; within one that is no matter
    return {hash(tuple(words[start : start + n])) for start in range(len(words) - n + 1)}
