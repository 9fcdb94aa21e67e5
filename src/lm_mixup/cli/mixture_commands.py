"""``lm-mixup mixture``: build, stats, load, push."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_mixup.cli import options as o

if TYPE_CHECKING:
    from lm_mixup.collaborators import Edge
    from lm_mixup.embed.cached import CachedEmbedder
    from lm_mixup.ledger import Ledger
    from lm_mixup.ports import LLM, Rater
    from lm_mixup.recipe import Recipe


class WriterName(StrEnum):
    """Who writes the targets."""

    EXTRACTIVE = "extractive"
    LLM = "llm"


class DegraderName(StrEnum):
    """Who makes the variants."""

    RULES = "rules"
    LLM = "llm"


class Layout(StrEnum):
    """How the rows are written."""

    OURS = "ours"
    AUTHORS = "authors"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    mixture = typer.Typer(help="MIXTURE: the data set that teaches distillation.", no_args_is_help=True)
    mixture.command("build", help="Build MIXTURE from articles and items.")(build)
    mixture.command("stats", help="Figures of a built or loaded MIXTURE.")(stats)
    mixture.command("load", help="Read MIXTURE, ours or the authors', and write it as Parquet.")(load)
    mixture.command("push", help="Upload a built MIXTURE to the Hugging Face hub.")(push)
    app.add_typer(mixture, name="mixture")


Out = Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")]


def build(
    sources: Annotated[list[Path], typer.Argument(help="Files or folders: articles, paragraphs, items, pools.")],
    out: Out,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read at most so many rows of each file.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")] = 0,
    writer: Annotated[WriterName, typer.Option("--writer", help="Who writes the targets.")] = WriterName.EXTRACTIVE,
    degrader: Annotated[DegraderName, typer.Option("--degrader", help="Who makes variants.")] = DegraderName.RULES,
    layout: Annotated[Layout, typer.Option("--layout", help="Parquet, or the authors' JSON files.")] = Layout.OURS,
    llm: o.LLMSpec = None,
    max_usd: o.MaxUsd = None,
    max_tokens: o.MaxTokens = None,
    max_requests: o.MaxRequests = None,
    line: Annotated[float | None, typer.Option("--line", min=0, max=5, help="Least rating of a target, 0–5.")] = None,
    drop_share: Annotated[
        float, typer.Option("--drop-share", min=0, max=0.99, help="Share of each type's worst-rated targets that goes.")
    ] = 0.1,
    rate_variants: Annotated[
        str, typer.Option("--rate-variants", metavar="N|all", help="Rate the variants of so many targets of each type.")
    ] = "300",
    benchmarks: Annotated[
        Path | None, typer.Option("--benchmarks", help="A folder of benchmarks whose items are kept out.")
    ] = None,
    variants: Annotated[float, typer.Option("--variants", min=2, max=20, help="Mean number of variants.")] = 5.0,
    coverage: Annotated[
        float, typer.Option("--coverage", min=0, max=1, help="Share of a target's facts its variants must hold.")
    ] = 0.9,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weight", metavar="DEGRADER=N", help="How often a degrader is drawn, e.g. omission=3; 0: never."
        ),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option("--noise", metavar="KIND=SHARE", help="Share of words that a kind of noise hits, e.g. typo=0.02."),
    ] = None,
    languages: Annotated[str, typer.Option("--languages", help="Languages to let through; any: all.")] = "en",
    recipe: o.RecipeFile = None,
    set_: o.Settings = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Build MIXTURE. Stopped and run again, it goes on from what was embedded and answered.

    Of a recipe, and of --set, the settings of embed, rate and llm count.
    """
    import os

    from lm_mixup.cli.console import err
    from lm_mixup.collaborators import Edge, make_embedder
    from lm_mixup.embed.cached import CachedEmbedder, vector_schema
    from lm_mixup.ledger import Ledger
    from lm_mixup.mixture.build import Builder, save
    from lm_mixup.mixture.build import Settings as BuildSettings
    from lm_mixup.mixture.by_llm import LLMDegrader, LLMWriter
    from lm_mixup.mixture.card import write_card
    from lm_mixup.mixture.collect import Collector
    from lm_mixup.mixture.cross_topic import CrossTopic
    from lm_mixup.mixture.degrade import WEIGHTS, RuleDegrader
    from lm_mixup.mixture.noise import RATES, Noise
    from lm_mixup.mixture.rate import Line
    from lm_mixup.mixture.write import ExtractiveWriter
    from lm_mixup.store import Store

    rules = RuleDegrader(
        seed=seed,
        mean_variants=variants,
        coverage=coverage,
        weights=_changed(WEIGHTS, weights, "--weight", most=math.inf),
        noise=Noise(_changed(RATES, noise, "--noise", most=1.0)),
    )
    resolved = o.recipe_from(
        recipe,
        set_,
        llm__model=llm,
        llm__max_usd=max_usd,
        llm__max_tokens=max_tokens,
        llm__max_requests=max_requests,
    )
    edge = Edge.of(os.environ)
    settings = BuildSettings(seed=seed, rated_variants=_how_many(rate_variants))
    asks = writer is WriterName.LLM or degrader is DegraderName.LLM or resolved.rate.rater == "judge"
    out.mkdir(parents=True, exist_ok=True)
    inner = make_embedder(resolved, edge)
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in inner.key)
    embedder = CachedEmbedder(inner, Store(out / "store" / f"vectors-{name}", vector_schema(inner.dim)))
    ledger = Ledger(out / "ledger.sqlite") if asks else None
    try:
        model = _connect(resolved, edge, ledger) if ledger is not None else None
        builder = Builder(
            embedder=embedder,
            rater=_rater(resolved, embedder, model),
            writer=LLMWriter(model) if model and writer is WriterName.LLM else ExtractiveWriter(),
            degrader=LLMDegrader(model, rules, seed=seed) if model and degrader is DegraderName.LLM else rules,
            collector=Collector(languages=() if languages == "any" else languages.split(",")),
            cross_topic=CrossTopic(seed=seed),
            line=Line(line, drop_share),
            benchmarks=benchmarks,
            settings=settings,
            progress=(lambda _: None) if quiet else lambda told: err.print(told, markup=False, soft_wrap=True),
        )
        built = save(builder.build(list(sources), limit=limit), builder.description(), out, layout=str(layout))
    finally:
        if ledger is not None:
            ledger.close()
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    write_card(out, built.rows(), manifest)
    if as_json:
        print(json.dumps({"out": str(out), "embed_seconds": round(embedder.seconds, 1), **manifest}))
    else:
        print(f"{len(built):,} rows in {out}; its card: {out / 'README.md'}")


