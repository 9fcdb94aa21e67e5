"""A run once more, from what it recorded: no key, no network, the same bytes.

The recorded run's pool, recipe and ledger are copied into the new folder (and the vectors that were worked out, which
are looked up by content), every stage is done again, and language models answer from the ledger alone.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_mixup import __version__
from lm_mixup.collaborators import Edge, assemble
from lm_mixup.errors import RunError
from lm_mixup.pipeline import Walk
from lm_mixup.recipe import load
from lm_mixup.run_folder import Run, write_recipe
from lm_mixup.steps import Silent, Watcher

PRODUCTS = ("train.jsonl", "lineage.jsonl")


@dataclass(frozen=True)
class Replayed:
    """A replayed run: its folder, its summary, and by product the first line that differs (None: the same bytes)."""

    folder: Path
    summary: dict[str, Any]
    differs: dict[str, int | None]

    @property
    def same(self) -> bool:
        """Whether all products are the same, byte for byte."""
        return all(line is None for line in self.differs.values())


def replay(recorded: Path, folder: Path, *, edge: Edge, watcher: Watcher | None = None) -> Replayed:
    """Do the finished run ``recorded`` again in ``folder``, offline.

    Raises :class:`RunError` where the recorded run is not finished, or ``folder`` holds something else already.
    """
    old = Run(recorded, read_only=True)
    old.need("pool")
    old.need("select")
    for name in PRODUCTS:
        if not (recorded / name).is_file():
            raise RunError(f"{recorded}: expected {name} of a finished run, found none; lm-mixup run finishes it")
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder}: expected a new folder for the replay, got one that holds something; give another -o")
    recipe = load(recorded / "recipe.yaml")
    watcher = watcher or Silent()
    with Run(folder) as held:
        write_recipe(folder, recipe)
        shutil.copytree(recorded / "pool", folder / "pool")
        shutil.copyfile(recorded / "quarantine.jsonl", folder / "quarantine.jsonl")
        for vectors in (recorded / "store").glob("vectors-*"):
            shutil.copytree(vectors, folder / "store" / vectors.name, copy_function=_link)
        _copy_ledger(recorded, folder)
        hands = assemble(recipe, held, edge, offline=True)
        summary = Walk(held, recipe, hands, watcher).all()
    return Replayed(folder, summary, {name: _first_difference(recorded / name, folder / name) for name in PRODUCTS})


def explain(replayed: Replayed, recorded: Path) -> str:
    """What a difference between a run and its replay most likely means."""
    differs = ", ".join(f"{name} from line {line} on" for name, line in replayed.differs.items() if line is not None)
    told = (recorded / "recipe.yaml").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# lm-mixup").strip()
    why = (
        f"the run was made by lm-mixup {told}, this is {__version__}"
        if told != __version__
        else f"lm-mixup diff {recorded} {replayed.folder} says which answers differ"
    )
    return f"the replay differs: {differs}; {why}"


def _link(source: str, target: str) -> None:
    """Segments are never changed once written, so that a second name for them is as good as a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _copy_ledger(recorded: Path, folder: Path) -> None:
    if not (recorded / "ledger.sqlite").is_file():
        return  # no language model took part
    from lm_mixup.ledger import Ledger

    with Ledger(recorded / "ledger.sqlite") as ledger:
        ledger.copy_to(folder / "ledger.sqlite")


def _first_difference(one: Path, two: Path) -> int | None:
    """The number of the first line that differs, None where the files are the same."""
    with one.open("rb") as a, two.open("rb") as b:
        number = 0
        while True:
            number += 1
            first, second = a.readline(), b.readline()
            if first != second:
                return number
            if not first:
                return None
