"""Commands on what language models are asked: plan, replay, diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lm_mixup.cli import options as o


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("plan", help="What a run will take: requests, tokens, time and price, from about 20 items.")(plan)
    app.command("replay", help="Do a finished run again from its ledger: offline, without a key, byte for byte.")(
        replay
    )
    app.command("diff", help="Which answers of language models differ between two runs, and why.")(diff)


def plan(
    pools: Annotated[list[str], typer.Argument(metavar="POOL...", help="Files, folders, or hub ids (org/name).")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The run folder of the later run.")],
    items: Annotated[int, typer.Option("--items", min=1, help="How many items to rate and to distil.")] = 20,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
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
    """Rate and distil a few items, and say what all will take; the run does not pay for their ratings again."""
    resolved = o.recipe_from(
        recipe,
        settings,
        llm=llm,
        columns=columns,
        limit=limit,
        strict=strict,
        llm__max_usd=max_usd,
        llm__max_tokens=max_tokens,
        llm__max_requests=max_requests,
    )
    import os

    from lm_mixup import api
    from lm_mixup import plan as planning
    from lm_mixup.cli import console
    from lm_mixup.collaborators import Edge, assemble
    from lm_mixup.errors import InputError
    from lm_mixup.ingest import ingest
    from lm_mixup.run_folder import Run, write_recipe

    given = api.read_ratings(ratings, rater)
    meters = planning.Meters()
    with Run(output) as held, console.Watch(quiet=quiet) as watch:
        write_recipe(output, resolved)
        watch.start("pool", None, "rows")
        manifest, _ = ingest(held, pools, resolved.pool, given, lambda n: watch.advance("pool", n))
        if not manifest.kept:
            raise InputError(f"the pool has no usable row, so there is nothing to plan (see {output}/quarantine.jsonl)")
        edge = Edge.of(os.environ, watch.download)
        hands = assemble(resolved, held, edge, meter=meters.wrap)
        told = planning.plan(held, resolved, hands.rater, hands.distiller, meters, items=items)
    if as_json:
        print(json.dumps(told))
        return
    from rich.table import Table

    table = Table(header_style="bold")
    for name in ("stage", "records", "requests", "tokens in", "tokens out", "time", "price"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in planning.table(told):
        table.add_row(*row)
    console.out.print(table)
    sampled = ", ".join(f"{count} {stage}" for stage, count in told["sampled"].items())
    console.out.print(f"from a sample ({sampled}); intervals should hold nine times in ten", markup=False)
    for stage, failed in told["failed"].items():
        if failed:
            console.out.print(f"note: {failed} of {told['sampled'][stage]} failed in {stage}", markup=False)


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN2", help="A new folder; default: RUN-replay.")
    ] = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Do a finished run again from its ledger."""
    import os

    from lm_mixup import replay as replaying
    from lm_mixup.cli import console
    from lm_mixup.collaborators import Edge
    from lm_mixup.errors import RunError

    folder = output or run.with_name(run.name + "-replay")
    with console.Watch(quiet=quiet) as watch:
        replayed = replaying.replay(run, folder, edge=Edge.of(os.environ, watch.download), watcher=watch)
    if as_json:
        print(json.dumps({"run": str(folder), "same": replayed.same, "first_different_line": replayed.differs}))
    if not replayed.same:
        raise RunError(replaying.explain(replayed, run))
    if not as_json:
        products = " and ".join(replaying.PRODUCTS)
        console.out.print(f"{folder}: {products} are the same as in {run}, byte for byte", markup=False)


def diff(
    before: Annotated[Path, typer.Argument(metavar="RUN1", help="A run folder.")],
    after: Annotated[Path, typer.Argument(metavar="RUN2", help="Another.")],
    show: Annotated[int, typer.Option(min=0, help="How many changed answers to show.")] = 5,
    as_json: o.AsJson = False,
) -> None:
    """Which answers differ, and why."""
    from lm_mixup import diff as differing
    from lm_mixup.cli import console

    found = differing.diff(before, after)
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False))
        return
    lines = [f"{found.same:,} answers are the same"]
    lines += [f"{count:,} are the same although the {why} differs" for why, count in sorted(found.same_answer.items())]
    lines.append(f"{len(found.changed):,} answers differ")
    lines += [f"  {count:,} because of: {why}" for why, count in sorted(found.why.items())]
    lines += [f"{found.only_before:,} were asked in {before} alone, {found.only_after:,} in {after} alone"]
    for line in lines:
        console.out.print(line, markup=False)
    for change in found.changed[:show]:
        console.out.rule()
        console.out.print(f"{change.id} ({change.kind}): {', '.join(change.why)}", style="bold", markup=False)
        console.out.print(f"- {differing.shown(change.before)}\n+ {differing.shown(change.after)}", markup=False)
