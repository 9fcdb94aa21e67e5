"""A run folder: what is finished, what it was made from, and who may write.

::

    RUN/
      recipe.yaml  train.jsonl  lineage.jsonl  quarantine.jsonl  README.md
      pool/        records.arrow                 + manifest.json
      STAGE/       records.parquet               + manifest.json     (rate curate cluster distill rerate select)
      embed/       vectors.npy                   + manifest.json
      graph/       ids.npy, similarities.npy     + manifest.json
      cascade/     cascade.json, head.npz        + manifest.json     where the rater is a cascade
      store/       what was worked out, by content: vectors-KEY/ ratings-KEY/ distillates-KEY/
      ledger.sqlite  every LLM request and its answer

A manifest is written last: a folder without one is unfinished. Its ``key`` hashes everything that the folder's
content depends on; where it matches, the step is skipped.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from lm_mixup import __version__
from lm_mixup.errors import InvariantError, RunError
from lm_mixup.files import file_digest, replacing, write_bytes
from lm_mixup.recipe import Recipe, dump
from lm_mixup.records import digest
from lm_mixup.store import Store

STAGES = ("rate", "curate", "cluster", "distill", "rerate", "select")
"""The stages in the order of the walk."""

UNITS = {
    "embed": "samples",
    "graph": "samples",
    "cascade": "questions",
    "rate": "samples",
    "curate": "samples",
    "cluster": "samples",
    "distill": "clusters",
    "rerate": "distillates",
    "select": "candidates",
}
"""What each step counts."""

_RECORDS = {"pool": "records.arrow", "embed": "vectors.npy", "graph": "ids.npy", "cascade": "cascade.json"}


@dataclass(frozen=True)
class Manifest:
    """What a finished step says of itself.

    ``in_`` = ``kept`` + the sum of ``dropped`` + ``failed``, counted in ``unit``; ``seconds`` is wall time of the
    work that was really done; ``output`` is the hash of the records; ``notes`` are sentences for the user;
    ``figures`` are JSON-able measurements.
    """

    step: str
    key: str
    unit: str
    in_: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    seconds: float = 0.0
    output: str = ""
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.in_ != self.kept + sum(self.dropped.values()) + self.failed:
            raise InvariantError(
                f"{self.step}: {self.in_} {self.unit} went in, but {self.kept} kept + {dict(self.dropped)} dropped + "
                f"{self.failed} failed is another number; please report this"
            )

    def counts(self) -> dict[str, Any]:
        """The stage's entry in the summary of ``lm-mixup run --json``."""
        return {
            "unit": self.unit,
            "in": self.in_,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
        }


class Run:
    """A run folder, held by one process at a time.

    Raises RunError if the folder holds something else than a run, or if another process is writing to it.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self._lock: IO[bytes] | None = None
        self.resources = ExitStack()
        """What is closed with the run: the ledger, connections."""
        if read_only:
            if not (folder / "recipe.yaml").is_file():
                raise RunError(
                    f"{folder}: no run folder (it has no recipe.yaml); lm-mixup run POOL -o {folder} makes one"
                )
            return
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder}: expected a folder for the run, got a file; give another -o")
        known = {"recipe.yaml", "pool", "store", ".lock"}
        if folder.is_dir() and any(folder.iterdir()) and not known & {p.name for p in folder.iterdir()}:
            raise RunError(f"{folder}: the folder holds something else than a run; give an empty or a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / ".lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RunError(
                f"{folder}: another process is working on this run; wait for it, or give another -o"
            ) from error

    def close(self) -> None:
        """Close what the run opened, and let other processes write to it."""
        self.resources.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, name: str) -> Path:
        """The folder of a step."""
        return self.folder / name

    def records(self, name: str) -> Path:
        """The records of a step."""
        return self.folder / name / _RECORDS.get(name, "records.parquet")

    def store(self, kind: str, key: str, schema: pa.Schema) -> Store:
        """The store of results of one kind, made by the collaborator with this key."""
        return Store(self.folder / "store" / f"{kind}-{digest(key)[:16]}", schema)

    def manifest(self, name: str) -> Manifest | None:
        """What the step says of itself; None where it is not finished."""
        path = self.folder / name / "manifest.json"
        try:
            value = orjson.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError as error:
            raise RunError(
                f"{path}: not readable ({error}); remove the folder {path.parent} to have the step redone"
            ) from error
        value["in_"] = value.pop("in")
        value["notes"] = tuple(value["notes"])
        return Manifest(**value)

    def need(self, name: str) -> Manifest:
        """The manifest of a step that must be finished by now. RunError where it is not."""
        manifest = self.manifest(name)
        if manifest is None:
            raise RunError(f"{self.folder}: {name} is not finished here and is needed; lm-mixup run does all")
        return manifest

    def finished(self, name: str, key: str) -> Manifest | None:
        """The manifest of a step that was finished with this key and whose records are still there; else None."""
        manifest = self.manifest(name)
        return manifest if manifest and manifest.key == key and self.records(name).is_file() else None

    def begin(self, name: str) -> None:
        """Say that a step is being redone: its manifest goes first, so that a crash leaves it unfinished."""
        self.step(name).mkdir(parents=True, exist_ok=True)
        (self.step(name) / "manifest.json").unlink(missing_ok=True)

    def finish(self, manifest: Manifest) -> Manifest:
        """Write a step's manifest, its last file; fills in the hash of the records."""
        value = asdict(manifest) | {"output": file_digest(self.records(manifest.step))}
        named = {"in" if name == "in_" else name: entry for name, entry in value.items()}
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        write_bytes(self.step(manifest.step) / "manifest.json", orjson.dumps(named, option=options) + b"\n")
        return self.manifest(manifest.step) or manifest

    def write_records(self, name: str, table: pa.Table) -> None:
        """Write a step's records in one step."""
        with replacing(self.records(name)) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    def read_records(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A finished step's records. RunError where there are none."""
        path = self.records(name)
        if not path.is_file():
            raise RunError(
                f"{self.folder}: the stage {name!r} has not been run here yet; lm-mixup {name} {self.folder} does"
            )
        return pq.read_table(path, columns=columns)


def step_key(**parts: object) -> str:
    """Hash of everything that a step's result depends on."""
    return digest(parts)


def summary(run: Run) -> dict[str, Any]:
    """What ``lm-mixup run --json`` prints last: rows in and out, and every finished stage's counts."""
    stages = {name: manifest for name in STAGES if (manifest := run.manifest(name))}
    pool = run.manifest("pool")
    embed = run.manifest("embed")
    train = run.folder / "train.jsonl"
    select = stages.get("select")
    done = [manifest for manifest in (pool, *stages.values()) if manifest]
    notes = [f"{manifest.step}: {note}" for manifest in done for note in manifest.notes]
    return {
        "run": str(run.folder),
        "train": str(train) if train.is_file() else None,
        "rows": {
            "in": pool.in_ if pool else 0,
            "train": select.kept if select and train.is_file() else 0,
            "quarantined": sum(pool.dropped.values()) if pool else 0,
        },
        "stages": {name: manifest.counts() for name, manifest in stages.items()},
        "seconds": {name: round(m.seconds, 3) for name, m in (("pool", pool), ("embed", embed)) if m},
        "notes": notes,
    }


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the resolved recipe, the first thing in a run folder."""
    write_bytes(folder / "recipe.yaml", f"# lm-mixup {__version__}\n{dump(recipe)}".encode())