def stats(
    folder: Annotated[str, typer.Argument(help="A folder of MIXTURE in any layout, or a hub id.")],
    as_json: o.AsJson = False,
) -> None:
    """Print the figures."""
    import os

    from lm_mixup.mixture.card import text
    from lm_mixup.mixture.load import load_mixture
    from lm_mixup.mixture.stats import describe

    found = describe(load_mixture(folder, endpoint=os.environ.get("HF_ENDPOINT")))
    if as_json:
        print(json.dumps(found))
        return
    print(text(found, _manifest(Path(folder))).partition("\n---\n")[2].strip())


def load(
    where: Annotated[str, typer.Argument(metavar="PATH_OR_HUB_ID", help="A folder in any layout, or a hub id.")],
    out: Out,
    as_json: o.AsJson = False,
) -> None:
    """Read MIXTURE and write it in our layout."""
    import os

    from lm_mixup.files import write_bytes
    from lm_mixup.mixture.card import write_card
    from lm_mixup.mixture.load import load_mixture
    from lm_mixup.mixture.rows import SPLITS, write_parquet

    rows = load_mixture(where, endpoint=os.environ.get("HF_ENDPOINT"))
    counts = {s: write_parquet(out / f"{s}.parquet", [r for r in rows if r.split == s]) for s in SPLITS}
    manifest = {"version": "", "layout": "ours", "loaded_from": where, "steps": [], "rows": counts}
    write_bytes(out / "manifest.json", json.dumps(manifest, indent=2).encode())
    write_card(out, rows, manifest)
    if as_json:
        print(json.dumps({"out": str(out), "rows": counts}))
    else:
        print(f"{len(rows):,} rows in {out}: " + ", ".join(f"{s} {n:,}" for s, n in counts.items()))


def push(
    folder: Annotated[Path, typer.Argument(help="A built MIXTURE.")],
    repository: Annotated[str, typer.Argument(metavar="NAME/NAME", help="The data set on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
) -> None:
    """Upload to the hub; the token is HF_TOKEN, or that of the hub's own login."""
    import os

    from lm_mixup.mixture.push import push as upload

    token, endpoint = os.environ.get("HF_TOKEN"), os.environ.get("HF_ENDPOINT")
    print(upload(folder, repository, private=not public, token=token, endpoint=endpoint))


def _changed(defaults: Mapping[str, float], given: list[str] | None, option: str, *, most: float) -> dict[str, float]:
    """The defaults with what ``NAME=NUMBER`` says in their place."""
    from lm_mixup.errors import InputError

    out = dict(defaults)
    for said in given or []:
        name, _, number = said.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name not in defaults or not 0 <= value <= most:
            top = "" if math.isinf(most) else f" to {most:g}"
            raise InputError(f"{option} {said}: expected a number from 0{top} for one of {', '.join(defaults)}")
        out[name] = value
    return out


def _how_many(said: str) -> int | None:
    from lm_mixup.errors import InputError

    if said == "all":
        return None
    if not said.isdecimal():
        raise InputError(f"--rate-variants: expected a whole number or all, got {said!r}")
    return int(said)


def _connect(recipe: Recipe, edge: Edge, ledger: Ledger) -> LLM:
    from lm_mixup.errors import InputError
    from lm_mixup.ledger import Budget
    from lm_mixup.llm.connect import FORMS, connect

    settings = recipe.llm
    if settings.model is None:
        raise InputError(f"--writer llm, --degrader llm and a judge need --llm: {FORMS}")
    return connect(
        settings.model,
        api_key=edge.api_key(),
        ledger=ledger,
        cache_dir=edge.cache_dir,
        concurrency=settings.concurrency,
        timeout_s=settings.timeout_s,
        max_attempts=settings.max_attempts,
        batch_size=settings.batch_size,
        context_tokens=settings.context_tokens,
        budget=Budget(settings.max_usd, settings.max_tokens, settings.max_requests),
        price_in=settings.price_in,
        price_out=settings.price_out,
    )


def _rater(recipe: Recipe, embedder: CachedEmbedder, model: LLM | None) -> Rater:
    from lm_mixup.errors import InputError

    settings = recipe.rate
    if settings.rater == "judge" and model is not None:
        from lm_mixup.raters.judge import LLMJudge

        return LLMJudge(model, temperature=settings.temperature, draws=settings.draws, expected=settings.expected)
    if settings.rater != "learned":
        raise InputError(f"rate.rater: expected learned or judge for mixture build, got {settings.rater}")
    from lm_mixup.raters.learned import LearnedRater

    weights = Path(settings.weights) if settings.weights else None
    return LearnedRater(embedder=embedder, head=settings.head, weights=weights)


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / "manifest.json"
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
