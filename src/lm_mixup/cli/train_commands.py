"""``lm-mixup train``: sft, grpo, preflight, winners."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lm_mixup.training.recipe import TrainRecipe

Data = Annotated[Path, typer.Option("--data", help="A built or loaded MIXTURE.")]
Model = Annotated[str | None, typer.Option("--model", help="The model to begin with, instead of the recipe's.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="cpu, gpu, or a YAML file. Without: gpu where there is one, else cpu.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A setting of the recipe, e.g. --set sft.batch=4.")]
MaxSteps = Annotated[int | None, typer.Option("--max-steps", min=1, help="End after so many steps.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    train = typer.Typer(help="Train the model that distils.", no_args_is_help=True)
    train.command("sft", help="The cold start: SFT on MIXTURE.")(sft)
    train.command("grpo", help="GRPO on top of the cold start.")(grpo)
    train.command("preflight", help="Before GRPO: can anything be learned, and how long will it take?")(preflight)
    train.command("winners", help="Best of n: draw answers, and write the best as data for train sft.")(winners)
    app.add_typer(train, name="train")


def sft(
    data: Data,
    out: Out,
    model: Model = None,
    recipe: RecipeOption = None,
    settings: Settings = None,
    max_steps: MaxSteps = None,
    resume: Resume = False,
) -> None:
    """Train on MIXTURE's SFT part."""
    from lm_mixup.collaborators import Edge
    from lm_mixup.training.sft import train_sft

    chosen = _recipe(recipe, settings, model)
    folder = train_sft(
        data, out, chosen, cache_dir=Edge.of(os.environ).cache_dir, resume=resume, max_steps=max_steps, progress=_told
    )
    print(f"trained: {folder}")


Start = Annotated[Path, typer.Option("--model", help="The cold start: a folder that train sft wrote.")]


def grpo(
    data: Data,
    out: Out,
    model: Start,
    recipe: RecipeOption = None,
    settings: Settings = None,
    max_steps: MaxSteps = None,
    resume: Resume = False,
) -> None:
    """Train on MIXTURE's GRPO part, with rewards."""
    from lm_mixup.raters.learned import independent_judge
    from lm_mixup.training.grpo import train_grpo

    chosen = _recipe(recipe, settings, None)
    given = _given(chosen, data, model)
    folder = train_grpo(
        data,
        out,
        chosen,
        **given,
        judge=independent_judge(given["embedder"]),
        resume=resume,
        max_steps=max_steps,
        progress=_told,
    )
    print(f"trained: {folder}")


def winners(
    data: Data,
    out: Out,
    model: Start,
    recipe: RecipeOption = None,
    settings: Settings = None,
    max_steps: MaxSteps = None,
    resume: Resume = False,
) -> None:
    """Draw answers to the prompts of MIXTURE's GRPO part and write those that the reward likes best."""
    from lm_mixup.training.winners import find_winners

    chosen = _recipe(recipe, settings, None)
    folder = find_winners(
        data, out, chosen, **_given(chosen, data, model), resume=resume, max_steps=max_steps, progress=_told
    )
    print(f"winners: {folder}")


def preflight(
    data: Data,
    model: Start,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write preflight.json into this folder.")] = None,
    recipe: RecipeOption = None,
    settings: Settings = None,
    max_steps: MaxSteps = None,
    groups: Annotated[int, typer.Option("--groups", min=2, help="Prompts to sample rollouts for.")] = 16,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Sample groups and report what GRPO would see; exit code 2 where nothing can be learned."""
    from lm_mixup.errors import InputError
    from lm_mixup.files import write_bytes
    from lm_mixup.training.preflight import preflight as look

    chosen = _recipe(recipe, settings, None)
    report = look(data, chosen, **_given(chosen, data, model), groups=groups, max_steps=max_steps)
    text = json.dumps(report.as_json(), indent=2)
    if out is not None:
        write_bytes(out / "preflight.json", f"{text}\n".encode())
    print(text if json_ else report.as_text())
    if report.refused:
        raise InputError("nothing can be learned like this: " + "; ".join(report.refused))


def _given(recipe: TrainRecipe, data: Path, start: Path) -> dict[str, Any]:
    """What all that samples from a cold start is given; an error before anything costly where there is none."""
    from lm_mixup.collaborators import Edge, make_embedder
    from lm_mixup.recipe import Recipe
    from lm_mixup.training.begin import cold_start
    from lm_mixup.training.reward import reward_library

    cold_start(start)
    cache_dir = (edge := Edge.of(os.environ)).cache_dir
    embedder = make_embedder(Recipe(), edge)
    library = reward_library(recipe.rewards, data, embedder, cache_dir=cache_dir, seed=recipe.seed)
    return {"start": start, "cache_dir": cache_dir, "embedder": embedder, "library": library}


def _recipe(name: str | None, settings: list[str] | None, model: str | None) -> TrainRecipe:
    from lm_mixup.training.recipe import load

    return load(name or _fitting(), settings or (), {"model.name": model})


def _fitting() -> str:
    try:
        import torch
    except ImportError:
        return "cpu"  # the training itself says what to install
    return "gpu" if torch.cuda.is_available() else "cpu"


def _told(step: int, steps: int, figures: dict[str, Any]) -> None:
    shown = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
    print(f"step {step}/{steps} {shown}", file=sys.stderr, flush=True)
