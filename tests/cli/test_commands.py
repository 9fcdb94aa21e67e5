"""The command line as a user meets it: real processes, the embedded defaults, a pool of two dozen rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lm_mixup.run_folder import STAGES

ROOT = Path(__file__).resolve().parents[2]

QUESTIONS = {
    "tides": [
        "The moon pulls the water.",
        "Tides come from the moon's gravity and, less, the sun's.",
        "High tide is twice a day.",
    ],
    "yeast": [
        "Yeast makes bread rise.",
        "Yeast eats sugar and gives off carbon dioxide, which lifts the dough.",
        "idk",
    ],
    "rust": ["Iron rusts.", "Rust is iron oxide; it needs water and oxygen.", "Salt water speeds rust up a lot."],
    "sleep": ["Sleep is good.", "Adults need about 7 to 9 hours of sleep.", "Sleep helps the memory to settle."],
    "bees": ["Bees make honey.", "Bees carry pollen from flower to flower.", "A colony can have 50,000 bees."],
}


def rows() -> list[dict[str, Any]]:
    out = []
    for topic, answers in QUESTIONS.items():
        for number, answer in enumerate(answers):
            ask = [f"Tell me about {topic}.", f"What do you know about {topic}?", f"Explain {topic} to me."][number]
            out.append({"id": f"{topic}-{number}", "instruction": ask, "input": "", "output": answer, "mark": number})
    return out


FAMILIES = ("q-earthquake", "q-black-holes", "q-antibiotics", "q-vaccines")
"""Of the project's sample pool: poor variants that can be fused, and a good answer."""

OPTIONS = ("--budget", 6, "--set", "curate.high_rating=3")


def families() -> list[dict[str, Any]]:
    lines = (ROOT / "examples" / "pool" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if any(f'"id": "{family}-' in line for family in FAMILIES)]


