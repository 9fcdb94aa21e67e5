"""Raters on the command line: real processes, hashed vectors, pools written here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lm_mixup.cli.main import app
from lm_mixup.errors import BudgetError, LMMixupError
from lm_mixup.raters.learned import SHIPPED, Weights
from lm_mixup.raters.library import RatedLibrary
from tests.cli.test_commands import jsonl, lm_mixup
from tests.servers.launch import serving

HASHING = ("--set", "embed.model=hashing")
ROWS = 90


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pool of 90 rows and a file with three raters: one of merit, one of length, one with two draws."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    good, bad = ["because", "evidence", "therefore", "measured"], ["stuff", "thing", "whatever", "idk"]
    pool, ratings = [], []
    for i in range(ROWS):
        merit, length = int(rng.integers(6)), int(rng.integers(4, 60))
        words = [str(rng.choice(good if rng.random() < merit / 5 else bad)) for _ in range(length)]
        pool.append({"id": f"r{i}", "instruction": f"Question {i}?", "input": "", "output": " ".join(words)})
        ratings.append(
            {
                "id": f"r{i}",
                "merit": merit,
                "ruler": min(5, length // 10),
                "twice#1": min(5, max(0, merit + int(rng.integers(-1, 2)))),
                "twice#2": min(5, max(0, merit + int(rng.integers(-1, 2)))),
            }
        )
    return jsonl(folder / "pool.jsonl", pool), jsonl(folder / "ratings.jsonl", ratings)


@pytest.fixture(scope="module")
def trained(rated: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    pool, ratings = rated
    out = tmp_path_factory.mktemp("trained") / "mine.npz"
    chosen = ("--rater", "merit", "--rater", "ruler")
    done = lm_mixup("rater", "train", pool, "--ratings", ratings, *chosen, "-o", out, *HASHING, "--json", "-q")
    return out, json.loads(done.stdout.splitlines()[-1])


def refused(*arguments: object) -> str:
    """What a command says that fails on purpose; in this process, for there are many."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(result.exception, LMMixupError), result.output
    assert result.exception.exit_code == 2
    return str(result.exception)


def test_train_writes_a_head_a_rater_and_a_card(trained: tuple[Path, dict[str, Any]]) -> None:
    out, told = trained
    weights = Weights.load(out)
    assert set(weights.heads) == set(told["heads"]) == {"merit", "ruler", "mean"}
    assert told["heads"]["merit"]["rows"] == ROWS
    assert told["heads"]["merit"]["spearman"]["value"] > 0.5
    assert told["digest"] == weights.digest()
    assert not out.with_name("mine.npz.work").exists()
    card = json.loads(lm_mixup("rater", "card", out, "--json").stdout)
    assert card["heads"] == ["merit", "ruler", "mean"]
    assert card["card"]["rated_rows"] == ROWS
    # texts of four words repeat themselves, which the raters of this pool do not mind: they are believed
    assert weights.damage is None
    assert card["card"]["damage_model"].startswith("none; the shipped one would cost 0.")


def test_the_damage_model_comes_along_where_the_ratings_do_not_contradict_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    places = ["the harbour of Genoa", "a mill near Leeds", "the old bridge at Mostar", "a farm in Jutland"]
    pool, ratings = [], []
    for i in range(80):
        said = (
            f"In {1800 + i} the council bought {rng.choice(places)} and turned it into a school for {i + 20} children."
        )
        pool.append({"id": f"r{i}", "instruction": f"Question {i}?", "input": "", "output": said})
        ratings.append({"id": f"r{i}", "mine": int(rng.integers(6))})
    given = ("--ratings", jsonl(tmp_path / "ratings.jsonl", ratings))
    out = tmp_path / "mine.npz"
    shown = lm_mixup("rater", "train", jsonl(tmp_path / "pool.jsonl", pool), *given, "-o", out, *HASHING, "-q").stdout
    assert "damage model: shipped; it costs at most 0.00" in shown
    kept, shipped = Weights.load(out), Weights.load(SHIPPED)
    assert all(
        np.array_equal(kept.arrays()[name], a) for name, a in shipped.arrays().items() if name.startswith("damage")
    )


def test_trained_weights_are_compared_with_the_ratings_they_imitate(
    rated: tuple[Path, Path], trained: tuple[Path, dict[str, Any]]
) -> None:
    pool, ratings = rated
    live = f"weights:{trained[0]}:merit"
    done = lm_mixup("rater", "compare", pool, "--ratings", ratings, "--live", live, *HASHING, "--json", "-q")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["raters"] == ["merit", "ruler", "twice", live]
    pair = next(p for p in told["pairs"] if (p["first"], p["second"]) == ("merit", live))
    assert pair["correlation"]["value"] > 0.5
    assert told["lengths"]["ruler"]["verdict"] == "measures length alone"
    assert told["lengths"]["merit"]["verdict"] == ""
    assert told["draws"]["twice"]["draws"] == 2


