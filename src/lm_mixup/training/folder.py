"""The folder of a training: what was asked for, figures as they come, checkpoints, and the model at the end.

::

    OUT/train.json        the settings, the data's hash, versions: written first; a resumed training must match it
    OUT/log.jsonl         a line every few steps; watch.jsonl: what the watch of GRPO saw
    OUT/checkpoints/      what a resumed training goes on from
    OUT/adapter_model.safetensors (or model.safetensors), lm_mixup.json, README.md: the model, written last
"""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from lm_mixup.errors import RunError
from lm_mixup.files import write_bytes

_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
VERSIONS = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "numpy")


class Folder:
    """The folder at ``path``, opened for the training that ``asked`` describes.

    ``by_line``: the log itself is what a resumed run goes on from, and not a checkpoint. Raises RunError where the
    folder holds another training, or holds this one and ``resume`` is not given.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any], *, resume: bool, by_line: bool = False) -> None:
        self.path = path
        self.log = path / "log.jsonl"
        self.watch = path / "watch.jsonl"
        self.checkpoints = path / "checkpoints"
        self.resume_from = self._open(asked, resume)
        if resume:
            self._forget_after(math.inf if by_line else _step(self.resume_from) if self.resume_from else 0)

    def _open(self, asked: Mapping[str, Any], resume: bool) -> Path | None:
        record = self.path / "train.json"
        if not record.is_file():
            if resume:
                raise RunError(f"{self.path}: nothing to resume: no train.json there; leave --resume out to begin")
            if self.path.exists() and any(self.path.iterdir()):
                raise RunError(f"{self.path}: holds files, but no training; give an empty or a new folder")
            versions = {name: _version(name) for name in VERSIONS}
            write_bytes(record, _json({"asked": asked, "versions": versions}))
            return None
        before = orjson.loads(record.read_bytes())["asked"]
        if changes := sorted(_changes(before, orjson.loads(_json(asked)), "")):
            raise RunError(f"{self.path}: holds another training: {'; '.join(changes[:5])}; give another folder")
        if not resume:
            raise RunError(f"{self.path}: holds this training already; --resume goes on with it")
        return max(self._saved(), key=_step, default=None)

    def _saved(self) -> list[Path]:
        """Checkpoints that are whole: transformers writes ``trainer_state.json`` last."""
        found = self.checkpoints.glob("checkpoint-*")
        return [path for path in found if _CHECKPOINT.match(path.name) and (path / "trainer_state.json").is_file()]

    def _forget_after(self, step: float) -> None:
        """Drop lines of the log past the checkpoint (those steps are done again), and what a kill cut short."""
        kept = [line for line in self.lines() if line["step"] <= step]
        write_bytes(self.log, b"".join(_json_line(line) for line in kept))

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; a line that a kill cut short is left out."""
        return _read(self.log)

    def looks(self) -> list[dict[str, Any]]:
        """What the watch saw so far (:mod:`lm_mixup.training.watch`)."""
        return _read(self.watch)

    def tell(self, more: Mapping[str, Any]) -> None:
        """Add what came of it to ``train.json``."""
        record = self.path / "train.json"
        write_bytes(record, _json({**orjson.loads(record.read_bytes()), **more}))

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        with self.log.open("ab") as file:
            file.write(_json_line(line))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")]


def _step(checkpoint: Path) -> int:
    found = _CHECKPOINT.match(checkpoint.name)
    assert found is not None
    return int(found[1])


def _changes(before: Any, now: Any, name: str) -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = before.keys() | now.keys()
        return [c for k in keys for c in _changes(before.get(k), now.get(k), f"{name}.{k}".lstrip("."))]
    return [] if before == now else [f"{name} was {before!r}, is {now!r}"]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str)


def _json_line(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"
