"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lm_mixup.recipe import Recipe

RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A recipe file; lm-mixup init writes one.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. cluster.max_size=8.")
]
LLMSpec = Annotated[
    str | None,
    typer.Option("--llm", metavar="SPEC", help="A language model, e.g. openai:MODEL@URL; the key: OPENAI_API_KEY."),
]
MaxUsd = Annotated[
    float | None, typer.Option("--max-usd", min=0, help="Cap on what language models may cost, in US dollars.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=0, help="Cap on their tokens, in and out.")]
MaxRequests = Annotated[int | None, typer.Option("--max-requests", min=0, help="Cap on requests to them.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="NAME=COLUMN", help="A column with another name, e.g. prompt=question."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Read at most so many good rows.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]
AsJson = Annotated[bool, typer.Option("--json", help="End with one line of JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
RatingsFile = Annotated[
    Path | None, typer.Option("--ratings", help="Ratings to take as they are: id and one column a rater.")
]
RatingsColumn = Annotated[str | None, typer.Option("--rater", help="Which column of --ratings.")]


def recipe_from(
    recipe: Path | None,
    settings: list[str] | None,
    *,
    llm: str | None = None,
    columns: list[str] | None = None,
    limit: int | None = None,
    strict: bool = False,
    **overrides: Any,
) -> Recipe:
    """The recipe that a command's options describe. ``--llm`` alone means: it judges, and it distills."""
    from lm_mixup.errors import RecipeError
    from lm_mixup.recipe import load

    named = {name.replace("__", "."): value for name, value in overrides.items()}
    if llm is not None:
        set_by_hand = {setting.partition("=")[0] for setting in settings or []}
        named["llm.model"] = llm
        for key, value in (("rate.rater", "judge"), ("distill.distiller", "lm")):
            if recipe is None and key not in set_by_hand:
                named[key] = value
    if columns:
        pairs = [column.partition("=") for column in columns]
        for name, equals, _ in pairs:
            if not equals:
                raise RecipeError(f"--columns {name}: expected NAME=COLUMN, e.g. --columns prompt=question")
        named["pool.columns"] = {name: column for name, _, column in pairs}
    named["pool.limit"] = limit
    named["pool.strict"] = strict or None
    return load(recipe, settings or [], named)
