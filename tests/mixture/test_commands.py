"""``lm-mixup mixture`` on the terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lm_mixup import models
from lm_mixup.cli.main import app
from lm_mixup.errors import InputError, ModelError
from lm_mixup.mixture.push import push
from lm_mixup.mixture.rows import write_authors
from tests.mixture.material import write_sources
from tests.mixture.test_load import rows


def test_load_then_stats(tmp_path: Path) -> None:
    write_authors(tmp_path / "theirs", rows())
    done = CliRunner().invoke(
        app, ["mixture", "load", str(tmp_path / "theirs"), "-o", str(tmp_path / "ours"), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output.splitlines()[-1])["rows"] == {"sft": 5, "grpo": 5, "test": 5}
    done = CliRunner().invoke(app, ["mixture", "stats", str(tmp_path / "ours"), "--json"])
    assert json.loads(done.output)["rows"] == 15
    done = CliRunner().invoke(app, ["mixture", "stats", str(tmp_path / "ours")])
    assert "| qa | 1 | 1 | 1 |" in done.output


@pytest.mark.parametrize("layout", ["ours", "authors"])
def test_built_with_the_embedded_models(tmp_path: Path, layout: str) -> None:
    cache = Path(os.environ.get("LM_MIXUP_CACHE", Path.home() / ".cache/lm-mixup"))
    try:
        models.resolve("all-minilm-l6-v2", cache_dir=cache)
    except ModelError as error:
        pytest.skip(str(error))
    sources = [str(path) for path in write_sources(tmp_path / "sources", 6)]
    out = tmp_path / "out"
    asked = ["mixture", "build", *sources, "-o", str(out), "--layout", layout, "--rate-variants", "all", "--json", "-q"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    said = json.loads(done.output.splitlines()[-1])
    assert said["embed_seconds"] > 0
    assert sum(said["rows"].values()) > 0
    assert (out / "README.md").is_file()
    assert (out / "sft.parquet").is_file() == (layout == "ours")
    assert (out / "data_sft" / "tfq" / "merged_train_tfq_noisy.json").is_file() == (layout == "authors")
    again = CliRunner().invoke(app, asked)
    assert json.loads(again.output.splitlines()[-1])["embed_seconds"] == 0


def test_a_language_model_is_asked_for(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["mixture", "build", str(tmp_path), "-o", str(tmp_path / "o"), "--writer", "llm"])
    assert isinstance(done.exception, InputError)
    assert "--llm" in str(done.exception)


def test_a_number_is_a_number_or_all(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["mixture", "build", str(tmp_path), "-o", str(tmp_path / "o"), "--rate-variants", "few"]
    )
    assert isinstance(done.exception, InputError)


def test_pushing_what_is_not_built_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest"):
        push(tmp_path, "me/mixture")
