"""What files of models say: a hash as their name, so that no answer is taken for another model's; the window."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import IO, Any

from lm_mixup.errors import ModelError


def files_digest(path: Path) -> str:
    """16 hex digits over the content of a file, or over the names and contents of a folder's files.

    Hidden files and folders are left out. Reads everything once (a second or two a gigabyte).
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
    total = hashlib.blake2b(digest_size=8)
    try:
        for file in files:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, hashlib.blake2b).digest()
            name = "" if path.is_file() else file.relative_to(path).as_posix()
            total.update(f"{len(name)}:{name}".encode() + content)
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot read the model: {error.strerror}") from error
    return total.hexdigest()


def window_of(path: Path) -> int | None:
    """How many tokens a model was made for, prompt and answer together, as its files say; None where they do not.

    ``path`` is a GGUF file (``…context_length`` of its header) or a folder with a config.json.
    """
    try:
        if path.is_dir():
            told = json.loads((path / "config.json").read_text("utf-8")).get("max_position_embeddings")
        else:
            with path.open("rb") as stream:
                told = _gguf_window(stream)
    except (OSError, ValueError, AttributeError, struct.error):
        return None
    return told if isinstance(told, int) and told > 0 else None


_GGUF_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_GGUF_STRING, _GGUF_ARRAY = 8, 9
_MAX_GGUF_ENTRIES = 10_000


def _gguf_window(stream: IO[bytes]) -> int | None:
    """The context length in a GGUF header (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""
    if stream.read(4) != b"GGUF":
        return None
    _version, _tensors, entries = _number(stream, "I"), _number(stream, "Q"), _number(stream, "Q")
    for _ in range(min(entries, _MAX_GGUF_ENTRIES)):
        name = stream.read(_number(stream, "Q"))
        value = _gguf_value(stream, _number(stream, "I"))
        if name.endswith(b".context_length"):
            return int(value)
    return None


def _gguf_value(stream: IO[bytes], kind: int) -> Any:
    """One value; strings and arrays are passed over."""
    if kind == _GGUF_STRING:
        return stream.seek(_number(stream, "Q"), 1)
    if kind == _GGUF_ARRAY:
        inner, count = _number(stream, "I"), _number(stream, "Q")
        if inner in _GGUF_NUMBERS:
            return stream.seek(count * struct.calcsize(_GGUF_NUMBERS[inner]), 1)
        for _ in range(count):
            _gguf_value(stream, inner)
        return None
    if kind not in _GGUF_NUMBERS:
        raise ValueError(f"no GGUF type {kind}")
    return _number(stream, _GGUF_NUMBERS[kind])


def _number(stream: IO[bytes], form: str) -> Any:
    return struct.unpack("<" + form, stream.read(struct.calcsize("<" + form)))[0]


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
