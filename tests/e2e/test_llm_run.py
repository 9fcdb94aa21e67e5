"""A run whose judge and distiller are a language model behind a real server: killed again and again, paid for once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lm_mixup.run_folder import STAGES
from tests.e2e.test_walk import row, write_pool
from tests.servers.launch import ROOT, serving

KILLS = 20
CONCURRENCY = 4
SECRET = "sk-this-must-never-be-written"
LATENCY = ("--latency", "0.01:0.03")


def command(pool: Path, run: Path, url: str) -> list[str]:
    return [
        *(sys.executable, "-m", "lm_mixup.cli.main", "run", str(pool), "-o", str(run), "--json"),
        *("--llm", f"openai:stand-in@{url}", "--budget", "20"),
        *("--set", "embed.model=hashing", "--set", f"llm.concurrency={CONCURRENCY}", "--set", "cluster.floor=null"),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "OPENAI_API_KEY": SECRET}


def once(pool: Path, run: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(pool, run, url), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def finish(pool: Path, run: Path, url: str) -> dict:
    done = once(pool, run, url)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def products(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("train.jsonl", "lineage.jsonl", "quarantine.jsonl")}


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "pool.jsonl", [row(i) for i in range(120)])


@pytest.mark.slow
def test_kill_9_at_twenty_moments_asks_again_only_what_was_in_flight(pool: Path, tmp_path: Path):
    with serving(*LATENCY, log=tmp_path / "whole.log") as server:
        begin = time.monotonic()
        told = finish(pool, tmp_path / "whole", server.url)
        whole_s = time.monotonic() - begin
        asked = server.events("begin")
    assert set(asked.values()) == {1}
    assert list(told["stages"]) == list(STAGES)
    assert told["stages"]["rate"]["kept"] == 120

    rng = random.Random(3)
    killed = folders = 0
    with serving(*LATENCY, log=tmp_path / "killed.log") as server:
        while killed < KILLS:
            run = tmp_path / f"run-{folders}"
            process = subprocess.Popen(
                command(pool, run, server.url),
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            time.sleep(rng.uniform(0.2, 0.6) * whole_s)
            process.kill()
            _, err = process.communicate()
            if process.returncode == -signal.SIGKILL:
                killed += 1
                continue
            assert process.returncode == 0, err.decode()
            assert products(run) == products(tmp_path / "whole")
            folders += 1  # a folder of its own has a ledger of its own, and asks everything once more
        finish(pool, run, server.url)
        assert products(run) == products(tmp_path / "whole")
        again = server.events("begin")
    assert set(again) == set(asked)
    repeats = sum(again.values()) - len(asked) * (folders + 1)
    assert 0 <= repeats <= KILLS * CONCURRENCY


def test_the_key_is_written_nowhere(pool: Path, tmp_path: Path):
    with serving(*LATENCY, "--faults", "echo-key=0.05,http-500=0.05") as server:
        done = once(pool, tmp_path / "run", server.url)
    assert done.returncode in (0, 3), done.stderr
    assert SECRET not in done.stdout + done.stderr
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_the_key_is_in_no_process_list_and_no_file_of_a_killed_run(pool: Path, tmp_path: Path):
    with serving("--latency", "0.02:0.05", "--faults", "echo-key=0.2") as server:
        arguments = command(pool, tmp_path / "run", server.url)
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        listed = b""
        end = time.monotonic() + 60
        while server.requests < 30 and process.poll() is None and time.monotonic() < end:
            for shown in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    listed += shown.read_bytes()
            time.sleep(0.05)
        process.kill()
        process.wait()
    assert b"lm_mixup.cli.main" in listed
    assert SECRET.encode() not in listed
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("-underway-" in path.name for path in files)  # what the killed process had on its way
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path


def test_limits_a_minute_come_from_the_recipe(pool: Path, tmp_path: Path):
    with serving() as server:
        limits = ("--set", "llm.requests_per_minute=600", "--limit", "20", "--set", "distill.distiller=extractive")
        begin = time.monotonic()
        done = subprocess.run(
            [*command(pool, tmp_path / "run", server.url), *limits],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        took, asked = time.monotonic() - begin, server.requests
    assert done.returncode in (0, 3), done.stderr
    assert asked >= 20
    assert took >= (asked - 11) / 10  # ten a second, after a burst of one second's worth


def test_a_server_that_refuses_the_key_ends_the_run_at_once(pool: Path, tmp_path: Path):
    with serving("--faults", "http-401=1") as server:
        done = once(pool, tmp_path / "run", server.url)
        asked = server.requests
    assert done.returncode == 4
    assert "401" in done.stderr
    assert "Traceback" not in done.stderr
    assert asked < 40
