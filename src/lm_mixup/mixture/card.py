"""The data set card: what a built MIXTURE is, in words, tables and figures. It opens on the hub as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_mixup.files import write_bytes
from lm_mixup.mixture.figures import bars
from lm_mixup.mixture.rows import SPLITS, Row
from lm_mixup.mixture.stats import LENGTH_EDGES, TYPES, describe


def write_card(folder: Path, rows: Iterable[Row], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``README.md`` and ``figures/*.svg`` into ``folder``; returns the statistics that they show."""
    stats = describe(rows)
    for name, drawing in drawings(stats).items():
        write_bytes(folder / "figures" / f"{name}.svg", drawing.encode())
    write_bytes(folder / "README.md", text(stats, manifest).encode())
    return stats


def drawings(stats: Mapping[str, Any]) -> dict[str, str]:
    """The figures by name, as SVG."""
    out = {}
    balance = {s: [stats["by_type_and_split"][t][s] for t in TYPES] for s in SPLITS}
    out["types"] = bars("Rows by task type and split", TYPES, balance)
    counts = range(2, 21)
    of = [stats["rows_by_variants"].get(str(n), 0) for n in counts]
    out["variants"] = bars("Rows by number of variants", [str(n) for n in counts], {"rows": of})
    labels = [*(f"<{edge}" for edge in LENGTH_EDGES), f"≥{LENGTH_EDGES[-1]}"]
    out["lengths"] = bars("Rows by words of the output", labels, {"rows": stats["rows_by_output_words"]})
    ratings = stats["ratings"]
    if ratings:
        targets = [sum(ratings[t]["targets"][c] for t in ratings) / len(ratings) for c in range(6)]
        with_variants = [t for t in ratings if ratings[t]["variants"]]
        variants = [
            sum(ratings[t]["variants"][c] for t in with_variants) / max(1, len(with_variants)) for c in range(6)
        ]
        series = {"variants (before)": variants, "targets (after)": targets}
        out["ratings"] = bars(
            "Rating classes, mean of the task types", [str(c) for c in range(6)], series, percent=True
        )
    overlap = [stats["overlap"].get(t, 0.0) for t in TYPES]
    held = [stats["coverage"].get(t, {}).get("mean", 0.0) for t in TYPES]
    series = {"words in common": overlap, "facts held": held}
    out["overlap"] = bars("Variants: words two have in common, facts all hold", TYPES, series, percent=True)
    return out


