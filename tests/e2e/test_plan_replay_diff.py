"""Plan, replay, diff and the caps, from the command line, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from lm_mixup.ledger import Ledger
from tests.e2e.test_walk import row, write_pool
from tests.servers.launch import ROOT, Running, serving

SETTINGS = (
    "--set",
    "embed.model=hashing",
    "--set",
    "cluster.floor=null",
    "--set",
    "llm.concurrency=8",
    "--set",
    "select.budget=60",
)
LATENCY = ("--latency", "0.005:0.02")
ROWS = 90


def cli(*arguments: object, key: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    if key:
        environment["OPENAI_API_KEY"] = "sk-test-0123456789"
    command = [sys.executable, "-m", "lm_mixup.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def told(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def options(server: Running, model: str = "stand-in") -> tuple[str, ...]:
    return ("--llm", f"openai:{model}@{server.url}", *SETTINGS)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    return write_pool(tmp_path_factory.mktemp("pool") / "pool.jsonl", [row(i) for i in range(ROWS)])


@pytest.fixture(scope="module")
def recorded(pool: Path, tmp_path_factory):
    """A plan and the run after it, with faults on the way: (folder, plan, summary, requests of plan, of both)."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    log = folder.parent / "log"
    with serving(*LATENCY, "--faults", "http-500=0.05,reset=0.05,prose=0.1", log=log) as server:
        prices = ("--set", "llm.price_in=1.0", "--set", "llm.price_out=2.0")
        plan = told(cli("plan", pool, "-o", folder, *options(server), *prices, "--json", "-q"))
        asked = server.events("begin")
        summary = told(cli("run", pool, "-o", folder, *options(server), *prices, "--json", "-q"))
        return folder, plan, summary, asked, server.events("begin")


def test_a_plan_holds_what_the_run_takes_and_the_run_does_not_pay_twice(recorded):
    folder, plan, summary, planned, both = recorded
    assert plan["sampled"] == {"rate": 20, "distill": 20, "rerate": pytest.approx(20, abs=5)}
    with Ledger(folder / "ledger.sqlite") as ledger:
        asked = ledger.asked()
        usage = ledger.usage()
    rated = [
        answer for id_, requests in asked.items() if not id_.startswith(("mix-", "plan-")) for _, answer in requests
    ]
    stage = plan["stages"]["rate"]
    assert stage["records"] == [ROWS, ROWS]
    low, high = stage["prompt_tokens"]
    assert low <= sum(a.prompt_tokens for a in rated if a) <= high
    low, high = stage["requests"]
    assert low * 0.8 <= len(rated) <= high * 1.2
    low, high = plan["stages"]["distill"]["records"]
    assert low <= summary["stages"]["distill"]["in"] <= high
    assert plan["total"]["usd"][0] < usage.price_usd < 2 * plan["total"]["usd"][1]
    # what the plan asked is not asked again, unless it failed there
    with_faults = {digest for digest, count in planned.items() if count > 1}
    assert all(both[digest] == count for digest, count in planned.items() if digest not in with_faults)


def test_an_unknown_price_is_unknown(pool: Path, tmp_path: Path):
    with serving(*LATENCY) as server:
        plan = told(cli("plan", pool, "-o", tmp_path / "run", *options(server), "--items", "4", "--json", "-q"))
        shown = cli("plan", pool, "-o", tmp_path / "run", *options(server), "--items", "4", "-q")
        refused = cli("run", pool, "-o", tmp_path / "run", *options(server), "--max-usd", "5", "-q")
    assert plan["total"]["usd"] is None
    assert "unknown" in shown.stdout
    assert refused.returncode == 2
    assert "llm.price_in" in refused.stderr


def test_a_replay_is_offline_keyless_and_the_same(recorded, tmp_path: Path):
    folder = recorded[0]
    replayed = told(cli("replay", folder, "-o", tmp_path / "again", "--json", "-q", key=False))
    assert replayed["same"]
    for name in ("train.jsonl", "lineage.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert (folder / "train.jsonl").stat().st_size > 1000
    compared = told(cli("diff", folder, tmp_path / "again", "--json"))
    assert (compared["changed"], compared["only_before"], compared["only_after"]) == (0, 0, 0)
    assert compared["same"] > ROWS


def test_a_replay_without_the_ledgers_answers_says_where_it_differs(recorded, tmp_path: Path):
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(recorded[0]), str(copy)], check=True)
    import sqlite3

    with sqlite3.connect(copy / "ledger.sqlite") as db:
        db.execute("DELETE FROM answers WHERE rowid % 2 = 0")
    db.close()
    done = cli("replay", copy, "-o", tmp_path / "again", "-q", key=False)
    assert done.returncode == 2
    assert "the replay differs: train.jsonl from line" in done.stderr


@pytest.mark.slow
def test_diff_says_what_changed_and_why(pool: Path, tmp_path: Path):
    changed = write_pool(tmp_path / "changed.jsonl", [row(i) for i in range(ROWS)])
    lines = changed.read_text().splitlines()
    first = json.loads(lines[0])
    first["messages"][1]["content"] += " And more than before."
    changed.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    runs = {name: tmp_path / name for name in ("base", "input", "model", "settings")}
    with serving(*LATENCY) as server:
        told(cli("run", pool, "-o", runs["base"], *options(server), "--json", "-q"))
        told(cli("run", changed, "-o", runs["input"], *options(server), "--json", "-q"))
        told(cli("run", pool, "-o", runs["model"], *options(server, "another"), "--json", "-q"))
        shorter = ("--set", "distill.max_new_tokens=700")
        told(cli("run", pool, "-o", runs["settings"], *options(server), *shorter, "--json", "-q"))
    by_why = {name: told(cli("diff", runs["base"], runs[name], "--json"))["why"] for name in runs}
    assert by_why["base"] == {}
    assert by_why["input"]["input"] >= 1
    assert set(by_why["input"]) == {"input"}
    assert by_why["model"]["model"] >= ROWS
    assert by_why["settings"]["settings"] >= 5
    reasons = Counter(
        reason
        for answer in told(cli("diff", runs["base"], runs["input"], "--json"))["answers"]
        if answer["id"] == json.loads(lines[0]).get("id", answer["id"])
        for reason in answer["why"]
    )
    assert reasons["input"] >= 1


def test_a_cap_stops_the_run_with_its_own_code_and_a_higher_one_goes_on(pool: Path, tmp_path: Path):
    with serving(*LATENCY) as server:
        command = ("run", pool, "-o", tmp_path / "run", *options(server), "-q")
        stopped = cli(*command, "--max-requests", "30")
        assert stopped.returncode == 6
        assert "--max-requests 30: 30 spent" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert server.requests == 30
        assert cli(*command).returncode == 0
        assert set(server.stats()["hashes"].values()) == {1}


def test_a_run_by_a_batch_endpoint_submits_a_stage_at_once(pool: Path, tmp_path: Path):
    with serving("--after", "1", module="batch_server") as server:
        command = ("run", pool, "-o", tmp_path / "run", "--llm", f"openai-batch:stand-in@{server.url}", *SETTINGS)
        summary = told(cli(*command, "--json", "-q"))
        assert summary["stages"]["rate"]["kept"] == ROWS
        assert server.stats()["batches"] == 3  # rate, distill, rerate
    assert told(cli("replay", tmp_path / "run", "-o", tmp_path / "again", "--json", "-q", key=False))["same"]
