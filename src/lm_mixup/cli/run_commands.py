"""Commands on a run folder: run, the single stages, status, export, why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_mixup.cli import options as o

if TYPE_CHECKING:
    from lm_mixup.cli.console import Watch

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run", help="Distill pools into a train set, in a run folder; the same command goes on.")(run)
    app.command("status", help="What is finished in a run folder, with counts.")(status)
    app.command("export", help="Write the train set in another format.")(export)
    app.command("show", help="Before and after, and distilled examples beside their sources.")(show)
    app.command("why", help="Where a row of the train set comes from.")(why)


def run(
    pools: Annotated[list[str], typer.Argument(metavar="POOL...", help="Files, folders, or hub ids (org/name).")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The run folder.")],
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    budget: Annotated[str | None, typer.Option(help="Size of the train set: rows (617) or a share (3%).")] = None,
    ratio: Annotated[float | None, typer.Option(min=0, max=1, help="Share of distilled rows.")] = None,
    ratings: o.RatingsFile = None,
    rater: o.RatingsColumn = None,
    llm: o.LLMSpec = None,
    max_usd: o.MaxUsd = None,
    max_tokens: o.MaxTokens = None,
    max_requests: o.MaxRequests = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    strict: o.Strict = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Distill pools into a train set."""
    resolved = o.recipe_from(
        recipe,
        settings,
        llm=llm,
        columns=columns,
        limit=limit,
        strict=strict,
        select__budget=budget,
        select__ratio=ratio,
        llm__max_usd=max_usd,
        llm__max_tokens=max_tokens,
        llm__max_requests=max_requests,
    )
    from lm_mixup import api
    from lm_mixup.cli import console

    with console.Watch(quiet=quiet) as watch:
        result = api.run(
            pools,
            output,
            recipe=resolved,
            ratings=ratings,
            ratings_column=rater,
            watcher=watch,
            edge=_edge(watch),
        )
    _show(result.folder, result.summary, as_json=as_json, quiet=quiet)
    if result.exit_code:
        console.fail(_empty(result.summary))
        raise typer.Exit(result.exit_code)


def _edge(watch: Watch) -> Any:
    import os

    from lm_mixup.collaborators import Edge

    return Edge.of(os.environ, watch.download)


def _show(folder: Path, summary: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    from lm_mixup import train_set
    from lm_mixup.cli import console
    from lm_mixup.run_folder import Run

    if not quiet and not as_json:
        console.out.print(console.stage_table(summary))
        console.out.print(console.before_after_table(train_set.before_and_after(Run(folder, read_only=True))))
        for note in summary["notes"]:
            console.out.print(f"note: {note}", markup=False)
        rows = summary["rows"]
        if rows["quarantined"]:
            console.out.print(f"{rows['quarantined']:,} bad rows: {folder / 'quarantine.jsonl'}", markup=False)
        console.out.print(f"{rows['train']:,} rows: {summary['train']}", markup=False)
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))


def _empty(summary: dict[str, Any]) -> str:
    if not summary["stages"].get("rate", {}).get("in"):
        return "the train set is empty: the pool has no usable row (see quarantine.jsonl)"
    return (
        "the train set is empty: no original and no distillate reaches the high line; "
        "lower it with --set curate.high_rating=3, or set a share with --set curate.high_share=0.1"
    )


def stage_on_run(stage: str, folder: Path, settings: list[str] | None, quiet: bool) -> None:
    """Run one stage on a run folder that holds what the stage needs, with the run's own recipe."""
    from lm_mixup.cli import console
    from lm_mixup.collaborators import assemble
    from lm_mixup.pipeline import Walk
    from lm_mixup.recipe import load
    from lm_mixup.run_folder import Run, write_recipe

    Run(folder, read_only=True)
    resolved = load(folder / "recipe.yaml", settings or [])
    with Run(folder) as held, console.Watch(quiet=quiet) as watch:
        write_recipe(folder, resolved)
        walk = Walk(held, resolved, assemble(resolved, held, _edge(watch)), watch)
        if stage == "rate":
            walk.embed()
        getattr(walk, stage)()
        if stage == "select":
            summary = walk.finish()
            console.out.print(f"{summary['rows']['train']:,} rows: {summary['train']}", markup=False)


def status(folder: RunFolder, as_json: o.AsJson = False) -> None:
    """What is finished in a run folder."""
    from lm_mixup.cli import console
    from lm_mixup.run_folder import STAGES, Run, summary

    told = summary(Run(folder, read_only=True))
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    console.out.print(console.stage_table(told))
    missing = [name for name in STAGES if name not in told["stages"]]
    if missing:
        console.out.print(f"not finished: {', '.join(missing)}; the same lm-mixup run command goes on", markup=False)
    else:
        console.out.print(f"{told['rows']['train']:,} rows: {told['train']}", markup=False)
    for note in told["notes"]:
        console.out.print(f"note: {note}", markup=False)


def export(
    folder: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file: .jsonl or .parquet.")],
    format_: Annotated[
        str, typer.Option("--format", help="messages, alpaca, prompt-completion or sharegpt.")
    ] = "messages",
) -> None:
    """Write the train set in another format."""
    from lm_mixup import train_set
    from lm_mixup.cli import console
    from lm_mixup.pool.write import export as write
    from lm_mixup.run_folder import Run

    train = Run(folder, read_only=True).folder / "train.jsonl"
    report = write(output, train_set.read_jsonl(train), format_)
    console.out.print(f"{report.rows:,} rows: {output}", markup=False)
    for note in report.notes:
        console.err.print(f"note: {note}", markup=False)


def show(
    folder: RunFolder,
    examples: Annotated[int, typer.Option(min=0, help="How many distilled rows to show with their sources.")] = 2,
) -> None:
    """Before and after, and distilled examples beside their sources: those made from the most rows, best first."""
    from lm_mixup import train_set
    from lm_mixup.cli import console
    from lm_mixup.run_folder import Run

    held = Run(folder, read_only=True)
    console.out.print(console.before_after_table(train_set.before_and_after(held)))
    for id_ in train_set.telling_examples(held, examples):
        story = train_set.story(held, id_)
        if story:
            console.out.rule()
            console.show_story(story)
    console.out.rule()
    console.out.print(f"train set: {folder / 'train.jsonl'}", markup=False)


def why(
    folder: RunFolder,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id of a row of train.jsonl.")],
    as_json: o.AsJson = False,
) -> None:
    """Where a row of the train set comes from."""
    from lm_mixup import train_set
    from lm_mixup.cli import console
    from lm_mixup.errors import InputError
    from lm_mixup.run_folder import Run

    held = Run(folder, read_only=True)
    story = train_set.story(held, id_)
    if story is None:
        raise InputError(f"{folder}: no row of train.jsonl has the id {id_!r}; lm-mixup status {folder} shows the run")
    if as_json:
        print(json.dumps(story, ensure_ascii=False))
        return
    console.show_story(story)
