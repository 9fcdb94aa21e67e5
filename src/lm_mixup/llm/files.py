"""Names for models that lie on disk: a content hash, so that an answer is never taken for another model's."""

from __future__ import annotations

import hashlib
from pathlib import Path

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


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
