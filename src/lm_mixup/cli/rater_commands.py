"""Commands on raters: train one, compare some, read a card, build a rated library."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_mixup.cli import options as o
from lm_mixup.cli import rater_tables as tables

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lm_mixup.embed.cached import CachedEmbedder
    from lm_mixup.pool.ratings import Ratings
    from lm_mixup.pool.table import PoolTable
    from lm_mixup.ports import Rater
    from lm_mixup.recipe import Recipe
    from lm_mixup.run_folder import Run

Pools = Annotated[list[str], typer.Argument(metavar="POOL...", help="Pools that hold the rated rows.")]
MaybePools = Annotated[
    list[str] | None, typer.Argument(metavar="[POOL...]", help="Pools of the rows: for lengths and live raters.")
]
Files = Annotated[list[Path] | None, typer.Option("--ratings", help="Ratings: id and one column a rater. Repeatable.")]
Names = Annotated[list[str] | None, typer.Option("--rater", help="Only this column. Repeatable.")]


DAMAGE_MAY_COST = 0.01
"""Of a head's rank correlation with the ratings that it learned from: above, trained weights get no damage model."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rater = typer.Typer(help="Train, compare and read up on raters.", no_args_is_help=True)
    rater.command("train", help="Train a learned rater on your own ratings, a head for each rater.")(train)
    rater.command("compare", help="What raters' ratings of the same rows say about each other, and about length.")(
        compare
    )
    rater.command("card", help="How a trained rater, a cascade or a rated library was made, and how good it is.")(card)
    app.add_typer(rater, name="rater")
    library = typer.Typer(help="Rated libraries, for KNN-Bayes ratings.", no_args_is_help=True)
    library.command("build", help="Embed rated rows and count how ratings of near rows go together.")(build)
    app.add_typer(library, name="library")


@dataclass(frozen=True)
class _Desk:
    """A pool that was read, and who embeds its rows."""

    run: Run
    recipe: Recipe
    pool: PoolTable
    embedder: CachedEmbedder

    def ids(self) -> dict[str, int]:
        """Row number by id."""
        return {id_: row for row, id_ in enumerate(self.pool.column("id").to_pylist())}


@contextmanager
def _desk(pools: list[str], work: Path, recipe: Recipe, quiet: bool) -> Iterator[_Desk]:
    """Read the pools into ``work``, where vectors are kept until the folder is removed."""
    import os

    from lm_mixup.cli import console
    from lm_mixup.collaborators import Edge, make_embedder
    from lm_mixup.embed.cached import CachedEmbedder, vector_schema
    from lm_mixup.ingest import ingest
    from lm_mixup.pool.table import PoolTable
    from lm_mixup.run_folder import Run, write_recipe

    with Run(work) as held, console.Watch(quiet=quiet) as watch:
        write_recipe(work, recipe)
        watch.start("pool", None, "rows")
        manifest, cached = ingest(held, pools, recipe.pool, None, lambda n: watch.advance("pool", n))
        watch.finish("pool", manifest, cached=cached)
        inner = make_embedder(recipe, Edge.of(os.environ, watch.download))
        embedder = CachedEmbedder(inner, held.store("vectors", inner.key, vector_schema(inner.dim)))
        yield _Desk(held, recipe, PoolTable(held.records("pool")), embedder)


def _work(output: Path) -> Path:
    return output.with_name(output.name + ".work")


def _read(files: list[Path] | None, names: list[str] | None) -> list[Ratings]:
    """The ratings of all files; ``names`` may be spread over them. An unknown name is an error."""
    from lm_mixup.errors import RatingsError
    from lm_mixup.pool.ratings import read_all_ratings

    read = [read_all_ratings(path) for path in files or []]
    there = [rater for ratings in read for rater in ratings.raters]
    doubled = sorted({rater for rater in there if there.count(rater) > 1})
    if doubled:
        raise RatingsError(f"several files have a column {doubled[0]!r}; rename one, so that a name means one rater")
    for name in names or []:
        if name not in there:
            raise RatingsError(f"no rater {name!r}; the files have: {', '.join(there) or 'none'}")
    return read