def text(stats: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """The card as Markdown, with the front matter that the hub reads."""
    parts = [
        "---\ntask_categories:\n- text-generation\ntags:\n- instruction-distillation\n- lm-mixup\n"
        + _configs(manifest)
        + "---",
        "# MIXTURE: poor variants in, one good sample out",
        f"{stats['rows']:,} rows with {stats['variants']:,} variants, built by lm-mixup {manifest.get('version', '')}. "
        "Each row maps the poor variants of a sample to the sample itself, in one of five task types: question "
        "answering (`qa`), multiple choice (`mcq`), true or false (`tfq`), category and statement (`cs`), "
        "paragraph (`para`).",
        "The texts come from the sources named below and stay under their licences: name them here before you publish.",
        "## Rows",
        _table(
            ["type", *SPLITS, "in the GRPO subset", "variants, mean", "output words, median", "input words, median"],
            [
                [
                    t,
                    *(f"{stats['by_type_and_split'][t][s]:,}" for s in SPLITS),
                    f"{stats['in_grpo_subset'][t]:,}",
                    *(f"{stats[name].get(t, {}).get(key, 0):.1f}" for name, key in _LENGTHS),
                ]
                for t in TYPES
            ],
        ),
        "![types](figures/types.svg)\n![variants](figures/variants.svg)\n![lengths](figures/lengths.svg)",
        "## Where every record went",
        _table(
            ["step", "in", "kept", "dropped"],
            [[s["step"], f"{s['in']:,} {s['unit']}", f"{s['kept']:,}", _losses(s)] for s in manifest.get("steps", [])],
        ),
        f"Groups (articles) that stand in two splits: {stats['shared_groups']}.",
        "## Ratings",
        "Share of each class 0–5, as the rater sees it. Before: the variants. After: the targets.",
        _table(
            ["type", *(f"before {c}" for c in range(6)), *(f"after {c}" for c in range(6))],
            [[t, *_shares(r["variants"]), *_shares(r["targets"])] for t, r in stats["ratings"].items()],
        ),
        "![ratings](figures/ratings.svg)" if stats["ratings"] else "",
        *_line(manifest),
        "### Rated below its target, by degrader",
        "Share of the variants with this one degrader that are rated below their target; in brackets the share rated "
        "below the mean of the five targets of the type that are nearest to the variant in length.",
        _table(
            ["degrader", *TYPES],
            [[name, *(_below(found.get(t)) for t in TYPES)] for name, found in stats["rated_below_target"].items()],
        ),
        "## What the variants hold",
        _table(
            ["type", "facts held, mean", "rows ≥ 0.9", "words two variants have in common"],
            [
                [
                    t,
                    f"{c['mean']:.3f}",
                    f"{100 * c['share_at_least_0.9']:.1f} %",
                    f"{100 * stats['overlap'].get(t, 0):.0f} %",
                ]
                for t, c in stats["coverage"].items()
            ],
        ),
        "![overlap](figures/overlap.svg)",
        "## Columns",
        "`id`, `task_type`, `instruction`, `input` (the variants joined by blank lines), `variants`, `output`, "
        "`cot` (how the output comes about, from the construction), `source`, `group` (the article: the unit of the "
        "split), `split`, `rating` and `variant_ratings` (0–5; empty where nobody rated), `degraders` and `noise` "
        "(for each variant), `coverage`, `in_subset` (of the rows for GRPO: whether it is among those trained on).",
        "## Sources",
        _table(["source", "rows"], [[name, f"{count:,}"] for name, count in stats["sources"].items()]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(manifest: Mapping[str, Any]) -> list[str]:
    """Which line the targets had to pass, and how many would pass which."""
    lines, line = manifest.get("lines"), manifest.get("line")
    if not lines or not line:
        return []
    said = [] if line["at_least"] is None else [f"rated at least {line['at_least']:g}"]
    if line["drop_share"]:
        said.append(f"not among the worst-rated {100 * line['drop_share']:g} % of its type")
    names = [name for name in next(iter(lines.values())) if name != "targets"]
    return [
        "### Which line",
        f"A target was kept if it was {' and '.join(said) or 'rated at all'}. How many reach which rating:",
        _table(
            ["type", "targets", *(f"≥ {name.removeprefix('at_least_')}" for name in names)],
            [[t, f"{found['targets']:,}", *(f"{found[name]:,}" for name in names)] for t, found in lines.items()],
        ),
    ]


_LENGTHS = (("variants_per_target", "mean"), ("output_words", "median"), ("input_words", "median"))


def _configs(manifest: Mapping[str, Any]) -> str:
    if manifest.get("layout") == "authors":
        return ""
    files = "".join(f"  - split: {split}\n    path: {split}.parquet\n" for split in SPLITS)
    return f"configs:\n- config_name: default\n  data_files:\n{files}"


def _losses(step: Mapping[str, Any]) -> str:
    lost = [f"{count:,} {reason}" for reason, count in step["dropped"].items()]
    return ", ".join(lost + ([f"{step['failed']:,} failed"] if step["failed"] else [])) or "–"


def _shares(shares: Sequence[float]) -> list[str]:
    return [f"{100 * share:.0f} %" for share in shares] if shares else ["–"] * 6


def _below(found: Mapping[str, float] | None) -> str:
    if not found:
        return "–"
    return f"{100 * found['below']:.0f} % ({100 * found['length_matched']:.0f} %), n={found['variants']}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: str) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
