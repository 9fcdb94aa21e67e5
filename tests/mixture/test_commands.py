"""``lm-mixup mixture`` on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lm_mixup.cli.main import app
from lm_mixup.errors import InputError
from lm_mixup.mixture.push import push
from lm_mixup.mixture.rows import write_authors
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


def test_a_language_model_is_asked_for_by_name(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["mixture", "build", str(tmp_path), "-o", str(tmp_path / "o"), "--rate-variants", "few"]
    )
    assert isinstance(done.exception, InputError)


def test_pushing_what_is_not_built_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest"):
        push(tmp_path, "me/mixture")
