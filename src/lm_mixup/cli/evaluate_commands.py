"""``lm-mixup evaluate``: how well distillers distil, on MIXTURE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_mixup.cli import options as o

if TYPE_CHECKING:
    from lm_mixup.collaborators import Edge
    from lm_mixup.evaluation.mixture import Evaluation
    from lm_mixup.evaluation.rows import Chosen, CountTokens, Selection
    from lm_mixup.records import TaskType

TOKENIZER = "smollm2-135m-instruct"
"""Whose tokens --max-tokens counts by default: the small model's that lm-mixup trains."""

MOST_NEW_TOKENS = 2024
"""METHOD § 4: the longest answer of the types with long ones."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    evaluate = typer.Typer(help="How well distillers distil.", no_args_is_help=True)
    evaluate.command("mixture", help="Compare distillers on the held-out part of MIXTURE.")(mixture)
    evaluate.command("prompts", help="Write what is asked, to be answered elsewhere.")(prompts)
    app.add_typer(evaluate, name="evaluate")


Data = Annotated[str, typer.Option("--data", help="A folder of MIXTURE in any layout, or a hub id.")]
Split = Annotated[str, typer.Option("--split", help="The part of MIXTURE: test, sft, grpo, or grpo-rest.")]
Types = Annotated[str | None, typer.Option("--types", help="Task types, e.g. qa,para. Default: all.")]
MinVariants = Annotated[int, typer.Option("--min-variants", min=1, help="Leave out rows with fewer.")]
MaxVariants = Annotated[int | None, typer.Option("--max-variants", min=1, help="Leave out rows with more.")]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="Leave out rows longer than this, prompt and answer.")
]
Tokenizer = Annotated[
    str, typer.Option("--tokenizer", help="Who counts them: a model's name, a GGUF file or a tokenizer.json.")
]
UnmetBy = Annotated[
    list[Path] | None,
    typer.Option(
        "--unmet-by",
        metavar="FOLDER",
        help="Leave out rows of articles that the training in FOLDER met. --split grpo has more others than the test "
        "part. Repeatable.",
    ),
]
MostRows = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many rows, evenly by type.")]


def mixture(
    data: Data,
    distiller: Annotated[
        list[str],
        typer.Option(
            "--distiller",
            metavar="[NAME=]SPEC",
            help="extractive, best-source, reference, file:ANSWERS.jsonl, lm:MODEL, compact:MODEL (MODEL as in --llm). "
            "Repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write; the same command goes on in it.")],
    split: Split = "test",
    types: Types = None,
    min_variants: MinVariants = 1,
    max_variants: MaxVariants = None,
    max_tokens: MaxTokens = None,
    tokenizer: Tokenizer = TOKENIZER,
    limit: MostRows = None,
    unmet_by: UnmetBy = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            metavar="SPEC",
            help="independent, learned[:HEAD], weights:FILE.npz[:HEAD], knn-bayes:FOLDER, cascade:FOLDER, llm:MODEL. "
            "Repeatable; the first decides. Default: independent.",
        ),
    ] = None,
    rater: Annotated[
        str, typer.Option("--rater", metavar="SPEC", help="Who rates the variants before they are distilled.")
    ] = "learned:llama+mistral",
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer of a prompted model.")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option("--repetition-penalty", min=0.1, help="Of prompted models. METHOD § 4: 1.3.")
    ] = 1.3,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    max_usd: o.MaxUsd = None,
    max_requests: o.MaxRequests = None,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw of rows (--limit) and of the bootstrap.")] = 0,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Let distillers answer the same rows of MIXTURE, rate and measure the answers, and compare."""
    import os

    from lm_mixup.cli import console
    from lm_mixup.cli.evaluate_specs import Decoding, Specs
    from lm_mixup.collaborators import Edge, make_embedder
    from lm_mixup.evaluation import report
    from lm_mixup.evaluation.mixture import evaluate, remembering
    from lm_mixup.evaluation.rows import Selection
    from lm_mixup.run_folder import Run

    resolved = o.recipe_from(recipe, settings, llm__max_usd=max_usd, llm__max_requests=max_requests)
    with Run(out) as run, console.Watch(quiet=quiet) as watch:
        edge = Edge.of(os.environ, watch.download)
        met = _met(unmet_by)
        selection = Selection(split, _types(types), min_variants, max_variants, max_tokens, limit, seed, met)
        rows = _choose(data, selection, tokenizer, edge)
        embedder = remembering(make_embedder(resolved, edge), run)
        longest = max_new_tokens or min(MOST_NEW_TOKENS, max_tokens or MOST_NEW_TOKENS)
        specs = Specs(edge, run, embedder, resolved.llm, Decoding(longest, repetition_penalty))
        found = evaluate(
            rows,
            specs.entrants(distiller, rows.rows),
            run=run,
            judges=specs.judges(judge or ["independent"]),
            rater=specs.rater(rater, "--rater"),
            embedder=embedder,
            resamples=resamples,
            seed=seed,
            watcher=watch,
            tell=(lambda _: None) if quiet else lambda told: console.err.print(told, markup=False, soft_wrap=True),
        )
        about = _about(selection, unmet_by, data, tokenizer, longest, repetition_penalty)
        report.write(found, out, about)
        drawn = _draw(found, out / "figure.svg")
    if as_json:
        print(json.dumps({"out": str(out), "figure": drawn, **report.results(found, about)}))
        return
    _print(found)
    print(
        f"wrote {out / report.TABLE}, {report.RESULTS}, {report.ROWS_FILE}" + (f", {Path(drawn).name}" if drawn else "")
    )


