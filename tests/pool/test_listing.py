from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from lm_mixup.errors import PoolError

from .helpers import chat, pool_file, read_all


def _saved(folder: Path, shards: list[list[str]], **state: object) -> Path:
    """A data set as ``datasets.save_to_disk`` writes it: Arrow streams and two JSON files."""
    folder.mkdir(parents=True)
    names = []
    for number, questions in enumerate(shards):
        name = f"data-{number:05}-of-{len(shards):05}.arrow"
        table = pa.table({"prompt": questions, "completion": ["yes"] * len(questions)})
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        names.append({"filename": name})
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": "train", **state}))
    return folder


def test_a_folder_is_all_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.jsonl", "a.jsonl", "sub/c.json", ".hidden/x.jsonl", ".y.jsonl"):
        pool_file(tmp_path / name, [chat(name)])
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "dataset_infos.json").write_text("{}")
    good, _, report = read_all(tmp_path)
    assert [row.sample.prompt for row in good] == ["a.jsonl", "b.jsonl", "sub/c.json"]
    assert [row.sample.source for row in good] == ["a", "b", "c"]
    assert [file.pool for file in report.files] == [str(tmp_path / n) for n in ("a.jsonl", "b.jsonl", "sub/c.json")]
    assert report.notes == [f"{tmp_path}: left aside, no pools by their names: README.md, dataset_infos.json"]


def test_a_folder_without_pools_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("words")
    with pytest.raises(PoolError, match="no file of a known kind"):
        read_all(tmp_path)


def test_a_saved_data_set(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "my-set", [["b", "a"], ["c"]])
    good, _, _ = read_all(folder)
    assert [row.sample.prompt for row in good] == ["b", "a", "c"]
    assert {row.sample.source for row in good} == {"my-set"}


def test_a_saved_data_set_of_splits_gives_the_train_split_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "my-set"
    _saved(folder / "train", [["a"]])
    _saved(folder / "test", [["b"]])
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["test", "train"]}))
    good, _, report = read_all(folder)
    assert [(row.sample.prompt, row.sample.source) for row in good] == [("a", "my-set")]
    assert "left test" in report.notes[0]
    other, _, _ = read_all(folder / "test")
    assert [(row.sample.prompt, row.sample.source) for row in other] == [("b", "my-set")]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"_indices_data_files": [{"filename": "i.arrow"}]}, "flatten_indices"),
        ({"_data_files": [{"filename": "x"}]}, "not there"),
    ],
)
def test_a_saved_data_set_that_cannot_be_read_plainly_is_refused(
    state: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(PoolError, match=said):
        read_all(_saved(tmp_path / "s", [["a"]], **state))


def test_splits_without_train_are_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "test", [["b"]])
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["test"]}))
    with pytest.raises(PoolError, match="name one"):
        read_all(tmp_path)
