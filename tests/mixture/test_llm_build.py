"""``mixture build`` with a language model behind a real server: grounded, capped, killed, resumed, paid for once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lm_mixup.ledger import Ledger
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rows import Row
from tests.mixture.material import write_sources
from tests.servers.launch import ROOT, Running, serving
from tests.servers.mixture_author import INVENTED

COUNT = 12
CONCURRENCY = 4
LATENCY = ("--latency", "0.005:0.02")
SECRET = "sk-this-must-never-be-written"


def command(sources: list[Path], out: Path, server: Running, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "lm_mixup.cli.main", "mixture", "build", *map(str, sources), "-o", str(out), "--json"),
        *("--writer", "llm", "--degrader", "llm", "--llm", f"openai:author@{server.url}", "--rate-variants", "2"),
        *("--set", "embed.model=hashing", "--set", "rate.rater=judge", "--set", f"llm.concurrency={CONCURRENCY}"),
        *more,
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "OPENAI_API_KEY": SECRET}


def once(sources: list[Path], out: Path, server: Running, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(sources, out, server, *more),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def built(sources: list[Path], out: Path, server: Running, *more: str) -> dict:
    done = once(sources, out, server, *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def products(out: Path) -> dict[str, bytes]:
    names = ("sft.parquet", "grpo.parquet", "test.parquet", "manifest.json", "README.md")
    return {name: (out / name).read_bytes() for name in names}


def of_the_model(rows: list[Row]) -> Counter[str]:
    return Counter(row.task_type for row in rows for name in row.degraders if name == "llm")


def serving_author(*arguments: str, log: Path | None = None) -> AbstractContextManager[Running]:
    return serving(*LATENCY, *arguments, log=log, module="mixture_author")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_sources(tmp_path_factory.mktemp("sources"), COUNT)


@pytest.fixture(scope="module")
def whole(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, Counter[str]]:
    """A build that nothing happened to: its folder, what it told, and how often each request was made."""
    folder = tmp_path_factory.mktemp("whole")
    with serving_author(log=folder / "server.log") as server:
        told = built(sources, folder / "out", server)
        return folder / "out", told, server.events("begin")


def test_what_is_written_rests_on_its_passage(whole: tuple[Path, dict, Counter[str]]) -> None:
    out, told, asked = whole
    assert set(asked.values()) == {1}
    steps = {step["step"]: step for step in told["steps"]}
    write = steps["write"]
    assert write["in"] == 5 * COUNT + 2 * COUNT == write["kept"] + sum(write["dropped"].values())
    # by the prompt's hash some answers of the server invent, some are out of form
    assert write["dropped"]["not-grounded"] > 0
    assert write["dropped"]["bad-form"] > 0
    variants = told["degrader_told"]
    assert variants["answered"] == steps["degrade"]["in"]
    assert variants["invents"] > 0
    assert variants["copy"] > 0
    assert variants["bad-form"] > 0
    assert variants["taken"] > 3 * variants["invents"]
    rows = load_mixture(out)
    assert set(of_the_model(rows)) == {"qa", "mcq", "tfq", "cs", "para"}
    text = json.dumps([[r.output, r.variants, r.cot] for r in rows]).casefold()
    assert not any(word.casefold() in text for word in INVENTED)
    assert all(r.coverage is not None and r.coverage >= 0.9 for r in rows)
    # the noise falls on the model's variants, too
    assert any(n for r in rows for n, d in zip(r.noise, r.degraders, strict=True) if d == "llm")


@pytest.mark.slow
def test_the_same_answers_come_out_of_a_bad_line(
    sources: list[Path], whole: tuple[Path, dict, Counter[str]], tmp_path: Path
) -> None:
    faults = "http-429=0.06,http-500=0.04,reset=0.03,truncated=0.03,html=0.02,empty=0.02"
    with serving_author("--faults", faults, "--max-in-flight", "3", log=tmp_path / "log") as server:
        done = once(sources, tmp_path / "out", server)
        asked = server.events("begin")
    assert done.returncode == 0, done.stderr
    assert products(tmp_path / "out") == products(whole[0])
    assert set(asked) == set(whole[2])
    assert sum(asked.values()) > len(asked)
    assert SECRET not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_answers_that_never_come_are_counted(sources: list[Path], tmp_path: Path) -> None:
    with serving_author("--faults", "http-400=0.2,prose=0.1") as server:
        told = built(sources, tmp_path / "out", server, "--set", "llm.max_attempts=2")
    write = next(step for step in told["steps"] if step["step"] == "write")
    assert write["dropped"]["no-answer"] > 0
    assert write["dropped"]["bad-form"] > 0
    assert write["in"] == write["kept"] + sum(write["dropped"].values())
    assert told["degrader_told"]["no-answer"] > 0
    assert all(len(row.variants) >= 2 for row in load_mixture(tmp_path / "out"))


@pytest.mark.slow
def test_a_cap_ends_the_build_and_a_higher_one_goes_on(
    sources: list[Path], whole: tuple[Path, dict, Counter[str]], tmp_path: Path
) -> None:
    requests = len(whole[2])
    with serving_author(log=tmp_path / "log") as server:
        for cap in (requests // 3, requests // 2):
            done = once(sources, tmp_path / "out", server, "--max-requests", str(cap))
            assert done.returncode == 6, done.stderr
            assert "--max-requests" in done.stderr
            assert "Traceback" not in done.stderr
            assert sum(server.events("begin").values()) == cap
        assert not (tmp_path / "out" / "manifest.json").exists()
        built(sources, tmp_path / "out", server, "--max-requests", str(requests))
        asked = server.events("begin")
    assert asked == whole[2]
    assert products(tmp_path / "out") == products(whole[0])
    with serving_author() as server:
        done = once(sources, tmp_path / "dollars", server, "--max-usd", "0.01")
        assert done.returncode == 2, done.stderr
        assert "price" in done.stderr
        done = once(
            sources, tmp_path / "dollars", server, "--max-usd", "0.01",
            "--set", "llm.price_in=1", "--set", "llm.price_out=4",
        )  # fmt: skip
        assert done.returncode == 6, done.stderr
        with Ledger(tmp_path / "dollars" / "ledger.sqlite") as ledger:
            assert 0 < ledger.spent().usd <= 0.01


@pytest.mark.slow
def test_killed_again_and_again_it_pays_once(
    sources: list[Path], whole: tuple[Path, dict, Counter[str]], tmp_path: Path
) -> None:
    rng = random.Random(4)
    killed = 0
    with serving_author(log=tmp_path / "log") as server:
        begin = time.monotonic()
        built(sources, tmp_path / "warm", server)
        whole_s = time.monotonic() - begin
        before = sum(server.events("begin").values())
        for _ in range(8):
            process = subprocess.Popen(
                command(sources, tmp_path / "out", server),
                cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(rng.uniform(0.3, 0.7) * whole_s)
            process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        built(sources, tmp_path / "out", server)
        asked = server.events("begin")
    assert killed >= 2
    assert set(asked) == set(whole[2])
    repeats = sum(asked.values()) - before - len(whole[2])
    # what was in flight when it was killed is asked again, and nothing else
    assert 0 <= repeats <= killed * 2 * CONCURRENCY
    assert products(tmp_path / "out") == products(whole[0])


def test_a_second_build_asks_nothing(
    sources: list[Path], whole: tuple[Path, dict, Counter[str]], tmp_path: Path
) -> None:
    before = products(whole[0])
    with serving_author() as server:
        built(sources, whole[0], server)
        assert server.requests == 0
    assert products(whole[0]) == before
