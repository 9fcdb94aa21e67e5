"""From what a user names (a file, a folder, a saved data set, a hub id) to the files to read, in a fixed order."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_mixup.errors import PoolError
from lm_mixup.pool.containers import COMPRESSIONS, CONTAINERS, container_of

DEFAULT_SPLIT = "train"
METADATA = frozenset({"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"})
"""Files of a saved data set that hold no rows."""

_SHARD = re.compile(r"-\d{3,}-of-\d{3,}$")


@dataclass(frozen=True, slots=True)
class PoolFile:
    """One file to read: where it lies, the name that rows and reports call it by, and the source of its rows."""

    path: Path
    name: str
    source: str
    container: str


def expand(given: str | Path, notes: list[str]) -> list[PoolFile]:
    """The files behind a path or a hub id. What is left aside is said in ``notes``. Raises :class:`PoolError`."""
    path = Path(given)
    if isinstance(given, str) and given.startswith("hf://"):
        return _from_hub(given, notes)
    if path.is_dir():
        return _folder(path, notes)
    if path.is_file():
        container = container_of(path)
        if container is None:
            raise PoolError(f"{path}: unknown kind of file. Expected a name that ends in {_endings()}")
        return [PoolFile(path, str(given), source_name(path), container)]
    if path.exists():
        raise PoolError(f"{path}: neither a file nor a folder; pipes and devices cannot be read again to resume a run")
    if isinstance(given, str) and looks_like_hub_id(given):
        return _from_hub(given, notes)
    raise PoolError(f"{given}: no such file or folder")


def looks_like_hub_id(given: str) -> bool:
    """Whether a name that is no path could be a data set on the hub: ``org/name``, maybe with ``:split``."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?", given)) and container_of(given) is None


def source_name(path: Path) -> str:
    """A file's name without its endings and without a shard's number: ``dolly.jsonl.gz`` → ``dolly``."""
    name = path.name
    while Path(name).suffix.lower() in (*COMPRESSIONS, *CONTAINERS):
        name = Path(name).stem
    return _SHARD.sub("", name)


def _folder(folder: Path, notes: list[str]) -> list[PoolFile]:
    if (folder / "dataset_dict.json").is_file():
        splits = _json(folder / "dataset_dict.json").get("splits", [])
        if DEFAULT_SPLIT not in splits:
            raise PoolError(
                f"{folder}: a data set of splits {', '.join(splits)}; name one, e.g. {folder / splits[0]}"
                if splits
                else f"{folder}: a data set without splits"
            )
        others = [name for name in splits if name != DEFAULT_SPLIT]
        if others:
            notes.append(f"{folder}: read the split {DEFAULT_SPLIT}, left {', '.join(others)} (name it to read it)")
        return _saved(folder / DEFAULT_SPLIT, folder.resolve().name)
    if (folder / "state.json").is_file() and "_data_files" in _json(folder / "state.json"):
        parent = folder.resolve().parent
        named = parent if (parent / "dataset_dict.json").is_file() else folder.resolve()
        return _saved(folder, named.name)
    found, unknown = [], []
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).parts):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        container = container_of(path)
        if container is None or path.name in METADATA:
            unknown.append(str(relative))
        else:
            found.append(PoolFile(path, str(path), source_name(path), container))
    if unknown:
        shown = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        notes.append(f"{folder}: left aside, no pools by their names: {shown}")
    if not found:
        raise PoolError(f"{folder}: no file of a known kind in it. Expected names that end in {_endings()}")
    return found


def _saved(folder: Path, source: str) -> list[PoolFile]:
    """The shards of a data set that ``datasets`` saved, in its order."""
    state = _json(folder / "state.json")
    if any(value for key, value in state.items() if "indices" in key):
        raise PoolError(
            f"{folder}: saved with an index of rows (a selection or shuffle that was not written out). "
            "Expected plain rows: save it again after .flatten_indices()"
        )
    shards = [folder / shard["filename"] for shard in state.get("_data_files", [])]
    for shard in shards:
        if not shard.is_file():
            raise PoolError(f"{shard}: named in {folder / 'state.json'} but not there; copy the whole folder")
    return [PoolFile(shard, str(shard), source, "arrow") for shard in shards]


def _from_hub(given: str, notes: list[str]) -> list[PoolFile]:
    from lm_mixup.pool import hub

    return [
        PoolFile(path, name, source, container)
        for path, name, source in hub.fetch(given, notes)
        if (container := container_of(name))
    ]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise PoolError(f"{path}: expected JSON: {error}") from error
    if not isinstance(value, dict):
        raise PoolError(f"{path}: expected a JSON object")
    return value


def _endings() -> str:
    return ", ".join(CONTAINERS) + f" (text also with {' or '.join(COMPRESSIONS)})"
