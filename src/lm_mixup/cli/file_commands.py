"""The stages as commands: on a run folder, or from file to file.

From file to file, rows keep their order, their ids and their own columns; what the stage found is added. The work is
kept in ``OUT.work`` until it is finished, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_mixup.cli import options as o

if TYPE_CHECKING:
    from lm_mixup.pipeline import Walk
    from lm_mixup.pool.ratings import Ratings
    from lm_mixup.recipe import Recipe

Paths = Annotated[list[str], typer.Argument(metavar="RUN|POOL...", help="A run folder; or, with -o, pools.")]
PoolPaths = Annotated[list[str], typer.Argument(metavar="POOL...", help="Pools.")]
OutputFile = Annotated[Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="The file to write.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT.jsonl", help="From file to file.")]


Work = Annotated[
    Path | None,
    typer.Option("--work", metavar="DIR", help="Keep the work here; commands that share it embed and rate a row once."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("rate", help="Rate samples 0–5; from file to file it adds `rating`.")(rate)
    app.command("curate", help="Correct ratings by their neighbours; adds `curated_rating`, `flagged`, `confidence`.")(
        curate
    )
    app.command("cluster", help="Group samples within a size band; from file to file it adds `cluster`.")(cluster)
    app.command("dedup", help="Find near-duplicates, from file to file: adds `stands_for`, or drops them.")(dedup)
    app.command("longtail", help="Score how rare samples are, from file to file: adds `long_tail`.")(longtail)
    app.command("distill", help="Turn each cluster into one sample.")(distill)
    app.command("rerate", help="Rate the distillates of a run again.")(rerate)
    app.command("select", help="Take the budget; from file to file: the best rows of rated ones.")(select)


@dataclass(frozen=True)
class _Job:
    """A file-to-file command at work: the walk over its work folder, and the pools' raw rows once more."""

    walk: Walk
    recipe: Recipe
    pools: list[str]

    def raw_rows(self) -> Iterator[dict[str, Any]]:
        """The good rows as they were read, each with its id, in the order of the pool."""
        from lm_mixup import ingest
        from lm_mixup.pool import PoolRow

        for row in ingest.rows(self.pools, self.recipe.pool):
            if isinstance(row, PoolRow):
                given = row.raw.get("id")
                yield {**row.raw, "id": given if str(given) == row.sample.id else row.sample.id}


@contextmanager
def _job(
    pools: list[str],
    output: Path,
    recipe: Recipe,
    ratings: Mapping[str, float | None] | None,
    quiet: bool,
    keep: Path | None,
) -> Iterator[_Job]:
    import os

    from lm_mixup.cli import console
    from lm_mixup.collaborators import Edge, assemble
    from lm_mixup.ingest import ingest
    from lm_mixup.pipeline import Walk
    from lm_mixup.run_folder import Run, write_recipe

    work = keep or output.with_name(output.name + ".work")
    with Run(work) as held, console.Watch(quiet=quiet) as watch:
        write_recipe(work, recipe)
        watch.start("pool", None, "rows")
        manifest, cached = ingest(held, pools, recipe.pool, ratings, lambda n: watch.advance("pool", n))
        watch.finish("pool", manifest, cached=cached)
        hands = assemble(recipe, held, Edge.of(os.environ, watch.download))
        yield _Job(Walk(held, recipe, hands, watch), recipe, pools)
        if manifest.dropped:
            quarantine = output.with_name(output.name + ".quarantine.jsonl")
            shutil.copyfile(work / "quarantine.jsonl", quarantine)
            console.err.print(f"{sum(manifest.dropped.values()):,} bad rows: {quarantine}", markup=False)
    if keep is None:
        shutil.rmtree(work)


def _write(output: Path, rows: Iterator[dict[str, Any]]) -> None:
    from lm_mixup.pool.write import write_jsonl

    write_jsonl(output, rows)


