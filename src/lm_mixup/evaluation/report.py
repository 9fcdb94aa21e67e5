"""An evaluation as files: ``results.json`` and ``rows.parquet`` for programs, ``table.md`` for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from lm_mixup import __version__
from lm_mixup.evaluation import measures as m
from lm_mixup.evaluation.bootstrap import MACRO, ROWS, Figure, as_json
from lm_mixup.evaluation.mixture import LIKE_LENGTH, LIKE_LENGTH_RATING, PREFERRED, Evaluation
from lm_mixup.files import replacing, write_bytes
from lm_mixup.records import TaskType

TABLE, RESULTS, ROWS_FILE = "table.md", "results.json", "rows.parquet"

_COMPARED = (
    m.RATING, m.RATING_AT_LENGTH, m.ALIGNMENT, "coverage", "reference_coverage", "grounding", "rouge_l", "surplus",
)  # fmt: skip
"""What is given with intervals, and for pairs."""
_BY_TYPE = ("format", *_COMPARED)


def write(found: Evaluation, folder: Path, about: Mapping[str, Any]) -> None:
    """Write the three files into ``folder``. ``about``: what was evaluated on, as JSON-able values by name."""
    with replacing(folder / ROWS_FILE) as temporary:
        pq.write_table(rows_table(found), temporary, compression="zstd")
    write_bytes(folder / TABLE, table(found, about).encode())
    told = orjson.dumps(results(found, about), option=orjson.OPT_INDENT_2)
    write_bytes(folder / RESULTS, told + b"\n")


def results(found: Evaluation, about: Mapping[str, Any]) -> dict[str, Any]:
    """Every figure, JSON-able: the same answers and ratings give the same bytes."""
    return {
        "lm_mixup": __version__,
        "about": dict(about),
        "rows": {
            "count": len(found.rows.rows),
            "groups": len(set(found.rows.groups)),
            "types": types_of(found),
            "groups_by_type": _articles(found),
            "digest": found.rows.digest,
            "left_out": found.rows.left_out,
        },
        "judges": dict(found.judges),
        "rater_of_variants": found.rater,
        "embedder": found.embedder,
        "bootstrap": {"unit": "group", "resamples": found.resamples, "seed": found.seed, "level": 0.95},
        "length": {"slopes": {kind: round(slope, 4) for kind, slope in found.slopes.items()}},
        "distillers": {
            name: {
                "key": found.keys[name],
                "without_answer_or_rating": dict(found.reasons[name]),
                "figures": {measure: as_json(figures) for measure, figures in found.figures[name].items()},
            }
            for name in found.entrants
        },
        "differences": [
            {
                "first": pair.first,
                "second": pair.second,
                "figures": {measure: as_json(figures) for measure, figures in pair.differences.items()},
            }
            for pair in found.pairs
        ],
    }


def rows_table(found: Evaluation) -> pa.Table:
    """One record an entrant and row: the answer, or why there is none, and every measure."""
    rows = found.rows.rows
    said = [answer for name in found.entrants for answer in found.answers[name]]
    columns: dict[str, pa.Array] = {
        "distiller": pa.array([name for name in found.entrants for _ in rows], pa.string()),
        "id": pa.array([row.id for row in rows] * len(found.entrants), pa.string()),
        "task_type": pa.array([row.task_type for row in rows] * len(found.entrants), pa.string()),
        "group": pa.array(list(found.rows.groups) * len(found.entrants), pa.string()),
        "answer": pa.array([answer.text for answer in said], pa.string()),
        "said": pa.array([answer.said for answer in said], pa.string()),
        "reason": pa.array([answer.reason or None for answer in said], pa.string()),
        "detail": pa.array([answer.detail or None for answer in said], pa.string()),
    }
    measured = {name: pa.array(values.ravel(), pa.float64(), from_pandas=True) for name, values in found.values.items()}
    return pa.table({**columns, **measured})


def table(found: Evaluation, about: Mapping[str, Any]) -> str:
    """The tables, as Markdown."""
    rows = found.rows
    told = [f"- {name}: {value}" for name, value in about.items()]
    told += [
        f"- rows: {len(rows.rows):,} of {len(set(rows.groups)):,} articles "
        f"({', '.join(f'{kind} {count:,} of {_articles(found)[kind]:,}' for kind, count in types_of(found).items())}); "
        f"digest {rows.digest}",
        f"- left out: {', '.join(f'{count:,} {why}' for why, count in rows.left_out.items()) or 'none'}",
        f"- judge: {found.judge} (`{found.judges[found.judge]}`)",
        *(f"- further judge: {name} (`{key}`)" for name, key in found.judges.items() if name != found.judge),
        f"- variants rated by: `{found.rater}`",
        f"- intervals: 95 %, {found.resamples:,} draws of articles with all their rows, seed {found.seed}",
    ]
    more = [name for name in found.values if name not in m.MEASURES]
    parts = [
        "# Evaluation on MIXTURE",
        "\n".join(told),
        "## Over all rows",
        _main(found, ROWS, more),
        "## Mean of the types' means",
        _main(found, MACRO, more),
        "## By type",
        *(f"**{_head(name)}**\n\n{_by_type(found, name)}" for name in [*_BY_TYPE, *more]),
        "## Differences",
        "First less second, over the rows that both answered; bold where the interval leaves out 0. *preferred*: the "
        "share of rows where the first is rated higher less that where the second is. *rating, like length*: over the "
        f"rows where the two answers differ by at most {100 * LIKE_LENGTH:.0f} % in words.",
        _differences(found, ROWS, more),
        "Mean of the types' means:",
        _differences(found, MACRO, more),
        "## What the figures are",
        "\n".join(f"- **{measure.head}**: {measure.meaning}" for measure in m.MEASURES.values()),
        "What the judge gives for length (points for each e-fold of words, within one distiller's answers): "
        + ", ".join(f"{kind} {slope:+.2f}" for kind, slope in found.slopes.items()),
        "## Without an answer, or without a rating",
        _reasons(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def types_of(found: Evaluation) -> dict[str, int]:
    """How many rows there are of each task type, in the order of the types."""
    counts = Counter(row.task_type for row in found.rows.rows)
    return {str(kind): counts[kind] for kind in TaskType if counts[kind]}


def _head(measure: str) -> str:
    known = m.MEASURES.get(measure)
    return known.head if known else measure.replace(f"{m.RATING}:", "rating by ")


def _decimals(measure: str) -> int:
    return m.MEASURES[measure].decimals if measure in m.MEASURES else m.MEASURES[m.RATING].decimals


def shown(figure: Figure, decimals: int, *, interval: bool = True, sign: bool = False) -> str:
    """A figure as text, a dash where there is none."""
    if math.isnan(figure.value):
        return "–"
    form = f"{'+' if sign else ''}.{decimals}f"
    value = f"{figure.value:{form}}"
    if not interval or math.isnan(figure.low):
        return value
    return f"{value} [{figure.low:{form}}, {figure.high:{form}}]"


def _main(found: Evaluation, scope: str, more: Sequence[str]) -> str:
    names = [name for name in m.MEASURES if name != m.FAILED]
    names[1:1] = more
    heads = ["distiller", "answered", *(_head(name) for name in names)]
    lines = []
    for entrant in found.entrants:
        figures = found.figures[entrant]
        answered = sum(answer.text is not None for answer in found.answers[entrant])
        cells = [
            shown(figures[name][scope], _decimals(name), interval=name in _COMPARED or name in more)
            + (
                f" of {figures[name][scope].rows:,}"
                if _is_rating(name) and figures[name][scope].rows < answered
                else ""
            )
            for name in names
        ]
        lines.append([entrant, f"{answered:,} of {len(found.rows.rows):,}", *cells])
    return markdown(heads, lines)


def _is_rating(measure: str) -> bool:
    """Whether a measure lacks the answers that the judge could not rate."""
    return measure == m.RATING_AT_LENGTH or measure.partition(":")[0] == m.RATING


def _by_type(found: Evaluation, measure: str) -> str:
    kinds = types_of(found)
    lines = []
    for entrant in found.entrants:
        figures = found.figures[entrant][measure]
        cells = [
            shown(figures[kind], _decimals(measure))
            + (f" of {figures[kind].rows:,}" if figures[kind].rows < rows else "")
            for kind, rows in kinds.items()
        ]
        lines.append([entrant, *cells])
    return markdown(["distiller", *(f"{kind} ({rows:,})" for kind, rows in kinds.items())], lines)


def _articles(found: Evaluation) -> dict[str, int]:
    """How many articles the rows of each type are of."""
    by_type: dict[str, set[str]] = {}
    for row, group in zip(found.rows.rows, found.rows.groups, strict=True):
        by_type.setdefault(row.task_type, set()).add(group)
    return {kind: len(by_type[kind]) for kind in types_of(found)}


def _differences(found: Evaluation, scope: str, more: Sequence[str]) -> str:
    if not found.pairs:
        return ""
    heads = ["first − second", "rows", _head(m.RATING), "preferred", "rating, like length"]
    others = [*more, *_COMPARED[1:]]
    lines = []
    for pair in found.pairs:
        told = {name: figures[scope] for name, figures in pair.differences.items()}
        like = told[LIKE_LENGTH_RATING]
        lines.append(
            [
                f"{pair.first} − {pair.second}",
                f"{told[m.RATING].rows:,}",
                _difference(told[m.RATING], 2),
                _difference(told[PREFERRED], 2),
                f"{_difference(like, 2)}, n={like.rows:,}",
                *(_difference(told[name], _decimals(name)) for name in others),
            ]
        )
    return markdown([*heads, *map(_head, others)], lines)


def _difference(figure: Figure, decimals: int) -> str:
    told = shown(figure, decimals, sign=True)
    return f"**{told}**" if figure.low > 0 or figure.high < 0 else told


def _reasons(found: Evaluation) -> str:
    lines = [
        [name, why, f"{count:,}"] for name in found.entrants for why, count in found.reasons[name].items() if count
    ]
    return markdown(["distiller", "reason", "rows"], lines) if lines else "None."


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown. Bars in cells are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(heads), "|" + "---|" * len(heads), *map(line, lines)])
