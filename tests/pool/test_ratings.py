from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lm_mixup.errors import RatingsError
from lm_mixup.pool import read_ratings
from lm_mixup.pool.ratings import Coverage, compress, read_all_ratings


def _file(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_lone_rater_in_every_container(tmp_path: Path) -> None:
    rows = [{"id": "a", "judge": 4, "note": "x"}, {"id": 7, "judge": None, "note": "y"}, {"id": "c", "judge": 2.5}]
    expected = {"a": 4.0, "7": None, "c": 2.5}
    assert read_ratings(_file(tmp_path / "r.jsonl", *rows)) == expected
    (tmp_path / "r.csv").write_text("id,judge,note\na,4,x\n7,,y\nc,2.5,\n")
    assert read_ratings(tmp_path / "r.csv") == expected
    pq.write_table(pa.table({"id": ["a", "7", "c"], "judge": [4, float("nan"), 2.5]}), tmp_path / "r.parquet")
    assert read_ratings(tmp_path / "r.parquet") == expected


def test_several_raters(tmp_path: Path) -> None:
    path = _file(tmp_path / "r.jsonl", {"id": "a", "gpt": 4, "llama": 1}, {"id": "b", "gpt": 0, "llama": None})
    assert read_ratings(path, "llama") == {"a": 1.0, "b": None}
    with pytest.raises(RatingsError, match=r"gpt, llama.*--rater"):
        read_ratings(path)
    with pytest.raises(RatingsError, match=r"no rater 'claude'.*gpt, llama"):
        read_ratings(path, "claude")
    both = read_all_ratings(path)
    assert both.raters == ("gpt", "llama")
    assert both.values[0].tolist() == [4.0, 1.0]
    assert math.isnan(both.values[1, 1])
    assert both.coverage(["b", "x"], "gpt") == Coverage(rated=1, unrated=1, unknown=1)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "r": 4}, {"id": "b", "r": 7}], r"line 2: r is 7, expected 0–5.*scale 1-10"),
        ([{"id": "a", "r": -0.5}], "expected 0–5"),
        ([{"id": "a", "r": "high"}], "no column of numbers"),
        ([{"id": "a", "r": True}], "no column of numbers"),
        ([{"id": "a", "r": 1}, {"r": 2}], "line 2: no 'id'"),
        ([{"id": "a", "r": 1}, {"id": "a", "r": 2}], "rated differently at line 1"),
        ([{"id": [1], "r": 1}], "line 1: id is a list"),
        ([{"id": "a", "r": 1}, 3], "line 2: not-an-object"),
        ([], "no column of numbers"),
    ],
)
def test_a_rating_is_never_guessed(rows: list[object], said: str, tmp_path: Path) -> None:
    with pytest.raises(RatingsError, match=said):
        read_ratings(_file(tmp_path / "r.jsonl", *rows))


def test_a_named_rater_that_holds_words_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(RatingsError, match="line 2: r is 'high'"):
        read_ratings(_file(tmp_path / "r.jsonl", {"id": "a", "r": 1}, {"id": "b", "r": "high"}), "r")


def test_identical_lines_are_counted_once(tmp_path: Path) -> None:
    path = _file(tmp_path / "r.jsonl", {"id": "a", "r": 1}, {"id": "a", "r": 1})
    ratings = read_all_ratings(path)
    assert (ratings.ids, ratings.repeated) == (("a",), 1)


def test_the_judges_scale_is_compressed_when_asked_for(tmp_path: Path) -> None:
    path = _file(tmp_path / "r.jsonl", *({"id": str(n), "overall": n} for n in range(1, 11)))
    assert list(read_ratings(path, scale="1-10").values()) == [0, 0, 0, 0, 1, 2, 3, 4, 5, 5]
    assert compress(6.5) == 2.5
    with pytest.raises(RatingsError, match="expected 1–10"):
        read_ratings(_file(tmp_path / "z.jsonl", {"id": "a", "r": 0}), scale="1-10")


@pytest.mark.parametrize("name", ["absent.jsonl", "r.txt"])
def test_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(RatingsError, match="expected a ratings file"):
        read_ratings(tmp_path / name)


@pytest.mark.data
def test_the_real_ratings(data_dir: Path) -> None:
    ratings = read_all_ratings(data_dir / "ratings" / "dolly.jsonl")
    assert ratings.values.shape == (4000, 3)
    assert set(ratings.values.ravel().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
