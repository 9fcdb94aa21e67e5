"""Commands around a run: init, models, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_mixup.cli import options as o

if TYPE_CHECKING:
    from lm_mixup.models import ModelStatus

EXTRAS = {
    "embedded": ("openvino", "tokenizers", "safetensors", "openvino_genai", "gguf"),
    "genai": ("openvino_genai",),
    "hub": ("huggingface_hub",),
    "transformers": ("torch", "transformers"),
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init", help="Write a recipe with every setting, its default and its meaning.")(init)
    app.command("doctor", help="What is installed, which models are at hand, what a run would use.")(doctor)
    models = typer.Typer(help="The models that lm-mixup fetches by itself.", no_args_is_help=True)
    models.command("list", help="All models, and where they are.")(models_list)
    models.command("get", help="Fetch a model now.")(models_get)
    app.add_typer(models, name="models")


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented recipe."""
    from lm_mixup.errors import InputError
    from lm_mixup.files import write_bytes
    from lm_mixup.recipe import commented

    if path.exists() and not force:
        raise InputError(f"{path}: is there already; --force replaces it")
    write_bytes(path, commented().encode())
    print(f"wrote {path}; lm-mixup run POOL -o RUN --recipe {path} uses it")


def models_list(as_json: o.AsJson = False) -> None:
    """All models, and where they are."""
    import os

    from lm_mixup.collaborators import Edge
    from lm_mixup.models import available

    found = [_as_entry(status) for status in available(Edge.of(os.environ).cache_dir)]
    if as_json:
        print(json.dumps(found))
        return
    for entry in found:
        where = entry["path"] or entry["state"]
        print(f"{entry['name']:<24} {entry['bytes'] / 1e6:>5.0f} MB  {entry['licence']}  {entry['purpose']}: {where}")


def _as_entry(status: ModelStatus) -> dict[str, Any]:
    return {
        "name": status.spec.name,
        "purpose": status.spec.purpose,
        "licence": status.spec.licence,
        "bytes": sum(file.size for file in status.spec.files),
        "state": status.state,
        "path": str(status.path) if status.path else None,
        "detail": status.detail,
    }


def models_get(name: Annotated[str, typer.Argument(help="A name of lm-mixup models list.")]) -> None:
    """Fetch a model now."""
    import os

    from lm_mixup.cli import console
    from lm_mixup.collaborators import Edge
    from lm_mixup.models import resolve

    with console.Watch() as watch:
        edge = Edge.of(os.environ, watch.download)
        path = resolve(name, cache_dir=edge.cache_dir, progress=edge.download, hub=edge.hub)
    print(path)


def doctor(recipe: o.RecipeFile = None, settings: o.Settings = None, as_json: o.AsJson = False) -> None:
    """What is installed, which models are at hand, what a run would use."""
    told = _examine(recipe, settings)
    if as_json:
        print(json.dumps(told, default=str))
        return
    print(f"lm-mixup {told['version']}, Python {told['python']}, {told['cores']} cores")
    for extra, packages in told["extras"].items():
        absent = [name for name, version in packages.items() if version is None]
        state = f'missing {", ".join(absent)}: pip install "lm-mixup[{extra}]"' if absent else "installed"
        print(f"  extra {extra:<13} {state}")
    for entry in told["models"]:
        print(f"  model {entry['name']:<24} {entry['path'] or entry['state'] + ' (fetched on first use)'}")
    for name, is_set in told["keys"].items():
        print(f"  key   {name:<24} {'set' if is_set else 'not set'}")
    print("a run would use")
    for name, value in told["would_use"].items():
        print(f"  {name:<13} {value}")
    for problem in told["problems"]:
        print(f"problem: {problem}")
    if told["problems"]:
        raise typer.Exit(2)


def _examine(recipe: Path | None, settings: list[str] | None) -> dict[str, Any]:
    import importlib.metadata as metadata
    import importlib.util
    import os
    import platform

    from lm_mixup import __version__
    from lm_mixup.collaborators import EMBEDDED_MODEL, KEY_VARIABLES, Edge
    from lm_mixup.models import available

    distributions = metadata.packages_distributions()

    def version_of(module: str) -> str | None:
        if importlib.util.find_spec(module) is None:
            return None
        return metadata.version(distributions[module][0]) if module in distributions else "?"

    resolved = o.recipe_from(recipe, settings)
    extras = {extra: {name: version_of(name) for name in modules} for extra, modules in EXTRAS.items()}
    would_use = {
        "embedder": resolved.embed.model,
        "rater": f"learned ({resolved.rate.head})" if resolved.rate.rater == "learned" else resolved.rate.rater,
        "distiller": resolved.distill.distiller,
        "llm": resolved.llm.model or "none",
    }
    problems = []
    if resolved.embed.model == EMBEDDED_MODEL and None in extras["embedded"].values():
        problems.append('the embedded defaults are not installed: pip install "lm-mixup[embedded]"')
    judges = resolved.rate.rater in ("judge", "cascade")
    judge_named = resolved.llm.model or resolved.rate.llm or resolved.rate.judges
    distiller_named = resolved.llm.model or resolved.distill.llm
    if (judges and not judge_named) or (resolved.distill.distiller == "lm" and not distiller_named):
        problems.append("the recipe needs a language model and names none: set llm.model")
    return {
        "version": __version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "extras": extras,
        "models": [_as_entry(status) for status in available(Edge.of(os.environ).cache_dir)],
        "keys": {name: bool(os.environ.get(name)) for name in KEY_VARIABLES},
        "would_use": would_use,
        "problems": problems,
    }
