"""A run that is killed, interrupted or runs out of disk loses nothing, and ends with the bytes of one that was not."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.test_walk import row, write_pool

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "pool.jsonl", [row(i) for i in range(400)])


def start(pool: Path, run: Path, **more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.driver", str(pool), str(run)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, **more)  # type: ignore[call-overload]


def finish(pool: Path, run: Path) -> float:
    begin = time.monotonic()
    process = start(pool, run)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    return time.monotonic() - begin


def products(run: Path) -> dict[str, bytes]:
    names = ("train.jsonl", "lineage.jsonl", "quarantine.jsonl", "recipe.yaml")
    return {name: (run / name).read_bytes() for name in names}


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments(pool: Path, tmp_path: Path):
    whole_s = finish(pool, tmp_path / "whole")
    rng = random.Random(7)
    killed = folders = 0
    while killed < KILLS:
        run = tmp_path / f"killed-{folders}"
        process = start(pool, run)
        time.sleep(rng.uniform(0.3, 0.6) * whole_s)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
        else:  # what the kills had left was done before the next one: compare, and begin anew
            assert products(run) == products(tmp_path / "whole")
            folders += 1
    finish(pool, run)
    assert products(run) == products(tmp_path / "whole")


def test_ctrl_c_says_how_to_go_on(pool: Path, tmp_path: Path):
    command = [sys.executable, "-m", "lm_mixup.cli.main", "run", str(pool), "-o", str(tmp_path / "run"), "--quiet"]

    def hear_ctrl_c() -> None:
        # a background job's parent may have it ignored, and children inherit that
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c)
    while not (tmp_path / "run" / "recipe.yaml").exists():
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1].decode()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in err.decode()


def test_a_full_disk_is_said_and_the_same_command_goes_on(pool: Path, tmp_path: Path):
    def small_files() -> None:
        # a file may not grow beyond 20 kB: the real error of a full disk, where the first large file is written
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start(pool, tmp_path / "run", preexec_fn=small_files)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "StorageError" in err.decode()
    assert "run the same command again to go on" in err.decode()
    finish(pool, tmp_path / "run")
    finish(pool, tmp_path / "whole")
    assert products(tmp_path / "run") == products(tmp_path / "whole")


def test_two_processes_on_one_run(pool: Path, tmp_path: Path):
    first = start(pool, tmp_path / "run")
    while not (tmp_path / "run" / ".lock").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    second = start(pool, tmp_path / "run")
    _, err = second.communicate(timeout=60)
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert second.returncode != 0
    assert "another process is working on this run" in err.decode()
    assert json.loads((tmp_path / "run" / "select" / "manifest.json").read_text())["kept"] == 30
    assert os.path.getsize(tmp_path / "run" / "train.jsonl") > 0