def _added(job: _Job, columns: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for position, row in enumerate(job.raw_rows()):
        yield row | {name: values[position] for name, values in columns.items()}


def _on_run(stage: str, paths: list[str], settings: list[str] | None, quiet: bool) -> None:
    from lm_mixup.cli.run_commands import stage_on_run
    from lm_mixup.errors import InputError

    if len(paths) != 1 or not (Path(paths[0]) / "recipe.yaml").is_file():
        raise InputError(f"lm-mixup {stage} {' '.join(paths)}: no run folder; for pools, give -o OUT.jsonl")
    stage_on_run(stage, Path(paths[0]), settings, quiet)


def rate(
    paths: Paths,
    output: Output = None,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    llm: o.LLMSpec = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    strict: o.Strict = False,
    work: Work = None,
    quiet: o.Quiet = False,
) -> None:
    """Rate samples 0–5."""
    if output is None:
        return _on_run("rate", paths, settings, quiet)
    resolved = o.recipe_from(recipe, settings, llm=llm, columns=columns, limit=limit, strict=strict)
    with _job(paths, output, resolved, None, quiet, work) as job:
        job.walk.embed()
        job.walk.rate()
        table = job.walk.run.read_records("rate")
        reasons = table.column("reason").to_pylist()
        rows = _added(job, {"rating": table.column("rating").to_pylist(), "rating_failure": reasons})
        _write(output, (row if row["rating_failure"] else _without(row, "rating_failure") for row in rows))
    return None


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    row.pop(name)
    return row


def curate(
    paths: Paths,
    output: Output = None,
    ratings: o.RatingsFile = None,
    rater: o.RatingsColumn = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="T.svg", help="Draw the transition matrix, true to observed class."),
    ] = None,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    work: Work = None,
    quiet: o.Quiet = False,
) -> None:
    """Correct ratings by their neighbours; several raters jointly, unless --rater picks one."""
    if output is None:
        _on_run("curate", paths, settings, quiet)
        if figure is not None:
            _copy_figure(Path(paths[0]), figure)
        return None
    from lm_mixup.errors import InputError
    from lm_mixup.pool.ratings import read_all_ratings

    resolved = o.recipe_from(recipe, settings, columns=columns, limit=limit)
    given: Ratings | None = None
    if ratings is not None:
        given = read_all_ratings(ratings, raters=None if rater is None else [rater])
    if given is not None and len(given.raters) > 1:
        if figure is not None:
            raise InputError(
                f"--figure {figure}: raters curated jointly have no transition matrix; give --rater NAME too"
            )
        return _curate_together(paths, output, resolved, given, quiet, work)
    with _job(paths, output, resolved, given.of() if given else None, quiet, work) as job:
        for step in (job.walk.embed, job.walk.graph, job.walk.rate, job.walk.curate):
            step()
        table = job.walk.run.read_records("curate")
        names = ("rating", "curated_rating", "flagged", "confidence")
        _write(output, _added(job, {name: table.column(name).to_pylist() for name in names}))
        if figure is not None:
            _copy_figure(job.walk.run.folder, figure)
    return None


def _copy_figure(run: Path, figure: Path) -> None:
    """Copy a run's figure of the transition matrix, or say why there is none."""
    from lm_mixup.cli import console

    drawn = run / "curate" / "transition.svg"
    if drawn.is_file():
        shutil.copyfile(drawn, figure)
    else:
        console.err.print(f"{figure}: not drawn, for no transition matrix was estimated", markup=False)


def _curate_together(
    paths: list[str], output: Path, recipe: Recipe, given: Ratings, quiet: bool, work: Path | None
) -> None:
    import numpy as np

    from lm_mixup import piecework
    from lm_mixup.cli import console

    # the pool carries any rating of a row, so that it counts whom the file covers; no row is rated anew
    best = np.fmax.reduce(given.values, axis=1, initial=-1.0)
    covered = {id_: float(value) for id_, value in zip(given.ids, best, strict=True) if value >= 0}
    with _job(paths, output, recipe, covered, quiet, work) as job:
        _write(output, _added(job, piecework.curate_together(job.walk, given)))
    if not quiet:
        named = ", ".join(given.raters)
        console.err.print(f"curated jointly: {named}; --rater NAME takes one of them alone", markup=False)


def dedup(
    paths: PoolPaths,
    output: OutputFile,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Cosine from which on rows are the same.")] = 0.92,
    drop: Annotated[bool, typer.Option("--drop", help="Leave duplicates out instead of marking them.")] = False,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    work: Work = None,
    quiet: o.Quiet = False,
) -> None:
    """Find near-duplicates: the first of them stays, and its id is the others' `stands_for`; null where a row stays."""
    from lm_mixup import piecework
    from lm_mixup.cli import console

    resolved = o.recipe_from(recipe, settings, columns=columns, limit=limit)
    with _job(paths, output, resolved, None, quiet, work) as job:
        found, recall = piecework.duplicates(job.walk, threshold)
        rows = _added(job, {"stands_for": found})
        kept = (_without(row, "stands_for") for row in rows if row["stands_for"] is None)
        _write(output, kept if drop else rows)
    if not quiet:
        count = sum(first is not None for first in found)
        said = "" if recall == 1 else f"; {recall:.2%} of the near pairs of a sample were found"
        console.err.print(f"{count:,} of {len(found):,} rows are near-duplicates of an earlier one{said}", markup=False)


def longtail(
    paths: PoolPaths,
    output: OutputFile,
    k: Annotated[int, typer.Option("--k", min=1, help="Nearest rows that the score is taken over.")] = 15,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    work: Work = None,
    quiet: o.Quiet = False,
) -> None:
    """Score how rare samples are: `long_tail` is the mean cosine distance to the k nearest rows; larger is rarer."""
    from lm_mixup import piecework

    resolved = o.recipe_from(recipe, settings, columns=columns, limit=limit)
    if resolved.neighbors.k < k:
        neighbors = resolved.neighbors.model_copy(update={"k": k})
        resolved = resolved.model_copy(update={"neighbors": neighbors})
    with _job(paths, output, resolved, None, quiet, work) as job:
        _write(output, _added(job, {"long_tail": piecework.long_tails(job.walk, k)}))


