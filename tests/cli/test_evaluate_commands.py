"""``lm-mixup evaluate`` on the terminal: a made-up MIXTURE, hashed vectors, scripted models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from lm_mixup import models as resolver
from lm_mixup.cli.main import app
from lm_mixup.errors import LMMixupError, ModelError
from lm_mixup.mixture.rows import write_articles
from tests.evaluation.material import rows, write_mixture

JUDGEMENT = {"Rarity": 5, "Complexity": 5, "Informativeness": 6, "Overall rating": 7}
GOOD = {**JUDGEMENT, "Overall rating": 9}


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    return write_mixture(tmp_path / "mixture")


@pytest.fixture
def judge(tmp_path: Path) -> str:
    """A judge that likes what names the harbor."""
    return f"llm:scripted:{_json(tmp_path / 'judge.json', {'harbor': json.dumps(GOOD), '': json.dumps(JUDGEMENT)})}"


def _json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert isinstance(done.exception, LMMixupError), done.output
    assert done.exception.exit_code == 2
    return str(done.exception)


def options(mixture: Path, judge: str, out: Path) -> list[object]:
    quick = ["--set", "embed.model=hashing", "--resamples", 100]
    return ["mixture", "--data", mixture, "-o", out, "--judge", judge, "--rater", judge, *quick]


def test_baselines_and_answers_of_a_file_side_by_side(mixture: Path, judge: str, tmp_path: Path) -> None:
    answers = tmp_path / "sft.jsonl"
    said = [{"id": row.id, "text": f"<think>\n</think>\n<answer>\n{row.output}\n</answer>"} for row in rows()[:-1]]
    answers.write_text("".join(json.dumps(line) + "\n" for line in said), encoding="utf-8")
    out = tmp_path / "out"
    entrants = ["--distiller", "extractive", "--distiller", "best-source", "--distiller", f"SFT=file:{answers}"]
    told = json.loads(call(*options(mixture, judge, out), *entrants, "--json", "-q").splitlines()[-1])
    assert set(told["distillers"]) == {"extractive", "best-source", "SFT"}
    assert told["distillers"]["SFT"]["without_answer_or_rating"] == {"no-answer": 1}
    assert told["distillers"]["SFT"]["figures"]["format"]["rows"] == {"rows": 29, "value": 1.0, "low": 1.0, "high": 1.0}
    assert told["rows"]["count"] == 30
    assert [(pair["first"], pair["second"]) for pair in told["differences"]] == [
        ("extractive", "best-source"), ("extractive", "SFT"), ("best-source", "SFT"),
    ]  # fmt: skip
    assert json.loads((out / "results.json").read_text(encoding="utf-8"))["rows"] == told["rows"]
    assert "| SFT | 29 of 30 |" in (out / "table.md").read_text(encoding="utf-8")
    assert pq.read_table(out / "rows.parquet").num_rows == 90
    assert (told["figure"] is None) != (out / "figure.svg").is_file()
    again = call(*options(mixture, judge, out), *entrants)
    assert "table.md" in again
    assert "SFT" in again


def test_answers_from_a_file_are_checked_as_a_trained_models_are(mixture: Path, judge: str, tmp_path: Path) -> None:
    """The references pass; what has no source, and what is missing, are extraction's."""
    told = rows()
    answers = tmp_path / "answers.jsonl"
    invented = next(row for row in told if row.task_type == "para")
    said = [
        {"id": row.id, "answer": "Nobody ever wrote about penguins in Lisbon." if row is invented else row.output}
        for row in told[1:]
    ]
    answers.write_text("".join(json.dumps(line) + "\n" for line in said), encoding="utf-8")
    out = tmp_path / "out"
    call(*options(mixture, judge, out), "--distiller", f"given=checked-file:{answers}", "-q")
    made = {row["id"]: row for row in pq.read_table(out / "rows.parquet").to_pylist()}
    assert len(made) == 30
    assert made[told[0].id]["fallback"]
    assert made[invented.id]["fallback"]
    assert not all(row["fallback"] for row in made.values())


