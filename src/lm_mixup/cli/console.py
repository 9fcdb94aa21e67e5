"""What the terminal shows: progress, tables, messages. Standard output carries results, standard error the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lm_mixup.run_folder import Manifest

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "")


class Watch:
    """A progress bar for each step; plain lines where standard error is no terminal; nothing when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: dict[str, Any] = {}
        self._begun: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _Speed(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, step: str, total: int | None, unit: str) -> None:
        """Show a bar for the step; called again, it learns the total."""
        self._begun.setdefault(step, time.perf_counter())
        if step in self._bars:
            self._progress.update(self._bars[step], total=total)
        else:
            self._bars[step] = self._progress.add_task(step, total=total, unit=unit)

    def advance(self, step: str, count: int) -> None:
        """Move the step's bar."""
        if step in self._bars:
            self._progress.advance(self._bars[step], count)

    def finish(self, step: str, manifest: Manifest, *, cached: bool) -> None:
        """Replace the step's bar by one line."""
        if step in self._bars:
            self._progress.remove_task(self._bars.pop(step))
        if self._quiet:
            return
        lost = [f"{count:,} {reason}" for reason, count in manifest.dropped.items()]
        lost += [f"{manifest.failed:,} failed"] if manifest.failed else []
        speed = f", {manifest.in_ / manifest.seconds:,.0f}/s" if manifest.seconds >= 0.1 else ""
        took = "already done" if cached else f"{manifest.seconds:.1f} s{speed}"
        rest = f" ({', '.join(lost)})" if lost else ""
        err.print(f"{step:<8} {manifest.kept:,} of {manifest.in_:,} {manifest.unit}{rest} [dim]{took}[/dim]")

    def download(self, name: str, done: int, total: int) -> None:
        """Show the download of a model."""
        if done >= total:
            if name in self._bars:
                self._progress.remove_task(self._bars.pop(name))
                if not self._quiet:
                    err.print(f"fetched {escape(name)} ({total / 1e6:.0f} MB)")
            return
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(f"fetch {name}", total=total, unit="bytes")
        self._progress.update(self._bars[name], completed=done)


def stage_table(summary: Mapping[str, Any]) -> Table:
    """The stages of a run with their counts."""
    table = Table(title=None, header_style="bold")
    for name in ("stage", "in", "kept", "dropped", "failed", "seconds"):
        table.add_column(name, justify="left" if name in ("stage", "dropped") else "right")
    for name, stage in summary["stages"].items():
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in stage["dropped"].items())
        unit = f"{stage['in']:,} {stage['unit']}"
        table.add_row(name, unit, f"{stage['kept']:,}", dropped, f"{stage['failed']:,}", f"{stage['seconds']:.1f}")
    return table


def before_after_table(figures: Mapping[str, Mapping[str, float | int | None]]) -> Table:
    """The pool and the train set side by side."""
    before, after = figures["pool"], figures["train set"]
    table = Table(header_style="bold")
    for name in ("", "pool", "train set"):
        table.add_column(name, justify="right" if name else "left")
    for key, value in after.items():
        table.add_row(key.replace("_", " "), _figure(before.get(key)), _figure(value))
    return table


def show_story(story: Mapping[str, Any]) -> None:
    """A row of the train set, and the rows that it was made from. Sample text is never read as mark-up."""
    out.print(f"{story['id']} ({story['origin']}), rated {_figure(story['rating'])}", style="bold", markup=False)
    _conversation(story["messages"])
    if story.get("think"):
        out.print(story["think"], style="italic", markup=False)
    if story["origin"] == "original":
        source = story["sources"][0]
        out.print(f"from {source['pool']} line {source['line']}", markup=False)
        return
    for source in story["sources"]:
        used = "" if source["id"] in story["used_ids"] else ", not used"
        out.print(
            f"\nfrom {source['id']} ({source['pool']} line {source['line']}), rated {_figure(source['rating'])}{used}",
            style="bold",
            markup=False,
        )
        _conversation(source["messages"])


def _conversation(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        out.print(f"{message['role']}: {message['content']}", markup=False)


def _figure(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def fail(message: str) -> None:
    """Print an error."""
    print(f"lm-mixup: {message}", file=sys.stderr)