def jsonl(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def lm_mixup(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lm_mixup.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jsonl(tmp_path_factory.mktemp("pool") / "topics.jsonl", [*rows(), {"id": "bad", "instruction": "No answer"}])


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bad = {"id": "bad", "instruction": "No answer"}
    return jsonl(tmp_path_factory.mktemp("variants") / "variants.jsonl", [*families(), bad])


@pytest.fixture(scope="module")
def finished(variants: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("runs") / "run"
    done = lm_mixup("run", variants, "-o", run, "--json", *OPTIONS)
    return run, json.loads(done.stdout.splitlines()[-1])


def test_run_ends_with_one_json_line_that_adds_up(finished: tuple[Path, dict[str, Any]]):
    run, told = finished
    assert told["run"] == str(run)
    assert Path(told["train"]) == run / "train.jsonl"
    assert list(told["stages"]) == list(STAGES)
    for stage in told["stages"].values():
        assert set(stage) >= {"unit", "in", "kept", "dropped", "failed", "seconds"}
        assert stage["in"] == stage["kept"] + sum(stage["dropped"].values()) + stage["failed"]
    assert told["rows"] == {"in": len(families()) + 1, "train": len(read(run / "train.jsonl")), "quarantined": 1}
    (bad,) = read(run / "quarantine.jsonl")
    assert (bad["line"], bad["reason"]) == (len(families()) + 1, "unknown-layout")
    assert json.loads(bad["raw"]) == {"id": "bad", "instruction": "No answer"}


def test_the_train_set_traces_back_to_lines_of_the_pool(finished: tuple[Path, dict[str, Any]], variants: Path):
    run, _ = finished
    by_line = dict(enumerate(read(variants), 1))
    lineage = read(run / "lineage.jsonl")
    assert {row["origin"] for row in lineage} == {"distilled", "original"}
    for story in lineage:
        assert set(story) >= {"id", "origin", "source_ids", "cluster", "rating_before", "rating", "versions"}
        for source in story["sources"]:
            assert by_line[source["line"]]["id"] == source["id"]


def test_status_why_show_and_export_of_a_run(finished: tuple[Path, dict[str, Any]], tmp_path: Path):
    run, told = finished
    assert json.loads(lm_mixup("status", run, "--json").stdout) == told
    assert "cluster" in lm_mixup("status", run).stdout
    made = next(row for row in read(run / "lineage.jsonl") if row["origin"] == "distilled")
    story = json.loads(lm_mixup("why", run, made["id"], "--json").stdout)
    assert [source["id"] for source in story["sources"]] == made["source_ids"]
    assert all(source["messages"] for source in story["sources"])
    assert "no row of train.jsonl" in lm_mixup("why", run, "nobody", code=2).stderr
    assert str(run / "train.jsonl") in lm_mixup("show", run, "--examples", 1).stdout.replace("\n", "")
    lm_mixup("export", run, "-o", tmp_path / "out.jsonl", "--format", "alpaca")
    exported = read(tmp_path / "out.jsonl")
    assert [row["id"] for row in exported] == [row["id"] for row in read(run / "train.jsonl")]
    assert all(set(row) >= {"instruction", "input", "output"} for row in exported)


def test_the_same_command_says_that_all_is_done(finished: tuple[Path, dict[str, Any]], variants: Path):
    run, told = finished
    again = lm_mixup("run", variants, "-o", run, "--json", *OPTIONS)
    assert again.stderr.count("already done") == 9
    assert json.loads(again.stdout.splitlines()[-1]) == told


def test_single_stages_on_a_run(finished: tuple[Path, dict[str, Any]]):
    run, told = finished
    lm_mixup("select", run, "--budget", 1)
    assert len(read(run / "train.jsonl")) == 1
    lm_mixup("cluster", run, "--set", "cluster.max_size=3")
    lm_mixup("select", run, "--budget", 6)
    assert len(read(run / "train.jsonl")) == told["rows"]["train"] > 1


def test_from_file_to_file(pool: Path, tmp_path: Path):
    rated, clustered, distilled, chosen = (
        tmp_path / f"{name}.jsonl" for name in ("rated", "clustered", "distilled", "chosen")
    )
    lm_mixup("rate", pool, "-o", rated)
    assert read(tmp_path / "rated.jsonl.quarantine.jsonl")[0]["line"] == 16
    out = read(rated)
    assert [{k: v for k, v in row.items() if k != "rating"} for row in out] == rows()
    assert all(isinstance(row["rating"], float) and 0 <= row["rating"] <= 5 for row in out)

    lm_mixup(
        "cluster", rated, "-o", clustered, "--min-size", 2, "--max-size", 4, "--mean", 3, "--set", "cluster.floor=null"
    )
    out = read(clustered)
    assert [row["id"] for row in out] == [row["id"] for row in rows()]
    sizes: dict[int, int] = {}
    for row in out:
        if row["cluster"] is None:
            assert row["cluster_reason"]
        else:
            sizes[row["cluster"]] = sizes.get(row["cluster"], 0) + 1
    assert sizes
    assert set(sizes.values()) <= {2, 3, 4}

    lm_mixup("distill", clustered, "-o", distilled)
    made = read(distilled)
    assert sorted(row["cluster"] for row in made) == sorted(sizes)
    members = {row["id"]: row["cluster"] for row in out}
    for row in made:
        assert {members[id_] for id_ in row["source_ids"]} == {row["cluster"]}

    shared = ("--work", tmp_path / "shared")
    lm_mixup("longtail", rated, "-o", tmp_path / "rare.jsonl", *shared)
    lm_mixup("select", rated, "-o", chosen, "--budget", 5, *shared)
    assert len(list(tmp_path.glob("shared/store/vectors-*/*"))) == 1, "the second command embedded again"
    picked = [row["id"] for row in read(chosen)]
    assert len(picked) == 5
    assert picked == [row["id"] for row in rows() if row["id"] in picked]
    assert not list(tmp_path.glob("*.work"))

    asked = ["--set", "select.stratify=[task_type]", "--set", "select.method=coverage"]
    lm_mixup("select", rated, "-o", chosen, "--budget", "60 tokens", *asked)
    costs = {r["id"]: -(-len(r["instruction"] + r["output"]) // 4) for r in rows()}
    left = 60 - sum(costs[row["id"]] for row in read(chosen))
    assert 0 <= left < min(costs[id_] for id_ in costs.keys() - {row["id"] for row in read(chosen)})


def test_curate_from_file_to_file_takes_a_raters_column_or_all_of_them_jointly(pool: Path, tmp_path: Path):
    rated = [{"id": r["id"], "ann": r["mark"] + 1, "bob": 4 - r["mark"]} for r in rows()]
    ratings = jsonl(tmp_path / "r.jsonl", [{"id": "sleep-0", "ann": 1, "bob": None}, *rated[:-6], *rated[-2:]])
    one = ("curate", pool, "--ratings", ratings, "--rater", "bob", "-o", tmp_path / "c.jsonl")
    few = lm_mixup(*one, "--limit", 9, "--figure", tmp_path / "few.svg").stderr
    assert "not drawn" in " ".join(few.split())
    assert not (tmp_path / "few.svg").exists()
    out = read(tmp_path / "c.jsonl")
    assert [row["rating"] for row in out] == [4 - r["mark"] for r in rows()[:9]]
    assert all({"curated_rating", "flagged", "confidence"} <= set(row) for row in out)
    lm_mixup(*one, "--figure", tmp_path / "t.svg")
    assert (tmp_path / "t.svg").read_text().startswith("<svg")
    assert "--rater NAME" in lm_mixup(*one[:4], "-o", "x", "--figure", tmp_path / "t.svg", code=2).stderr
    assert "ann, bob" in lm_mixup("curate", pool, "--ratings", ratings, "-o", tmp_path / "j.jsonl").stderr
    out = read(tmp_path / "j.jsonl")
    assert [{k: row[k] for k in rows()[0]} for row in out] == rows()
    for row, given in zip(out, rows(), strict=True):
        assert row["flagged"] == bool(row["flagged_raters"])
        if row["id"] in ("sleep-1", "sleep-2", "bees-0"):  # whom nobody rated
            assert row["curated_rating"] is row["confidence"] is row["rating"] is None
        else:
            assert row["rating"] == (1 if row["id"] == "sleep-0" else 2.5), given
            assert 1 <= row["curated_rating"] <= 4
            assert 0 <= row["confidence"] <= 1
    assert "carl" in lm_mixup("curate", pool, "--ratings", ratings, "--rater", "carl", "-o", "x", code=2).stderr


def test_dedup_and_longtail_from_file_to_file(pool: Path, tmp_path: Path):
    twice = jsonl(tmp_path / "twice.jsonl", [*rows(), *({**r, "id": r["id"] + "-again"} for r in rows()[:4])])
    out, kept, rare = (tmp_path / f"{name}.jsonl" for name in ("out", "kept", "rare"))
    assert "4 of 19 rows" in lm_mixup("dedup", twice, "-o", out, "--threshold", 0.999).stderr
    assert [row["stands_for"] for row in read(out)] == [None] * 15 + [r["id"] for r in rows()[:4]]
    lm_mixup("dedup", twice, "-o", kept, "--threshold", 0.999, "--drop")
    assert read(kept) == rows()
    lm_mixup("longtail", twice, "-o", rare, "--k", 1)
    scores = [row["long_tail"] for row in read(rare)]
    assert scores[:4] == scores[15:] == [0] * 4
    assert all(0 < score < 1 for score in scores[4:15])
    assert not list(tmp_path.glob("*.work"))


def test_ratings_of_a_column_are_taken_as_they_are(pool: Path, tmp_path: Path):
    lm_mixup("run", pool, "-o", tmp_path / "run", "--set", "pool.rating_column=mark", "--quiet", code=3)
    manifest = json.loads((tmp_path / "run/rate/manifest.json").read_text())
    assert manifest["kept"] == 15
    assert manifest["figures"]["embedding_seconds"] == 0


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["run", "nowhere.jsonl", "-o", "{tmp}/r"], ["nowhere.jsonl"]),
        (["run", "{pool}", "-o", "{tmp}/r", "--set", "cluster.max_sise=3"], ["did you mean 'cluster.max_size'"]),
        (["run", "{pool}", "-o", "{tmp}/r", "--strict"], ["topics.jsonl line 16", "Expected", "quarantine"]),
        (["run", "{pool}", "-o", "{tmp}/r", "--set", "rate.rater=judge"], ["--llm openai:MODEL@URL"]),
        (["run", "{pool}", "-o", "{pool}"], ["got a file"]),
        (["rate", "{pool}"], ["give -o OUT.jsonl"]),
        (["status", "{tmp}"], ["no run"]),
        (["distill", "{pool}", "-o", "{tmp}/d.jsonl"], ["no row has a column 'cluster'"]),
        (["select", "{pool}", "-o", "{tmp}/d.jsonl"], ["no row has a column 'rating'"]),
        (["models", "get", "nothing"], ["nothing"]),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(arguments: list[str], hints: list[str], pool: Path, tmp_path: Path):
    filled = [a.format(tmp=tmp_path, pool=pool) for a in arguments]
    err = lm_mixup(*filled, code=2).stderr
    for hint in hints:
        assert hint in " ".join(err.split())


def test_init_writes_a_recipe_that_run_takes(tmp_path: Path):
    lm_mixup("init", tmp_path / "r.yaml")
    assert "--force" in lm_mixup("init", tmp_path / "r.yaml", code=2).stderr
    told = json.loads(lm_mixup("doctor", "--recipe", tmp_path / "r.yaml", "--json").stdout)
    assert told["would_use"]["embedder"] == "all-minilm-l6-v2"
    assert told["problems"] == []


def test_models_and_doctor_name_what_is_there():
    names = [entry["name"] for entry in json.loads(lm_mixup("models", "list", "--json").stdout)]
    assert "all-minilm-l6-v2" in names
    text = lm_mixup("doctor").stdout
    assert "all-minilm-l6-v2" in text
    assert "OPENAI_API_KEY" in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys, lm_mixup.cli.main, lm_mixup;"
        "names = 'torch pandas faiss openvino pyarrow pydantic aiohttp numpy'.split();"
        "heavy = set(names) & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    lm_mixup("--help")