def _by_rater(
    read: list[Ratings], names: list[str] | None, ids: Mapping[str, int]
) -> dict[str, npt.NDArray[np.float64]]:
    """Rater → (rows,) ratings, NaN where there is none; rows are numbered by ``ids``."""
    import numpy as np

    out = {}
    for ratings in read:
        for column, rater in enumerate(ratings.raters):
            if names and rater not in names:
                continue
            values = np.full(len(ids), np.nan)
            for id_, value in zip(ratings.ids, ratings.values[:, column].tolist(), strict=True):
                if id_ in ids:
                    values[ids[id_]] = value
            out[rater] = values
    return out


def _carried(desk: _Desk) -> dict[str, npt.NDArray[np.float64]]:
    """The ratings that the pool itself carries (pool.rating_column), as a rater called pool."""
    import numpy as np

    values = np.array([math.nan if v is None else v for v in desk.pool.column("rating").to_pylist()], dtype=np.float64)
    return {"pool": values} if np.isfinite(values).any() else {}


def train(
    pools: Pools,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="WEIGHTS.npz", help="Weights; the card beside it.")],
    ratings: Files = None,
    rater: Names = None,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a learned rater on your own ratings; several raters get a head each, and one for their mean."""
    import shutil
    from functools import partial

    import numpy as np

    from lm_mixup import __version__
    from lm_mixup.errors import InputError, RatingsError
    from lm_mixup.files import file_digest
    from lm_mixup.raters import training
    from lm_mixup.raters.features import matrix
    from lm_mixup.raters.learned import SHIPPED, Weights

    if output.suffix != ".npz":
        raise InputError(f"--output {output}: expected a name that ends in .npz; the card is written beside it (.json)")
    read = _read(ratings, rater)
    resolved = o.recipe_from(recipe, settings, columns=columns, limit=limit)
    with _desk(pools, _work(output), resolved, quiet) as desk:
        by_rater = _by_rater(read, rater, desk.ids()) | _carried(desk)
        if not by_rater:
            raise RatingsError("no ratings: give --ratings FILE, or --set pool.rating_column=NAME")
        if len(by_rater) > 1 and "mean" not in by_rater:
            by_rater["mean"] = np.mean(list(by_rater.values()), axis=0)
        rated: npt.NDArray[np.bool_] = np.any(np.isfinite(np.stack(list(by_rater.values()))), axis=0)
        if not rated.any():
            raise RatingsError(f"none of the rated ids is a row of {', '.join(pools)}; are the ids the pool's?")
        vectors, features, start = [], [], 0
        for samples in desk.pool.batches():
            chosen = [s for s, keep in zip(samples, rated[start : start + len(samples)], strict=True) if keep]
            start += len(samples)
            if chosen:
                vectors.append(desk.embedder.embed([s.text for s in chosen]))
                features.append(matrix(chosen))
        card = {
            "lm_mixup": __version__,
            "pools": [Path(pool).name for pool in pools],
            "ratings": {path.name: file_digest(path) for path in ratings or []},
            "rated_rows": int(rated.sum()),
            "seed": seed,
        }
        learn = partial(
            training.train,
            np.concatenate(vectors),
            np.concatenate(features),
            {name: values[rated] for name, values in by_rater.items()},
            embedders=[desk.embedder.key],
            settings=training.Settings(seed=seed),
        )
        # signs of damage are the same whoever rates and whatever embeds; ratings that say otherwise are believed
        shipped = Weights.load(SHIPPED).damage
        weights, reports = learn(damage=shipped)
        costs = max(report.merit_alone - report.spearman.value for report in reports.values())
        card |= {"damage_model": f"shipped; it costs at most {max(0.0, costs):.3f} of Spearman here"}
        if costs > DAMAGE_MAY_COST:
            weights, reports = learn(damage=None)
            card |= {"damage_model": f"none; the shipped one would cost {costs:.3f} of Spearman here"}
    told = {name: tables.head_figures(report) for name, report in reports.items()}
    Weights(weights.embedders, weights.heads, weights.damage, {**card, "heads": told}).save(output)
    shutil.rmtree(_work(output))
    if as_json:
        print(json.dumps({"weights": str(output), "digest": weights.digest(), **card, "heads": told}))
        return
    tables.print_heads(told)
    print(f"damage model: {card['damage_model']}")
    print(f"wrote {output} and {output.with_suffix('.json')}")


def build(
    pools: Pools,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="LIBRARY", help="A folder for the library.")],
    ratings: Files = None,
    rater: Annotated[str | None, typer.Option("--rater", help="Whose ratings, where several are given.")] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only this task type: qa, mcq, tfq, cs, para. Repeatable.")
    ] = None,
    neighbors: Annotated[int, typer.Option(min=1, help="k: how many rated rows vote on a query.")] = 16,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Build a rated library: one shelf a task type."""
    import shutil

    import numpy as np

    from lm_mixup.errors import InputError, RatingsError
    from lm_mixup.raters import library
    from lm_mixup.records import TaskType

    unknown = sorted(set(types or []) - {str(t) for t in TaskType})
    if unknown:
        raise InputError(f"--type {unknown[0]}: no such task type; there are {', '.join(TaskType)}")
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / "library.json").is_file())):
        raise InputError(f"--output {output}: holds something else than a rated library; give a new folder")
    read = _read(ratings, [rater] if rater else None)
    resolved = o.recipe_from(recipe, settings, columns=columns, limit=limit)
    with _desk(pools, _work(output), resolved, quiet) as desk:
        by_rater = _by_rater(read, [rater] if rater else None, desk.ids())
        by_rater = by_rater or _carried(desk)
        if len(by_rater) != 1:
            raise RatingsError(
                f"expected one rater's ratings, got {', '.join(by_rater) or 'none'}; give --ratings FILE and --rater"
            )
        ((name, values),) = by_rater.items()
        kinds = np.array(desk.pool.column("task_type").to_pylist())
        chosen = np.flatnonzero(np.isfinite(values) & (np.isin(kinds, types) if types else True))
        samples = desk.pool.rows(chosen)
        made = library.build(
            samples,
            values[chosen].tolist(),
            desk.embedder.embed([sample.text for sample in samples]),
            embedder=desk.embedder.key,
            rater=name,
            settings=library.LibrarySettings(neighbors=neighbors),
        )
    made.save(output)
    shutil.rmtree(_work(output))
    told = json.loads((output / "library.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps({"library": str(output), **told}))
        return
    tables.print_library(told)
    print(f"wrote {output}")


def card(
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="Weights (.npz), a cascade's or a library's folder.")
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Show a card; without a path, that of the shipped weights."""
    from lm_mixup.cli import console
    from lm_mixup.raters.learned import SHIPPED, Weights
    from lm_mixup.raters.library import RatedLibrary

    path = path or SHIPPED
    if (path / "library.json").is_file():
        RatedLibrary.load(path)  # a damaged library has no card
        told = json.loads((path / "library.json").read_text(encoding="utf-8"))
        if as_json:
            print(json.dumps(told))
        else:
            tables.print_library(told)
        return
    path = path / "head.npz" if path.is_dir() else path
    weights = Weights.load(path)
    told = {
        "weights": path.name,
        "digest": weights.digest(),
        "embedders": list(weights.embedders),
        "heads": list(weights.heads),
        "damage_model": weights.damage is not None,
        "card": dict(weights.card),
    }
    if as_json:
        print(json.dumps(told))
        return
    import yaml

    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110)
    console.out.print(text, markup=False, end="")


def compare(
    pools: MaybePools = None,
    ratings: Files = None,
    rater: Names = None,
    live: Annotated[
        list[str] | None,
        typer.Option(
            "--live",
            metavar="SPEC",
            help="A rater to ask: learned[:HEAD], weights:FILE[:HEAD], knn-bayes:FOLDER, "
            "cascade:FOLDER or judge:LLM. Repeatable.",
        ),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", metavar="OUT.svg", help="Also draw it.")] = None,
    work: Annotated[
        Path | None, typer.Option("--work", metavar="FOLDER", help="Keep vectors and LLM answers here, to go on.")
    ] = None,
    recipe: o.RecipeFile = None,
    settings: o.Settings = None,
    columns: o.Columns = None,
    limit: o.Limit = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare raters on the same rows. Columns NAME#1, NAME#2 … are draws of one rater."""
    import tempfile
    from contextlib import ExitStack

    from lm_mixup.errors import InputError
    from lm_mixup.raters import compare as comparing

    if live and not pools:
        raise InputError("--live needs the rows: name the POOL")
    if figure is not None and figure.suffix != ".svg":
        raise InputError(f"--figure {figure}: expected a name that ends in .svg")
    read = _read(ratings, rater)
    lengths = None
    draws: dict[str, npt.NDArray[np.float64]] = {}
    if pools:
        resolved = o.recipe_from(recipe, settings, columns=columns, limit=limit)
        with ExitStack() as stack:
            folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "work"
            desk = stack.enter_context(_desk(pools, folder, resolved, quiet))
            by_rater = _by_rater(read, rater, desk.ids()) | _carried(desk)
            lengths = _lengths(desk)
            for spec in live or []:
                values, repeated = _ask(_live(spec, desk), desk)
                by_rater[spec] = values
                draws |= {spec: repeated} if repeated is not None else {}
    else:
        ids = {id_: row for row, id_ in enumerate(dict.fromkeys(id_ for r in read for id_ in r.ids))}
        by_rater = _by_rater(read, rater, ids)
    if not by_rater:
        raise InputError("nothing to compare: give --ratings FILE, a pool with ratings, or --live SPEC")
    singles, from_columns = _split_draws(by_rater)
    found = comparing.compare(singles, lengths, draws=draws | from_columns, seed=seed)
    if figure is not None:
        from lm_mixup.raters.compare_figure import draw

        draw(found, figure)
    if as_json:
        print(json.dumps(comparing.as_json(found) | {"figure": str(figure) if figure else None}))
        return
    tables.print_comparison(found)
    if figure is not None:
        print(f"wrote {figure}")


def _split_draws(
    by_rater: Mapping[str, npt.NDArray[np.float64]],
) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, npt.NDArray[np.float64]]]:
    """Ratings by rater, the first draw where there are several; and the draws (rows, d) of those raters."""
    import numpy as np

    groups: dict[str, list[npt.NDArray[np.float64]]] = {}
    for name, values in by_rater.items():
        base, mark, number = name.rpartition("#")
        groups.setdefault(base if mark and number.isdigit() else name, []).append(values)
    singles = {name: columns[0] for name, columns in groups.items()}
    return singles, {name: np.stack(columns, axis=1) for name, columns in groups.items() if len(columns) > 1}


