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
from lm_mixup.mixture.degrade import WEIGHTS
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.push import push
from lm_mixup.mixture.rows import write_authors
from tests.mixture.material import write_sources
from tests.mixture.test_load import rows


def _embedded() -> None:
    """Skip where the embedded model cannot be had."""
    cache = Path(os.environ.get("LM_MIXUP_CACHE", Path.home() / ".cache/lm-mixup"))
    try:
        models.resolve("all-minilm-l6-v2", cache_dir=cache)
    except ModelError as error:
        pytest.skip(str(error))


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
    _embedded()
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


@pytest.mark.parametrize("said", ["typo=2", "typo", "spelling=0.1", "typo=nan", "typo=-1"])
def test_noise_is_a_share_of_a_known_kind(tmp_path: Path, said: str) -> None:
    done = CliRunner().invoke(app, ["mixture", "build", str(tmp_path), "-o", str(tmp_path / "o"), "--noise", said])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
    assert not (tmp_path / "o").exists()


def test_degraders_can_be_weighted(tmp_path: Path) -> None:
    sources = [str(path) for path in write_sources(tmp_path / "sources", 4)]
    out = tmp_path / "out"
    only = [f"--weight={name}=0" for name in WEIGHTS if name != "register"]
    _embedded()
    done = CliRunner().invoke(app, ["mixture", "build", *sources, "-o", str(out), "--noise", "ocr=0", "-q", *only])
    assert done.exit_code == 0, done.output
    rows = load_mixture(out)
    # what no variant holds is put right by omission and its like, whatever the weights
    assert sum(name == "register" for r in rows for name in r.degraders) > 20
    assert not any("blur" in name or "truncation" in name for r in rows for name in r.degraders)
    assert not any("ocr" in kinds for r in rows for kinds in r.noise)


def test_pushing_what_is_not_built_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest"):
        push(tmp_path, "me/mixture")