def test_prompted_models_take_part(mixture: Path, judge: str, tmp_path: Path) -> None:
    script = _json(tmp_path / "model.json", {"Sample": "?", "": "<think>x</think><answer>A text.</answer>"})
    made = call(
        *options(mixture, judge, tmp_path / "out"), "--types", "para,cs", "--limit", 8, "--json", "-q",
        "--distiller", f"base=lm:scripted:{script}", "--distiller", f"scripted:{script}",
        "--distiller", f"compact:scripted:{script}",
    )  # fmt: skip
    told: dict[str, Any] = json.loads(made.splitlines()[-1])
    assert list(told["distillers"]) == ["base", "scripted:model.json", "compact:scripted:model.json"]
    assert told["rows"]["types"] == {"cs": 4, "para": 4}
    base = told["distillers"]["base"]
    assert base["without_answer_or_rating"] == {"bad-format": 4}  # "A text." is no category and statement
    assert base["figures"]["format"]["para"]["value"] == 1.0
    compact = told["distillers"]["compact:scripted:model.json"]
    assert compact["without_answer_or_rating"] == {"bad-format": 8}


def test_prompts_go_out_and_answers_come_back(mixture: Path, tmp_path: Path) -> None:
    out = tmp_path / "prompts.jsonl"
    assert "wrote 12 prompts" in call("prompts", "--data", mixture, "-o", out, "--min-variants", 3)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {line["task_type"] for line in lines} == {"mcq", "para"}
    first = next(row for row in rows() if row.id == lines[0]["id"])
    assert [message["role"] for message in lines[0]["messages"]] == ["system", "user"]
    assert all(variant in lines[0]["messages"][1]["content"] for variant in first.variants)


def test_rows_that_a_training_met_take_no_part(mixture: Path, judge: str, tmp_path: Path) -> None:
    write_articles(tmp_path, [rows()[0].group])
    met = sum(row.group == rows()[0].group for row in rows())
    assert 0 < met < 30
    made = call(
        *options(mixture, judge, tmp_path / "out"), "--distiller", "extractive", "--unmet-by", tmp_path, "--json", "-q"
    )
    told = json.loads(made.splitlines()[-1])["rows"]
    assert told["left_out"] == {"met-in-training": met}
    assert f"without articles of: {tmp_path.name}" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_a_limit_on_tokens_is_counted_by_a_tokenizer(mixture: Path, tmp_path: Path) -> None:
    bare = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path / "tokenizer.json"
    bare.save(str(path))
    most = ["--max-tokens", 125, "--tokenizer", path]
    few = call("prompts", "--data", mixture, "-o", tmp_path / "a.jsonl", *most)
    assert int(few.split()[1]) == 14
    broken = tmp_path / "broken.json"
    broken.write_text("{}", encoding="utf-8")
    most[-1] = broken
    assert "expected a tokenizer.json" in refused("prompts", "--data", mixture, "-o", tmp_path / "b.jsonl", *most)
    assert "nosuchmodel" in refused(
        "prompts", "--data", mixture, "-o", tmp_path / "b.jsonl", "--max-tokens", 9, "--tokenizer", "nosuchmodel"
    )


def test_the_small_models_tokens_are_counted_with_its_template(mixture: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino_genai")
    cache = Path(os.environ.get("LM_MIXUP_CACHE", Path.home() / ".cache/lm-mixup"))
    try:
        resolver.resolve("smollm2-135m-instruct", cache_dir=cache, offline=True)
    except ModelError as error:
        pytest.skip(str(error))
    few = call("prompts", "--data", mixture, "-o", tmp_path / "a.jsonl", "--max-tokens", 180)
    more = call("prompts", "--data", mixture, "-o", tmp_path / "a.jsonl", "--max-tokens", 220)
    assert 0 < int(few.split()[1]) < int(more.split()[1]) <= 30


def test_mistakes_say_what_to_do(mixture: Path, judge: str, tmp_path: Path) -> None:
    told = options(mixture, judge, tmp_path / "out")
    assert "expected one of extractive" in refused(*told, "--distiller", "magic")
    assert "secret" not in refused(*told, "--distiller", "magic:x@https://me:secret@host")
    assert "two are called 'extractive'" in refused(*told, "--distiller", "extractive", "--distiller", "extractive")
    assert "cannot read the answers" in refused(*told, "--distiller", f"file:{tmp_path / 'none.jsonl'}")
    assert "--judge oracle: expected one of independent" in refused(
        "mixture", "--data", mixture, "-o", tmp_path / "out", "--judge", "oracle", "--distiller", "extractive",
        "--set", "embed.model=hashing",
    )  # fmt: skip
    assert "--rater oracle" in refused(*told, "--rater", "oracle", "--distiller", "extractive")
    assert "--types essay" in refused(*told, "--types", "essay", "--distiller", "extractive")
    assert "split 'grpo'" in refused(*told, "--split", "grpo", "--distiller", "extractive")
    held = tmp_path / "held"
    held.mkdir()
    (held / "thesis.txt").write_text("mine", encoding="utf-8")
    assert "something else" in refused(*options(mixture, judge, held), "--distiller", "extractive")
