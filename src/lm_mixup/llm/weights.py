"""Weights in safetensors files as float32 arrays, bfloat16 among them, without torch."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lm_mixup.errors import ModelError

Array = npt.NDArray[np.float32]

_MAX_HEADER = 100_000_000
"""The format's own limit (https://github.com/huggingface/safetensors#format)."""
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class SafeTensors(Mapping[str, Array]):
    """The tensors of one or more safetensors files by name. A tensor is read when it is asked for, as float32.

    Raises :class:`ModelError` for a file that is none, a type that is no floating-point number, and a name that two
    files have.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._entries: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        for file in files:
            start, header = _header(file)
            for name, entry in header.items():
                if name in self._entries:
                    raise ModelError(f"{file}: the tensor {name!r} is in {self._entries[name][0].name} too")
                self._entries[name] = (file, start, entry)

    def __getitem__(self, name: str) -> Array:
        file, start, entry = self._entries[name]
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        raw = np.fromfile(file, _TYPES[kind], count=(end - begin) // _TYPES[kind].itemsize, offset=start + begin)
        if kind == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(raw, np.float32).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _header(file: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Where the data begin, and what stands there; every entry has been checked against the file's size."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = struct.unpack("<Q", stream.read(8))[0]
            if length > min(size, _MAX_HEADER):
                raise ValueError(f"a header of {length} bytes")
            header: dict[str, dict[str, Any]] = orjson.loads(stream.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            _check(name, entry, size - 8 - length)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, struct.error, AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: expected a safetensors file: {error}") from error
    return 8 + length, header


def _check(name: str, entry: Mapping[str, Any], data_bytes: int) -> None:
    kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in _TYPES:
        raise ValueError(f"{name} is of type {kind}; known are {', '.join(_TYPES)}")
    count = 1
    for length in shape:
        count *= length
    if min(shape, default=0) < 0 or begin < 0 or end > data_bytes or end - begin != count * _TYPES[kind].itemsize:
        raise ValueError(f"{name} has the shape {shape} and the bytes {begin} to {end} of {data_bytes}")
