"""Files are whole or absent, and a full disk says so."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lm_mixup.errors import StorageError
from lm_mixup.files import file_digest, replacing, write_bytes


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path):
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert file_digest(path) != file_digest(Path(__file__))


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_a_storage_error_and_another_error_is_itself(tmp_path: Path):
    with pytest.raises(StorageError, match="run the same command again"), replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "no space left on device")
    with pytest.raises(PermissionError), replacing(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "no")
