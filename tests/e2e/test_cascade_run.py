"""A run whose rater is a cascade: its judge is asked about a part of the pool, and never twice, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.test_plan_replay_diff import cli, told
from tests.e2e.test_walk import row, write_pool
from tests.servers.launch import ROOT, serving

ROWS, SHARE = 160, 0.4
QUESTIONS = 64
CONCURRENCY = 4
SETTINGS = (
    *("--set", "embed.model=hashing", "--set", "cluster.floor=null", "--set", f"llm.concurrency={CONCURRENCY}"),
    *("--set", "select.budget=40", "--set", "rate.rater=cascade", "--set", f"rate.judge_share={SHARE}"),
    *("--set", "distill.distiller=extractive"),
)
LATENCY = ("--latency", "0.01:0.03")
PRODUCTS = ("train.jsonl", "lineage.jsonl", "quarantine.jsonl", "cascade/cascade.json", "cascade/head.npz")


def command(pool: Path, run: Path, url: str, *more: str) -> tuple[str, ...]:
    return ("run", str(pool), "-o", str(run), "--llm", f"openai:stand-in@{url}", *SETTINGS, "--json", *more)


def rows_of(count: int = ROWS) -> list[dict]:
    return [row(i) | {"id": f"r{i}"} for i in range(count)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    rows = rows_of()
    for number, each in enumerate(rows):  # no two alike
        each["messages"][0]["content"] += f" Number {number}, please."
    return write_pool(tmp_path_factory.mktemp("pool") / "pool.jsonl", rows)


@pytest.fixture(scope="module")
def finished(pool: Path, tmp_path_factory):
    """A run that nobody disturbed: (folder, summary, the server's count by request)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with serving(*LATENCY, log=folder.parent / "log") as server:
        summary = told(cli(*command(pool, folder, server.url, "-q")))
        return folder, summary, server.events("begin")


def details(run: Path, stage: str) -> list[dict]:
    import pyarrow.parquet as pq

    return [json.loads(text) for text in pq.read_table(run / stage / "records.parquet")["details"].to_pylist() if text]


def test_the_judge_is_asked_about_its_share_and_about_promising_distillates(finished):
    folder, summary, asked = finished
    assert set(asked.values()) == {1}
    by = [each["by"] for each in details(folder, "rate")]
    assert len(by) == ROWS == summary["stages"]["rate"]["kept"]
    assert by.count("judge") == QUESTIONS
    again = [each["by"] for each in details(folder, "rerate")]
    assert again.count("judge") == len(asked) - QUESTIONS
    # nothing made from the pool is high on the learned rater's word alone
    lines = [json.loads(line) for line in (folder / "lineage.jsonl").read_text().splitlines()]
    assert {line["origin"] for line in lines} >= {"distilled"}
    manifest = json.loads((folder / "cascade" / "manifest.json").read_text())
    assert (manifest["in"], manifest["kept"], manifest["failed"]) == (QUESTIONS, QUESTIONS, 0)
    assert any("the judge rated 64 of 160 rows" in note for note in summary["notes"])


def test_the_same_command_again_asks_nothing(pool: Path, finished):
    folder, summary, _ = finished
    with serving(*LATENCY) as server:
        again = told(cli(*command(pool, folder, server.url, "-q")))
        assert server.requests == 0
    assert again == summary


def test_a_replay_is_offline_and_the_same(finished, tmp_path: Path):
    folder = finished[0]
    assert told(cli("replay", folder, "-o", tmp_path / "again", "--json", "-q", key=False))["same"]
    assert (tmp_path / "again" / "cascade" / "cascade.json").read_bytes() == (
        folder / "cascade" / "cascade.json"
    ).read_bytes()


def test_what_it_learned_can_be_used_and_read_elsewhere(pool: Path, finished, tmp_path: Path):
    folder = finished[0]
    spec = f"cascade:{folder / 'cascade'}"
    hashing = ("--set", "embed.model=hashing")
    compared = told(cli("rater", "compare", pool, "--live", spec, *hashing, "--json", "-q"))
    assert compared["raters"] == [spec]
    assert spec in compared["lengths"]
    card = told(cli("rater", "card", folder / "cascade", "--json"))
    assert card["card"]["asked"] == QUESTIONS


@pytest.mark.slow
def test_kill_9_at_ten_moments_pays_for_nothing_twice_and_changes_nothing(pool: Path, finished, tmp_path: Path):
    whole, _, once = finished
    rng, kills, run = random.Random(5), 0, tmp_path / "run"
    environment = {**os.environ, "OPENAI_API_KEY": "sk-test"}
    with serving(*LATENCY, log=tmp_path / "log") as server:
        arguments = [sys.executable, "-m", "lm_mixup.cli.main", *command(pool, run, server.url, "-q")]
        for _ in range(30):
            if kills == 10:
                break
            before = server.requests
            process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            # let it come to its questions, and some way into them
            wanted, end = before + rng.randrange(1, 12), time.monotonic() + 60
            while process.poll() is None and server.requests < wanted and time.monotonic() < end:
                time.sleep(0.005)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
            if (run / "cascade" / "manifest.json").is_file() and (run / "train.jsonl").is_file():
                break
        told(cli(*command(pool, run, server.url, "-q")))
        again = server.events("begin")
    assert kills >= 5
    assert set(again) == set(once)
    assert sum(again.values()) - len(once) <= kills * CONCURRENCY
    for name in PRODUCTS:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_cap_stops_the_questions_and_a_higher_one_goes_on(pool: Path, finished, tmp_path: Path):
    whole, _, once = finished
    with serving(*LATENCY) as server:
        stopped = cli(*command(pool, tmp_path / "run", server.url, "-q", "--max-requests", "20"))
        assert stopped.returncode == 6, stopped.stderr
        assert server.requests == 20
        told(cli(*command(pool, tmp_path / "run", server.url, "-q", "--max-requests", "500")))
        assert server.requests == len(once)
    assert (tmp_path / "run" / "train.jsonl").read_bytes() == (whole / "train.jsonl").read_bytes()


def test_a_plan_counts_the_questions_of_the_cascade(pool: Path, finished, tmp_path: Path):
    from lm_mixup.ledger import Ledger

    folder, _, once = finished
    with serving(*LATENCY) as server:
        arguments = ("--llm", f"openai:stand-in@{server.url}", *SETTINGS, "--items", "12", "--json", "-q")
        plan = told(cli("plan", pool, "-o", tmp_path / "run", *arguments))
    rate = plan["stages"]["rate"]
    assert rate["records"] == [QUESTIONS, QUESTIONS]
    assert rate["requests"][0] == QUESTIONS <= rate["requests"][1] < 1.3 * QUESTIONS
    assert plan["stages"]["rerate"]["records"][0] == 0
    assert plan["stages"]["rerate"]["requests"][1] >= len(once) - QUESTIONS
    with Ledger(folder / "ledger.sqlite") as ledger:
        asked = ledger.asked()
    spent = sum(a.prompt_tokens for id_, each in asked.items() if id_.startswith("r") for _, a in each if a)
    low, high = rate["prompt_tokens"]
    assert low <= spent <= high


def test_a_pool_too_small_to_learn_from_is_judged_whole(tmp_path: Path):
    pool = write_pool(tmp_path / "pool.jsonl", rows_of(30))
    with serving(*LATENCY) as server:
        summary = told(cli(*command(pool, tmp_path / "run", server.url, "-q")))
    assert summary["stages"]["rate"]["kept"] == 30
    assert not (tmp_path / "run" / "cascade").exists()
    assert all("overall" in each for each in details(tmp_path / "run", "rate"))


def test_doctor_and_init_know_the_cascade(tmp_path: Path):
    done = cli("doctor", "--set", "rate.rater=cascade", "--json")
    assert "the recipe needs a language model and names none: set llm.model" in told(done)["problems"]
    assert told(done)["would_use"]["rater"] == "cascade"
    recipe = tmp_path / "recipe.yaml"
    assert cli("init", recipe).returncode == 0
    assert "judge_share: 0.2" in recipe.read_text()
    assert "cascade (a judge for a part of the pool" in recipe.read_text()
    refused = cli(
        "run", write_pool(tmp_path / "p.jsonl", rows_of(60)), "-o", tmp_path / "r", "--set", "rate.rater=cascade"
    )
    assert refused.returncode == 2
    assert "rate.rater: cascade needs a language model" in refused.stderr