def _lengths(desk: _Desk) -> npt.NDArray[np.float64]:
    """(rows,) log(1 + words) of the completions."""
    import numpy as np

    from lm_mixup.raters.features import FEATURES, matrix

    column = list(FEATURES).index("completion_words")
    return np.concatenate([matrix(samples)[:, column] for samples in desk.pool.batches()])


def _live(spec: str, desk: _Desk) -> Rater:
    """The rater that a --live option names. Raises InputError for a spec that cannot be read."""
    import os

    from lm_mixup.errors import InputError

    kind, _, rest = spec.partition(":")
    if kind == "learned":
        from lm_mixup.raters.learned import LearnedRater

        return LearnedRater(embedder=desk.embedder, head=rest or "gpt-4o-mini")
    if kind == "weights" and rest:
        from lm_mixup.raters.learned import LearnedRater, Weights

        path, _, head = rest.partition(".npz:")
        file = Path(path if path.endswith(".npz") else f"{path}.npz")
        return LearnedRater(embedder=desk.embedder, head=head or next(iter(Weights.load(file).heads)), weights=file)
    if kind == "knn-bayes" and rest:
        from lm_mixup.raters.knn_bayes import KNNBayesRater
        from lm_mixup.raters.library import RatedLibrary

        return KNNBayesRater(RatedLibrary.load(Path(rest)), embedder=desk.embedder)
    if kind == "cascade" and rest:
        from lm_mixup.raters.cascade_rater import CascadeRater

        return CascadeRater.load(Path(rest), embedder=desk.embedder)
    if kind == "judge" and rest:
        from lm_mixup.collaborators import Edge, make_judge

        return make_judge(desk.recipe, desk.run, Edge.of(os.environ), rest)
    raise InputError(
        f"--live {spec}: expected learned[:HEAD], weights:FILE.npz[:HEAD], knn-bayes:FOLDER, cascade:FOLDER, judge:LLM"
    )


def _ask(rater: Rater, desk: _Desk) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    """(rows,) ratings, NaN for failures; and the draws (rows, d) where the rater's details hold them."""
    import numpy as np

    from lm_mixup.records import Rating

    values: list[float] = []
    drawn: list[list[float]] = []
    for samples in desk.pool.batches():
        for result in rater.rate(samples):
            values.append(result.value if isinstance(result, Rating) else math.nan)
            several = result.details.get("draws") if isinstance(result, Rating) else None
            drawn.append([float(v) for v in several] if isinstance(several, list | tuple) else [])
    most = max(map(len, drawn), default=0)
    table = np.array([row if len(row) == most else [math.nan] * most for row in drawn])
    return np.array(values), table if most > 1 else None
