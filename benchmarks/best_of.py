r"""Best of n: of several answers that a trained model gives, the one that the rewards like best without a reference.

    python -m benchmarks.best_of --data MIXTURE --model FOLDER -o OUT --draws 4          # needs the extra train
    lm-mixup evaluate mixture … --distiller best=file:OUT/answers.jsonl \
      --distiller checked=checked-file:OUT/answers.jsonl

The greedy answer and ``--draws`` sampled ones to each row of MIXTURE's test part that is in the model's range. Each is
scored by coverage, grounding, format and quality (the library is rated by two of the three real raters; the independent
judge learned from the third). Alignment takes no part, for it knows the reference. OUT/draws.jsonl grows as it goes:
the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.distillers.trained import Trained, load
from lm_mixup.evaluation.rows import Selection, choose
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rows import Row
from lm_mixup.prompts.compact import compact
from lm_mixup.recipe import Recipe
from lm_mixup.records import TaskType
from lm_mixup.rewards import Rollout, Scorer
from lm_mixup.training import base
from lm_mixup.training.data import token_counter
from lm_mixup.training.generation import generate
from lm_mixup.training.recipe import load as load_recipe
from lm_mixup.training.reward import make_scorer, reward_library

REWARDS = {"coverage": 0.4, "grounding": 0.3, "quality": 0.2, "format": 0.1, "alignment": 0.0}
NEW_TOKENS = 256
Line = dict[str, Any]
"""A row's id, what was said to it, the greedy answer first, and what each is worth."""


def answers_to(model: Any, tokenizer: Any, rows: Sequence[Row], draws: int, temperature: float, seed: int) -> list[str]:
    """Row by row: the greedy answer, then the drawn ones."""
    prompts = [compact(TaskType(row.task_type), row.variants) for row in rows]
    greedy = generate(model, tokenizer, prompts, max_new_tokens=NEW_TOKENS, batch=len(rows))
    asked = [prompt for prompt in prompts for _ in range(draws)]
    drawn = generate(
        model, tokenizer, asked, max_new_tokens=NEW_TOKENS, batch=len(asked), temperature=temperature, seed=seed
    )
    return [answer.text for i in range(len(rows)) for answer in (greedy[i], *drawn[i * draws : (i + 1) * draws])]


def worth(scorer: Scorer, rows: Sequence[Row], said: Sequence[str]) -> list[float]:
    """What the rewards give to each answer; −1 where it cannot be scored."""
    each = len(said) // len(rows)
    rollouts = [
        Rollout(text, TaskType(rows[i // each].task_type), "", rows[i // each].variants) for i, text in enumerate(said)
    ]
    return [-1.0 if one.total is None else one.total for one in scorer.score(rollouts)]


def draw(args: argparse.Namespace, known: Trained, rows: Sequence[Row], tokenizer: Any, where: str) -> list[Line]:
    """A line a row; those that OUT/draws.jsonl has are not drawn again."""
    settings = [f"rewards.{name}={value}" for name, value in REWARDS.items()]
    recipe = load_recipe("cpu", settings, {"model.name": known.base, "threads": args.threads})
    edge = Edge.of(os.environ)
    embedder = make_embedder(Recipe(), edge)
    library = reward_library(recipe.rewards, args.data, embedder, cache_dir=edge.cache_dir, seed=recipe.seed)
    scorer = make_scorer(recipe.rewards, embedder, library)
    model = base.load_model(where, recipe, adapter=known.folder)
    kept, each = args.out / "draws.jsonl", args.draws + 1
    done: list[Line] = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    if any(len(line["said"]) != each for line in done):
        raise SystemExit(
            f"{kept}: holds {len(done[0]['said']) - 1} draws a row, {args.draws} are asked for: another folder"
        )
    for start in range(len(done), len(rows), args.rows_at_once):
        part = rows[start : start + args.rows_at_once]
        said = answers_to(model, tokenizer, part, args.draws, args.temperature, start)
        totals = worth(scorer, part, said)
        lines: list[Line] = [
            {"id": row.id, "said": said[i * each : (i + 1) * each], "worth": totals[i * each : (i + 1) * each]}
            for i, row in enumerate(part)
        ]
        with kept.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        done += lines
        print(f"{len(done)} of {len(rows)} rows", flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True, help="a folder of lm-mixup train, or a shipped name")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--limit", type=int, help="at most so many rows, evenly by type, as evaluate mixture --limit")
    parser.add_argument("--rows-at-once", type=int, default=8)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    known = load(args.model)
    where = base.trainable(known.base, cache_dir=Edge.of(os.environ).cache_dir)
    tokenizer = base.load_tokenizer(where)
    args.out.mkdir(parents=True, exist_ok=True)
    done = draw(args, known, in_range(args.data, known, tokenizer, args.limit), tokenizer, where)
    best = [max(range(args.draws + 1), key=lambda i, line=line: (line["worth"][i], -i)) for line in done]
    with (args.out / "answers.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"id": line["id"], "text": line["said"][i]}) + "\n" for line, i in zip(done, best, strict=True)
        )
    gained = sum(line["worth"][i] - line["worth"][0] for line, i in zip(done, best, strict=True)) / len(done)
    print(
        f"a drawn answer is better in {sum(i > 0 for i in best)} of {len(done)} rows; reward +{gained:.3f} on average"
    )


def in_range(data: Path, known: Trained, tokenizer: Any, limit: int | None) -> tuple[Row, ...]:
    """The test rows that the model was made for, as ``evaluate mixture`` takes them."""
    selection = Selection(min_variants=2, max_variants=known.max_samples, max_tokens=known.max_tokens, limit=limit)
    return choose(load_mixture(data), selection, token_counter(tokenizer)).rows


if __name__ == "__main__":
    main()
