"""A made-up MIXTURE of the project's own: rows of all types, several to an article; and quick collaborators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.evaluation.baselines import BestSource, Given
from lm_mixup.evaluation.entrants import Entrant
from lm_mixup.evaluation.mixture import Evaluation, evaluate, remembering
from lm_mixup.evaluation.rows import Selection, choose
from lm_mixup.mixture.rows import Row, make_row, write_parquet
from lm_mixup.ports import Rater
from lm_mixup.records import TaskType
from lm_mixup.run_folder import Run
from tests.fakes import LengthRater, WordEmbedder

TOPICS = ("harbor", "glacier", "violin", "bakery", "museum", "orchard")
TAILS = ("", " and its queen", " who wanted it built quickly but paid them late and badly")


def rows(split: str = "test") -> list[Row]:
    """One row of each type an article, six articles; each has two or three variants that lack something."""
    made = []
    for number, topic in enumerate(TOPICS):
        year = 1801 + number
        opened = f"The old {topic} opened in {year}."
        planned = f"Engineers from Bremen planned the {topic} for the king{TAILS[number % 3]}."
        visits = f"Some {number + 3} thousand people visit the {topic} each summer."
        question, choice = f"When did the old {topic} open?", f"Which year saw the {topic} open?"
        options = f"A) {year - 50}\nB) {year}\nC) {year + 60}\nD) {year + 90}"
        short = f"A) {year - 50}\nB) {year}"
        made += [
            _row("qa", f"Q: {question}\nA: {year}. {opened} {planned}", number, split,
                 [f"Q: {question}\nA: {year}. {opened}", f"Q: {question}\nA: {year}. {planned}"]),
            _row("mcq", f"Q: {choice}\n{options}\nAnswer: B) {year}", number, split,
                 [f"Q: {choice}\n{short}\nAnswer: B) {year}", f"Q: {choice}\n{options}\nAnswer: B) {year}",
                  f"Q: Which year?\n{short}\nAnswer: B) {year}"]),
            _row("tfq", f"{opened}\nAnswer: True\n{planned}", number, split,
                 [f"{opened}\nAnswer: True", f"{opened.lower()}\nAnswer: True\n{planned}"]),
            _row("cs", f"C: {topic.capitalize()}\nS: {opened} {visits}", number, split,
                 [f"C: {topic.capitalize()}\nS: {opened}", f"C: {topic}\nS: {visits}"]),
            _row("para", f"{opened} {planned} {visits}", number, split,
                 [f"{opened} {planned}", f"{planned} {visits}", f"{visits} {opened}"]),
        ]  # fmt: skip
    return made


def _row(name: str, output: str, number: int, split: str, variants: Sequence[str]) -> Row:
    return make_row(TaskType(name), variants, output, source="own", group=f"title:{TOPICS[number]}", split=split)


def write_mixture(folder: Path) -> Path:
    """The rows as a built MIXTURE."""
    write_parquet(folder / "test.parquet", rows())
    return folder


def baselines() -> list[Entrant]:
    """The three that need no model."""
    return [
        Entrant("extractive", ExtractiveDistiller()),
        Entrant("best-source", BestSource()),
        Entrant("reference", Given.references(rows())),
    ]


def evaluated(
    folder: Path,
    entrants: Sequence[Entrant],
    *,
    judge: Rater | None = None,
    rater: Rater | None = None,
    embedder: WordEmbedder | None = None,
    selection: Selection | None = None,
    judges: dict[str, Rater] | None = None,
) -> Evaluation:
    """An evaluation by a judge of length, on hashed words."""
    with Run(folder) as run:
        return evaluate(
            choose(rows(), selection or Selection()),
            entrants,
            run=run,
            judges=judges or {"length": judge or LengthRater(40)},
            rater=rater or LengthRater(25),
            embedder=remembering(embedder or WordEmbedder(), run),
            resamples=200,
        )