def test_compare_prints_tables_from_a_ratings_file_alone(rated: tuple[Path, Path]) -> None:
    _, ratings = rated
    shown = lm_mixup("rater", "compare", "--ratings", ratings).stdout
    for word in ("Spearman", "kappa", "merit", "twice against itself", "calibration"):
        assert word in shown


def test_the_figure_needs_its_extra_or_is_drawn(rated: tuple[Path, Path], tmp_path: Path) -> None:
    _, ratings = rated
    out = tmp_path / "raters.svg"
    if importlib.util.find_spec("matplotlib") is None:
        assert "lm-mixup[report]" in refused("rater", "compare", "--ratings", ratings, "--figure", out)
    else:
        lm_mixup("rater", "compare", "--ratings", ratings, "--figure", out)
        assert out.read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert ".svg" in refused("rater", "compare", "--ratings", ratings, "--figure", "x.png")


def test_a_library_is_built_shown_and_asked(rated: tuple[Path, Path], tmp_path: Path) -> None:
    pool, ratings = rated
    out = tmp_path / "library"
    build = ("library", "build", pool, "--ratings", ratings, "--rater", "merit", "-o", out, *HASHING)
    told = json.loads(lm_mixup(*build, "--json", "-q").stdout.splitlines()[-1])
    library = RatedLibrary.load(out)
    assert {str(t): len(s) for t, s in library.shelves.items()} == {"qa": ROWS}
    assert told["digest"] == library.digest()
    assert "temperature" in lm_mixup("rater", "card", out).stdout
    live = ("--live", f"knn-bayes:{out}")
    compared = lm_mixup("rater", "compare", pool, "--ratings", ratings, "--rater", "merit", *live, *HASHING, "--json")
    (pair,) = json.loads(compared.stdout.splitlines()[-1])["pairs"]
    assert pair["rows"] == ROWS
    assert pair["correlation"]["value"] > 0.3


def test_live_judges_are_asked_once_and_compared(rated: tuple[Path, Path], tmp_path: Path) -> None:
    pool, ratings = rated
    with serving("--faults", "prose=0.05,http-500=0.05", "--logprobs") as server:
        judges = [f"judge:openai:{model}@{server.url}" for model in ("one", "two")]
        chosen = ("--ratings", ratings, "--rater", "merit", "--live", judges[0], "--live", judges[1])
        options = ("--limit", 30, "--work", tmp_path / "work", *HASHING, "--json", "-q")
        first = json.loads(lm_mixup("rater", "compare", pool, *chosen, *options).stdout.splitlines()[-1])
        asked = server.requests
        assert first["raters"] == ["merit", *judges]
        pair = next(p for p in first["pairs"] if (p["first"], p["second"]) == tuple(judges))
        assert 28 <= pair["rows"] <= 30
        assert asked >= 60
        again = json.loads(lm_mixup("rater", "compare", pool, *chosen, *options).stdout.splitlines()[-1])
        assert server.requests - asked <= 4  # what had failed is asked once more
        assert again["pairs"] == first["pairs"]
        drawn = ("--set", "rate.draws=3", "--set", "rate.temperature=1.0")
        several = json.loads(
            lm_mixup("rater", "compare", pool, "--live", judges[0], *drawn, *options).stdout.splitlines()[-1]
        )
        assert several["draws"][judges[0]]["draws"] == 3
        # the caps of a recipe hold here too
        capped = refused_by_budget(
            "rater", "compare", pool, "--live", judges[1], "--limit", 30, "--set", "llm.max_requests=5", *HASHING, "-q"
        )
        assert "--max-requests 5: 5 spent" in capped


def refused_by_budget(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(result.exception, BudgetError), result.output
    return str(result.exception)


def test_a_library_smaller_than_k_and_other_mistakes_say_what_to_do(rated: tuple[Path, Path], tmp_path: Path) -> None:
    pool, ratings = rated
    build = ("library", "build", pool, "--ratings", ratings, "-o", tmp_path / "lib", *HASHING, "-q")
    assert "more than k = 200" in refused(*build, "--rater", "merit", "--neighbors", 200)
    assert "give --ratings FILE and --rater" in refused(*build)
    assert "no rater 'nobody'" in refused(*build, "--rater", "nobody")
    assert "there are qa" in refused(*build, "--rater", "merit", "--type", "essay")
    train = ("rater", "train", pool, "-o", tmp_path / "w.npz", *HASHING, "-q")
    assert "give --ratings FILE" in refused(*train)
    strangers = jsonl(tmp_path / "strangers.jsonl", [{"id": "elsewhere", "merit": 3}])
    assert "none of the rated ids" in refused(*train, "--ratings", strangers)
    assert "name the POOL" in refused("rater", "compare", "--live", "learned")
    assert "--live oracle" in refused("rater", "compare", pool, "--live", "oracle", *HASHING)
    assert "nothing to compare" in refused("rater", "compare")


def test_the_card_of_the_shipped_weights() -> None:
    card = json.loads(lm_mixup("rater", "card", "--json").stdout)
    assert "gpt-4o-mini" in card["heads"]
