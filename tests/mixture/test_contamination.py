"""Benchmarks stay out: long texts by n-grams, short ones as a whole, and by embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lm_mixup.errors import InputError
from lm_mixup.mixture.contamination import Benchmarks, near_benchmarks

LONG = "Janet sells sixteen eggs a day at the market and eats three of them for breakfast every morning"


def test_shared_n_grams_and_short_wholes() -> None:
    known = Benchmarks([LONG, "What happens if you eat watermelon seeds?", "Too short."])
    assert known.shares(f"Q: They say: {LONG.upper()}!\nA: yes")
    assert known.shares("Q: What happens if you eat watermelon seeds?\nA: Nothing.")
    assert not known.shares("Janet sells sixteen eggs a day. She eats three of them.")
    assert not known.shares("Too short.")


def test_reading_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": LONG, "context": "A passage of words."}) + "\n")
    (tmp_path / "b.json").write_text(json.dumps({"examples": [{"input": "not ( True ) and ( True ) is what?"}]}))
    (tmp_path / "c.csv").write_text("Type,Question\nx,Is the sky green at noon?\n")
    (tmp_path / "d.txt").write_text("no rows here")
    known = Benchmarks.read(tmp_path)
    assert set(known.texts) == {
        LONG,
        "A passage of words.",
        "not ( True ) and ( True ) is what?",
        "Is the sky green at noon?",
    }


def test_a_folder_without_benchmarks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark"):
        Benchmarks.read(tmp_path)
    with pytest.raises(InputError, match="expected a folder"):
        Benchmarks.read(tmp_path / "none")


def test_near_in_embedding() -> None:
    rows = np.array([[1, 0], [0.8, 0.6]], np.float32)
    assert near_benchmarks(rows, np.array([[0.99, 0.141]], np.float32), threshold=0.95).tolist() == [True, False]
    assert near_benchmarks(rows, np.zeros((0, 2), np.float32)).tolist() == [False, False]


@pytest.mark.data
def test_the_real_benchmarks_are_read(data_dir: Path) -> None:
    known = Benchmarks.read(data_dir / "benchmarks")
    assert len(known.texts) > 15_000
    assert known.shares("Is it true? What happens to you if you eat watermelon seeds?")