def prompts(
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="PROMPTS.jsonl", help="The file to write.")],
    split: Split = "test",
    types: Types = None,
    min_variants: MinVariants = 1,
    max_variants: MaxVariants = None,
    max_tokens: MaxTokens = None,
    tokenizer: Tokenizer = TOKENIZER,
    limit: MostRows = None,
    unmet_by: UnmetBy = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw of rows (--limit).")] = 0,
) -> None:
    """Write what a trained model is asked about each row: ``id`` and ``messages``, a JSON object a line.

    Whatever answers them, ``evaluate mixture --distiller file:ANSWERS.jsonl`` takes the answers: ``id`` and ``text``.
    """
    import os

    from lm_mixup.collaborators import Edge
    from lm_mixup.evaluation.rows import Selection
    from lm_mixup.files import write_bytes
    from lm_mixup.prompts.compact import compact
    from lm_mixup.records import TaskType

    met = _met(unmet_by)
    selection = Selection(split, _types(types), min_variants, max_variants, max_tokens, limit, seed, met)
    rows = _choose(data, selection, tokenizer, Edge.of(os.environ)).rows
    lines = [
        {"id": row.id, "task_type": row.task_type, "messages": compact(TaskType(row.task_type), row.variants)}
        for row in rows
    ]
    write_bytes(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    print(f"wrote {len(lines):,} prompts to {out}")


def _met(folders: list[Path] | None) -> frozenset[str]:
    from lm_mixup.mixture.rows import read_articles

    return frozenset[str]().union(*map(read_articles, folders or []))


def _choose(data: str, selection: Selection, tokenizer: str, edge: Edge) -> Chosen:
    from lm_mixup.evaluation.rows import choose
    from lm_mixup.mixture.load import load_mixture

    counter = _counter(tokenizer, edge.cache_dir) if selection.max_tokens is not None else None
    return choose(load_mixture(data, endpoint=edge.environment.get("HF_ENDPOINT")), selection, counter)


def _types(said: str | None) -> tuple[TaskType, ...]:
    from lm_mixup.errors import InputError
    from lm_mixup.records import TaskType

    if said is None:
        return tuple(TaskType)
    names = [name.strip() for name in said.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(TaskType)]
    if unknown or not names:
        raise InputError(f"--types {said}: expected some of {', '.join(TaskType)}, parted by commas")
    return tuple(TaskType(name) for name in names)


def _counter(name: str, cache_dir: Path) -> CountTokens:
    from lm_mixup.evaluation.tokens import counter
    from lm_mixup.models import resolve

    return counter(Path(name) if Path(name).exists() else resolve(name, cache_dir=cache_dir))


def _about(
    selection: Selection, unmet_by: list[Path] | None, data: str, tokenizer: str, longest: int, penalty: float
) -> dict[str, Any]:
    variants = f"{selection.min_variants}–{selection.max_variants or 'any number'}"
    told: dict[str, Any] = {
        "data": f"{Path(data).name}, split {selection.split}",
        "variants": variants,
    }
    if unmet_by:
        told["without articles of"] = ", ".join(folder.name for folder in unmet_by)
    if selection.max_tokens is not None:
        told["longest row"] = f"{selection.max_tokens} tokens, prompt and answer, as {Path(tokenizer).name} counts"
    if selection.limit is not None:
        told["drawn"] = f"at most {selection.limit} rows, seed {selection.seed}"
    told["prompted models"] = f"greedy, at most {longest} new tokens, repetition penalty {penalty:g}, cut at </answer>"
    return told


def _draw(found: Evaluation, path: Path) -> str | None:
    """The figure's path; None without matplotlib, which is said: hours of answers are not thrown away for it."""
    from lm_mixup.cli.console import err
    from lm_mixup.errors import MissingExtraError
    from lm_mixup.evaluation.figure import draw

    try:
        draw(found, path)
    except MissingExtraError as error:
        err.print(f"no figure: {error}", markup=False, soft_wrap=True)
        return None
    return str(path)


def _print(found: Evaluation) -> None:
    from rich.markup import escape
    from rich.table import Table

    from lm_mixup.cli import console
    from lm_mixup.evaluation import measures as m
    from lm_mixup.evaluation.bootstrap import ROWS
    from lm_mixup.evaluation.report import shown

    names = (m.RATING, m.RATING_AT_LENGTH, "format", "coverage", "grounding", "rouge_l", m.WORDS)
    table = Table(
        title=f"{len(found.rows.rows):,} rows, rated by {escape(found.judge)}; 95 % intervals",
        header_style="bold",
        title_justify="left",
    )
    for head in ("distiller", "answered", *(m.MEASURES[name].head for name in names)):
        table.add_column(head, justify="left" if head == "distiller" else "right")
    for entrant in found.entrants:
        figures = found.figures[entrant]
        cells = [
            escape(shown(figures[name][ROWS], m.MEASURES[name].decimals, interval=name == m.RATING)) for name in names
        ]
        answered = sum(answer.text is not None for answer in found.answers[entrant])
        table.add_row(escape(entrant), f"{answered:,}", *cells)
    console.out.print(table)
