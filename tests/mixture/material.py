"""Small sources of the project's own, in the shapes of the real ones; and targets made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_mixup.mixture.collect import Collected, Collector
from lm_mixup.mixture.write import ExtractiveWriter, Written

TOPICS = (
    "river", "harbor", "glacier", "orchard", "lantern", "violin", "canyon", "bakery", "lighthouse", "meadow",
    "quarry", "railway", "museum", "volcano", "library", "windmill", "theater", "aqueduct", "vineyard", "reservoir",
)  # fmt: skip


def paragraph(number: int) -> dict[str, Any]:
    """A paragraph with a title and a question, of six sentences with numbers and names of its own."""
    topic = TOPICS[number % len(TOPICS)]
    name = f"Old {topic.capitalize()}"
    year = 1700 + number
    text = (
        f"The {name} is a well known {topic} near Arden, and it was opened in {year}. "
        f"Engineers from Bremen planned the {topic} during the reign of Frederick, although money was short. "
        f"About {number + 12} workers lost their jobs when the owner Maria Keller closed it after a long dispute. "
        f"Visitors reach the {topic} by a narrow road that crosses {number + 3} stone bridges. "
        f"A local society has kept the archive of the {name} since {year + 60}, which historians praise. "
        f"The {topic} still attracts painters, because the evening light falls on its western wall."
    )
    questions = [{"question": f"in what year was the old {topic} opened", "answer": str(year)}]
    return {"source": "own", "title": f"{name} {number}" if number % 2 else None, "text": text, "qas": questions}


def mcq(number: int) -> dict[str, Any]:
    """A multiple-choice item without a reason."""
    return {
        "source": "own-mcq",
        "question": f"Which tool would a careful gardener use to move {number + 2} heaps of wet leaves in the autumn?",
        "choices": ["a wheelbarrow with two handles", "a violin", f"a box of {number} nails", "a glass of water"],
        "answer_index": 0,
        "answer": "a wheelbarrow with two handles",
    }


def tfq(number: int) -> dict[str, Any]:
    """A true/false item with a reason."""
    return {
        "source": "own-tfq",
        "statement": f"A train with {number + 4} wagons can stop within two meters at full speed",
        "answer": "False" if number % 2 else "True",
        "explanation": f"This is false because heavy trains of {number + 4} wagons need several hundred meters.",
    }


def write_sources(folder: Path, count: int = 20) -> list[Path]:
    """Three files: ``count`` rows each of paragraphs, multiple-choice and true/false items."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, make in (("paragraphs", paragraph), ("mcq", mcq), ("tfq", tfq)):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(make(n)) + "\n" for n in range(count)), encoding="utf-8")
        paths.append(path)
    return paths


def collected(folder: Path, count: int = 20) -> Collected:
    """What the collector makes of the small sources."""
    return Collector().collect(write_sources(folder, count))


def targets(folder: Path, count: int = 20) -> Written:
    """What the extractive writer makes of them."""
    found = collected(folder, count)
    return ExtractiveWriter().write(found.passages, found.exercises)
