"""Fetching a model's files: from a wheel on the package index, or from the Hugging Face hub.

Nothing is trusted but the size and the SHA-256 that the caller gives; a file that does not have them is never put in
its place. :mod:`lm_mixup.models` decides what is fetched, in which order, and under which lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lm_mixup.errors import StorageError

Tell = Callable[[int], None]
"""Called with the number of bytes that have arrived."""

_CONNECT_TIMEOUT_S = 5.0
_STALL_TIMEOUT_S = 30.0
_POLL_S = 0.1
_BLOCK_BYTES = 1 << 20


class SourceFailed(Exception):
    """A source did not give the files; the message says why."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model: its name in the model's folder, size in bytes and SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on the package index that carries a model's files in ``folder`` (members ``folder/FILE``)."""

    project: str
    version: str
    folder: str


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the Hugging Face hub at a commit, with the same files under the same names."""

    repo: str
    revision: str


def from_wheel(wheel: Wheel, files: Sequence[ModelFile], home: Path, tell: Tell) -> None:
    """Put the files that a wheel carries into ``home``; the wheel comes through the user's own pip configuration.

    Raises SourceFailed, or StorageError where ``home`` cannot be written.
    """
    if importlib.util.find_spec("pip") is None:
        raise SourceFailed("this Python has no pip")
    with _staging(home) as staging:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        # two tries at the network, whatever the user's configuration says: offline must not take minutes
        command += ["--retries", "1", "--timeout", "10", "--no-deps", "--only-binary=:all:", "--dest", str(staging)]
        command.append(f"{wheel.project}=={wheel.version}")
        _run_pip(command, staging, tell)
        wheels = list(staging.glob("*.whl"))
        if len(wheels) != 1:
            raise SourceFailed(f"expected one wheel from pip, found {len(wheels)}")
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                # only members that are named here are read, into names that are given here
                for file in files:
                    with archive.open(f"{wheel.folder}/{file.name}") as member:
                        _install(member, file, home)
        except (KeyError, zipfile.BadZipFile, RuntimeError) as error:
            raise SourceFailed(f"the wheel is not as expected: {error}") from error
    tell(sum(file.size for file in files))


@contextlib.contextmanager
def _staging(home: Path) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix=".wheel-", dir=home) as staging:
            yield Path(staging)
    except OSError as error:
        raise StorageError(f"{home} cannot be written: {error}; free space, or choose another cache folder") from error


def _run_pip(command: list[str], staging: Path, tell: Tell) -> None:
    """Run pip with its temporary files in ``staging``, tell of their growth, stop it if nothing arrives."""
    # pip writes what it downloads into its temporary folder first
    environment = {**os.environ, "TMPDIR": str(staging)}
    with tempfile.TemporaryFile(dir=staging) as log:  # has no name, so it does not count as arrived
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        arrived, since = 0, time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(_POLL_S)
                now = _bytes_under(staging)
                if now != arrived:
                    arrived, since = now, time.monotonic()
                    tell(arrived)
                elif time.monotonic() - since > _STALL_TIMEOUT_S:
                    raise SourceFailed(f"pip download: nothing arrived for {_STALL_TIMEOUT_S:g} s")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines() or [f"exit status {process.returncode}"]
    if process.returncode:
        # of a network that is not there pip's last line says only that it found no package
        broken = [line for line in said[:-1] if "connection broken" in line][-1:]
        # an index address may carry a password; pip hides it, and so do we
        raise SourceFailed("pip download: " + re.sub(r"//[^/@\s]+@", "//****@", "; ".join([*broken, said[-1]])))


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves files while we look
            total += path.lstat().st_size if path.is_file() else 0
    return total


def from_hub(source: Hub, hub: str, files: Sequence[ModelFile], home: Path, tell: Tell) -> None:
    """Put the files of a hub repository into ``home``; ``hub`` is the hub's address or a mirror's.

    Plain HTTPS from the standard library: public files need no token, and so the hub needs no extra.
    Raises SourceFailed, or StorageError where ``home`` cannot be written.
    """
    before = 0
    for file in files:
        try:
            response = _open_url(f"{hub.rstrip('/')}/{source.repo}/resolve/{source.revision}/{file.name}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceFailed(f"{file.name}: {error}") from error
        with contextlib.closing(response):
            _install(response, file, home, _after(tell, before))
        before += file.size


def _after(tell: Tell, before: int) -> Tell:
    return lambda count: tell(before + count)


def _open_url(url: str) -> IO[bytes]:
    """Open ``url``. Bounded as a whole: a name server or a list of addresses may each take their own time-out."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(urllib.request.urlopen(url, timeout=_STALL_TIMEOUT_S))
        except (OSError, http.client.HTTPException, ValueError) as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_CONNECT_TIMEOUT_S)
    if not outcome:
        raise TimeoutError(f"no answer within {_CONNECT_TIMEOUT_S:g} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    response: IO[bytes] = outcome[0]
    return response


def _silent(count: int) -> None:
    pass


def _install(stream: IO[bytes], file: ModelFile, home: Path, tell: Tell = _silent) -> None:
    """Write a stream to its place if, and only if, it has the file's size and hash."""
    sha256, count = hashlib.sha256(), 0

    def read(size: int) -> bytes:
        try:
            return stream.read(size)
        except (OSError, http.client.HTTPException, zipfile.BadZipFile, zlib.error) as error:
            # told apart from the errors of writing
            raise SourceFailed(f"{file.name}: broken off after {count} bytes: {error!r}") from error

    def blocks() -> Iterator[bytes]:
        nonlocal count
        # one byte past the size is enough to see that there is too much
        while block := read(min(_BLOCK_BYTES, file.size + 1 - count)):
            count += len(block)
            sha256.update(block)
            tell(count)
            yield block
        if count != file.size:
            raise SourceFailed(
                f"{file.name}: expected {file.size} bytes, got {count}{' or more' * (count > file.size)}"
            )
        if sha256.hexdigest() != file.sha256:
            raise SourceFailed(f"{file.name}: expected SHA-256 {file.sha256}, got {sha256.hexdigest()}")

    write_file(home / file.name, blocks())


def write_file(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file so that it is there whole or not at all. Raises StorageError where it cannot be written."""
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as out:
            part = Path(out.name)
            for block in blocks:
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        part.chmod(0o644)
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}; free space, or choose another cache folder") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
