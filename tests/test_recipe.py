"""Recipes: defaults, files, single settings, and errors that name the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import RecipeError
from lm_mixup.recipe import Recipe, commented, dump, load, parse_budget

ROOT = Path(__file__).resolve().parent.parent


def test_the_commented_recipe_is_the_defaults():
    assert yaml.safe_load(commented()) == Recipe().model_dump(mode="json")


def test_every_setting_says_what_it_means():
    for name, info in Recipe.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and hasattr(section, "model_fields"):
            for key, field in section.model_fields.items():
                assert field.description, f"{name}.{key}"


def test_what_is_dumped_loads_again(tmp_path: Path):
    recipe = load(None, ["cluster.max_size=8", "select.budget=50"])
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe))
    assert load(path) == recipe


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("cluster.max_sise=8", "did you mean 'cluster.max_size'?"),
        ("max_size=8", "did you mean 'cluster.max_size'?"),
        ("clusters.max_size=8", "did you mean 'cluster'?"),
        ("zzz.qqq=1", "lm-mixup init lists all settings"),
        ("cluster=8", "is a section"),
        ("cluster.max_size", "expected SECTION.KEY=VALUE"),
        ("cluster.max_size=many", "cluster.max_size"),
        ("cluster.max_size=1", "min_size <= mean_size <= max_size"),
        ("select.ratio=1.5", "select.ratio"),
        ("select.budget=0", "a budget is a number of rows"),
        ("distill.templates={tfq: no slot}", "must hold {statement}"),
        ("distill.templates={haiku: x}", "no such template: haiku"),
    ],
)
def test_a_wrong_setting_says_what_is_right(setting: str, hint: str):
    with pytest.raises(RecipeError) as error:
        load(None, [setting])
    assert hint in str(error.value)


@pytest.mark.parametrize("text", ["- a list", "a: [unclosed", "\x00"])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(RecipeError, match="lm-mixup init"):
        load(tmp_path / "none.yaml")


def test_templates_keep_the_defaults_that_were_not_changed():
    recipe = load(None, ["distill.templates={cs: 'Tell me about {category}'}"])
    assert recipe.distill.templates["tfq"] == Recipe().distill.templates["tfq"]
    assert recipe.distill.templates["cs"] == "Tell me about {category}"


@pytest.mark.parametrize(
    ("budget", "rows", "expected"),
    [
        (617, 20_000, 617),
        ("617", 20_000, 617),
        ("3%", 20_583, 617),
        ("0.03", 20_583, 617),
        ("3%", 1, 1),
        ("100%", 7, 7),
        ("200000 tokens", 7, 200_000),
    ],
)
def test_budgets(budget: int | str, rows: int, expected: int):
    assert parse_budget(budget, rows) == expected


@given(st.one_of(st.text(max_size=6), st.integers(), st.floats()), st.integers(1, 10**7))
def test_a_budget_is_at_least_a_row_or_an_error(budget: object, rows: int):
    try:
        assert parse_budget(budget, rows) >= 1  # type: ignore[arg-type]
        said = None
    except ValueError as error:
        said = str(error)
    assert said is None or "a budget is a number of rows" in said


def test_the_recipes_of_the_project_are_valid():
    files = sorted((ROOT / "recipes").glob("*.yaml"))
    assert files
    for path in files:
        load(path)