def cluster(
    paths: Paths,
    output: Output = None,
    min_size: Annotated[int | None, typer.Option(min=1, help="Smallest cluster.")] = None,
    max_size: Annotated[int | None, typer.Option(min=1, help="Largest cluster.")] = None,
    mean: Annotated[float | None, typer.Option("--mean", min=1, help="Mean size aimed at.")] = None,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    work: Work = None,
    quiet: o.Quiet = False,
) -> None:
    """Group samples within a size band; from file to file every row takes part, whatever its rating."""
    if output is None:
        return _on_run("cluster", paths, settings, quiet)
    from lm_mixup import piecework

    resolved = o.recipe_from(
        recipe,
        settings,
        columns=columns,
        limit=limit,
        cluster__min_size=min_size,
        cluster__max_size=max_size,
        cluster__mean_size=mean,
    )
    with _job(paths, output, resolved, None, quiet, work) as job:
        found = piecework.cluster_all(job.walk)
        labels = [label if label >= 0 else None for label in found.labels.tolist()]
        rows = _added(job, {"cluster": labels, "cluster_reason": found.reasons})
        _write(output, (row if row["cluster_reason"] else _without(row, "cluster_reason") for row in rows))
    return None


def distill(
    paths: Paths,
    output: Output = None,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    llm: o.LLMSpec = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="A model that lm-mixup trained: lm-mixup-135m, or a folder of lm-mixup train."),
    ] = None,
    columns: o.Columns = None,
    work: Work = None,
    quiet: o.Quiet = False,
) -> None:
    """Turn each cluster into one sample; from file to file, rows of one `cluster` belong together."""
    if model is not None:
        asked = ("distill.model_from=0", "distill.model_alike=0")  # it was named: it is asked about all in its range
        settings = [*asked, *(settings or ()), "distill.distiller=trained", f"distill.model={model}"]
    if output is None:
        return _on_run("distill", paths, settings, quiet)
    from lm_mixup import piecework
    from lm_mixup.errors import PoolError

    resolved = o.recipe_from(recipe, settings, llm=llm, columns=columns)
    named = _rating_column(resolved, paths)
    with _job(paths, output, named, None, quiet, work) as job:
        labels = [row.get("cluster") for row in job.raw_rows()]
        if not any(label is not None for label in labels):
            raise PoolError(f"{paths[0]}: no row has a column 'cluster'; lm-mixup cluster POOL -o FILE adds it")
        _write(output, piecework.distill_labelled(job.walk, labels))
    return None


def _rating_column(recipe: Recipe, paths: list[str]) -> Recipe:
    """Ratings that the rows carry are used: curated ones first."""
    from lm_mixup import ingest
    from lm_mixup.pool import PoolRow

    if recipe.pool.rating_column:
        return recipe
    first = next((row for row in ingest.rows(paths, recipe.pool) if isinstance(row, PoolRow)), None)
    name = next((name for name in ("curated_rating", "rating") if first and name in first.raw), None)
    return recipe.model_copy(update={"pool": recipe.pool.model_copy(update={"rating_column": name})})


def rerate(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    settings: o.Settings = None,
    quiet: o.Quiet = False,
) -> None:
    """Rate the distillates of a run."""
    _on_run("rerate", [folder], settings, quiet)


def select(
    paths: Paths,
    output: Output = None,
    budget: Annotated[str | None, typer.Option(help='Rows (617), a share (3%) or "N tokens".')] = None,
    ratio: Annotated[float | None, typer.Option(min=0, max=1, help="Share of distilled rows (`origin`).")] = None,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    work: Work = None,
    quiet: o.Quiet = False,
) -> None:
    """Take the best rows of rated ones: `rating` is needed; rows whose `origin` is "distilled" count as such."""
    if output is None:
        extra = [f"select.budget={budget}"] if budget else []
        extra += [f"select.ratio={ratio}"] if ratio is not None else []
        return _on_run("select", paths, [*(settings or []), *extra], quiet)
    from lm_mixup import piecework
    from lm_mixup.errors import PoolError

    resolved = o.recipe_from(recipe, settings, columns=columns, select__budget=budget, select__ratio=ratio)
    named = _rating_column(resolved, paths)
    if named.pool.rating_column is None:
        raise PoolError(f"{paths[0]}: no row has a column 'rating'; lm-mixup rate POOL -o FILE adds it")
    with _job(paths, output, named, None, quiet, work) as job:
        job.walk.embed()
        origins = ["distilled" if row.get("origin") == "distilled" else "original" for row in job.raw_rows()]
        records = piecework.select_rated(job.walk, origins)
        numbered = enumerate(job.raw_rows())
        chosen = ((row, records[i]) for i, row in numbered if i in records and records[i]["selected"])
        _write(output, (row | {"long_tail": record["long_tail"]} for row, record in chosen))
    return None
