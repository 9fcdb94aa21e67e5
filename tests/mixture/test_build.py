"""The whole builder on small sources: every record accounted for, no leak, the same bytes each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lm_mixup.errors import InputError
from lm_mixup.mixture.build import Build, Builder, Settings, save
from lm_mixup.mixture.card import write_card
from lm_mixup.mixture.cross_topic import CrossTopic
from lm_mixup.mixture.degrade import RuleDegrader
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rate import Line
from lm_mixup.mixture.split import Split
from lm_mixup.mixture.stats import describe, shared_groups
from lm_mixup.mixture.write import ExtractiveWriter
from lm_mixup.records import TaskType
from lm_mixup.task_types import parse
from tests.fakes import LengthRater, WordEmbedder
from tests.mixture.material import write_sources


def _builder(benchmarks: Path | None = None, seed: int = 0) -> Builder:
    degrader = RuleDegrader(seed=seed)
    return Builder(
        embedder=WordEmbedder(),
        rater=LengthRater(80),
        writer=ExtractiveWriter(),
        degrader=degrader,
        # the embedder of the tests knows words alone, and the paragraphs of the tests share most of theirs
        cross_topic=CrossTopic(share=0.3, same=0.999, seed=seed),
        line=Line(drop_share=0.1),
        benchmarks=benchmarks,
        settings=Settings(seed=seed, rated_variants=5, leak_threshold=0.9999, subset_threshold=0.9999),
    )


def _build(folder: Path, count: int = 40, **settings: object) -> Build:
    return _builder(**settings).build(write_sources(folder, count))  # type: ignore[arg-type]


def test_rows_are_sound_and_accounted_for(tmp_path: Path) -> None:
    built = _build(tmp_path)
    assert {r.task_type for r in built.rows()} == set(map(str, TaskType))
    steps = {m.step: m for m in built.steps}
    assert list(steps) == ["collect", "write", "degrade", "cross_topic", "rate", "split", "grpo_subset"]
    for before, after in (("write", "degrade"), ("degrade", "cross_topic"), ("cross_topic", "rate"), ("rate", "split")):
        assert steps[before].kept == steps[after].in_
    assert steps["split"].kept == len(built)
    assert steps["grpo_subset"].kept == sum(bool(r.in_subset) for r in built.rows())
    assert steps["cross_topic"].dropped["merged-into-another"] > 0
    assert shared_groups(built.rows()) == 0
    for row in built.rows():
        task_type = TaskType(row.task_type)
        assert 2 <= len(row.variants) <= 20
        assert row.input == "\n\n".join(row.variants)
        assert all(parse(task_type, text) for text in (row.output, *row.variants))
        assert len(row.degraders) == len(row.noise) == len(row.variant_ratings) == len(row.variants)
        assert row.cot
        assert (row.in_subset is None) == (row.split != "grpo")
    assert {r.split for r in built.rows()} == {"sft", "grpo", "test"}


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "sources", 12)
    for name, hash_seed in (("one", "1"), ("two", "2")):
        code = (
            "from pathlib import Path\nfrom tests.mixture.test_build import _builder\n"
            "from lm_mixup.mixture.build import save\n"
            f"b = _builder()\nbuilt = b.build({[str(s) for s in sources]!r})\n"
            f"save(built, b.description(), Path({str(tmp_path / name)!r}))\n"
        )
        root = Path(__file__).resolve().parents[2]
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True
        )
    names = ["sft.parquet", "grpo.parquet", "test.parquet", "manifest.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    assert list(_build(tmp_path, 8).rows()) != list(_build(tmp_path, 8, seed=1).rows())


def test_benchmarks_are_kept_out(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    asked = "Which tool would a careful gardener use to move 2 heaps of wet leaves in the autumn?"
    (folder / "b.jsonl").write_text(json.dumps({"question": asked}) + "\n")
    built = _build(tmp_path / "s", 8, benchmarks=folder)
    step = next(m for m in built.steps if m.step == "decontaminate")
    assert step.dropped["benchmark-ngram"] >= 1
    assert not any(asked in r.output for r in built.rows())


def test_lines() -> None:
    types = [TaskType.QA] * 4 + [TaskType.TFQ] * 4
    ratings = [1.0, 2.0, 3.0, 4.0, 0.1, 0.2, None, 0.4]
    assert Line(2.5, 0).passes(types, ratings) == [False, False, True, True] + [False] * 4
    relative = Line(drop_share=0.3).passes(types, ratings)
    assert relative == [False, True, True, True, False, True, False, True]
    assert Line(None, 0).passes(types, ratings) == [True] * 6 + [False, True]


def test_saved_in_both_layouts_and_described(tmp_path: Path) -> None:
    built = _build(tmp_path / "s", 20)
    save(built, {"writer": "extractive"}, tmp_path / "ours")
    written = save(built, {"writer": "extractive"}, tmp_path / "authors", layout="authors")
    assert list(written.rows()) == [r for r in built.rows() if r.in_subset is not False]
    with pytest.raises(InputError, match="layout"):
        save(built, {}, tmp_path / "x", layout="other")
    order = {(r.split, r.id): r for r in built.rows()}
    ours = load_mixture(tmp_path / "ours")
    assert {(r.split, r.id) for r in ours} == set(order)
    assert all(r.variants == order[r.split, r.id].variants for r in ours)
    theirs = {(r.split, r.id): r for r in load_mixture(tmp_path / "authors")}
    assert set(theirs) == {key for key, r in order.items() if r.in_subset is not False}
    assert all(r.variants == order[key].variants and r.output == order[key].output for key, r in theirs.items())
    manifest = json.loads((tmp_path / "ours" / "manifest.json").read_text())
    for step in manifest["steps"]:
        assert step["in"] == step["kept"] + sum(step["dropped"].values()) + step["failed"]
    assert manifest["rows"] == {str(s): sum(r.split == s for r in built.rows()) for s in Split}
    stats = write_card(tmp_path / "ours", built.rows(), manifest)
    card = (tmp_path / "ours" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "path: sft.parquet" in card
    assert "| qa |" in card
    for name in ("types", "variants", "lengths", "ratings", "overlap"):
        assert f"figures/{name}.svg" in card
        assert (tmp_path / "ours" / "figures" / f"{name}.svg").read_text().startswith("<svg")
    assert stats["format"] == {"outputs": 1.0, "variants": 1.0}
    assert stats["shared_groups"] == 0


def test_figures_of_ratings_compare_what_they_say() -> None:
    from tests.mixture.test_load import rows

    below = describe(rows())["rated_below_target"]
    # in the rows of the test every target is rated 3.5, and the first variant, by omission, 1.25
    assert below["omission"]["qa"] == {"variants": 3, "below": 1.0, "length_matched": 1.0, "points": 2.25}
    assert "blur" not in below
