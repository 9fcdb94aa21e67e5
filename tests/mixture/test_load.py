"""Layouts: what is written in ours or the authors' comes back as the same rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lm_mixup.errors import PoolError
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rows import Row, make_row, variants_of, write_authors, write_parquet
from lm_mixup.records import TaskType

VARIANTS = {
    "qa": ("Q: Who?\nA: Rollo.", "Q: who led them\nA: a viking"),
    "mcq": ("Q: Which?\nA) one\nB) two\nAnswer: B) two", "Q: Which one?\nA) two\nB) six\nAnswer: A) two"),
    "tfq": ("The moon is a star.\nAnswer: False", "The moon\nAnswer: False\nIt is a rock."),
    "cs": ("C: Moon\nS: It is cold.", "C: moon\nS: it orbits us"),
    "para": ("The moon is cold.", "It orbits us."),
}
OUTPUTS = {
    "qa": "Q: Who led the Normans?\nA: Rollo, a viking.",
    "mcq": "Q: Which one?\nA) one\nB) two\nC) six\nAnswer: B) two",
    "tfq": "The moon is a star.\nAnswer: False\nIt is a rock.",
    "cs": "C: Moon\nS: It is cold and orbits us.",
    "para": "The moon is cold. It orbits us.",
}


def rows() -> list[Row]:
    """One row of each type in each split."""
    made = []
    for number, split in enumerate(("sft", "grpo", "test")):
        for name, variants in VARIANTS.items():
            output = f"{OUTPUTS[name]} ({number})"
            made.append(
                make_row(
                    TaskType(name), variants, output, cot="Sample 1 is short.", source="own", group=f"g{number}",
                    split=split, rating=3.5, variant_ratings=(1.25, None), degraders=("omission", "blur"),
                    noise=("", "typo"), coverage=1.0, in_subset=True if split == "grpo" else None,
                )
            )  # fmt: skip
    return made


def _held_by_authors(row: Row) -> Row:
    """What the authors' layout holds of a row; the GRPO part holds less."""
    small = {"group": "", "rating": None, "variant_ratings": (), "degraders": (), "noise": (), "coverage": None}
    grpo = {"cot": "", "source": ""} if row.split == "grpo" else {}
    return replace(row, **small, **grpo, in_subset=None)


def test_ours_comes_back_whole(tmp_path: Path) -> None:
    for split in ("sft", "grpo", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [r for r in rows() if r.split == split])
    assert load_mixture(tmp_path) == rows()


def test_parquet_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", rows())
    write_parquet(tmp_path / "b.parquet", rows())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("place", ["data_grpo", "data/llm_mixup", "data"])
def test_the_authors_layouts_give_the_same_records(tmp_path: Path, place: str) -> None:
    write_authors(tmp_path, rows())
    if place != "data_grpo":
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data_grpo").rename(tmp_path / place)
    found = {(r.id, r.split): r for r in load_mixture(tmp_path)}
    assert found == {(r.id, r.split): _held_by_authors(r) for r in rows()}


def test_files_as_the_authors_write_them(tmp_path: Path) -> None:
    """Their own shape, not written by our code: ids that are numbers, a space between the pairs, no cot."""
    folder = tmp_path / "data_sft" / "qa"
    folder.mkdir(parents=True)
    given = {
        "id": 7,
        "instruction": "Merge.",
        "input": "Q: Who? A: Rollo. Q: When? A: In 911.",
        "output": "Q: W\nA: R",
        "source": "wiki",
    }
    (folder / "merged_train_qa_noisy.json").write_text(json.dumps([given]))
    (tmp_path / "data_grpo").mkdir()
    para = {"input": "One. Two.", "output": "One two.", "task_type": "para_mixup"}
    (tmp_path / "data_grpo" / "train.json").write_text(json.dumps([para]))
    sft, grpo = load_mixture(tmp_path)
    assert (sft.id, sft.instruction, sft.split, sft.task_type) == ("7", "Merge.", "sft", "qa")
    assert sft.variants == ("Q: Who? A: Rollo.", "Q: When? A: In 911.")
    assert (grpo.task_type, grpo.variants, grpo.split) == ("para", ("One. Two.",), "grpo")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "JSON array of objects"),
        ("[1]", "JSON array of objects"),
        ("[{", "JSON array"),
        ('[{"input": "x", "output": "", "task_type": "qa_mixup"}]', '"output"'),
        ('[{"input": "x", "output": "y", "task_type": "poem"}]', "task_type"),
    ],
)
def test_files_of_another_shape_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "data_grpo").mkdir()
    (tmp_path / "data_grpo" / "train.json").write_text(text)
    with pytest.raises(PoolError, match=said) as error:
        load_mixture(tmp_path)
    assert "train.json" in str(error.value)


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="found neither"):
        load_mixture(tmp_path)
    with pytest.raises(PoolError, match="no such folder"):
        load_mixture(tmp_path / "a" / "b" / "c")


def test_variants_are_told_by_blank_lines_or_labels() -> None:
    for name, variants in VARIANTS.items():
        assert variants_of(TaskType(name), "\n\n".join(variants)) == variants
    assert variants_of(TaskType.CS, "C: a S: b C: c S: d") == ("C: a S: b", "C: c S: d")
    assert variants_of(TaskType.TFQ, "One.\nAnswer: True") == ("One.\nAnswer: True",)
