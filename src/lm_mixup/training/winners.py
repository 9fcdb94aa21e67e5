"""Best of n: for each prompt the answer, of several that the model draws, that the reward likes best.

SFT on the winners (expert iteration) is the plain relative of GRPO: the same prompts, the same draws, the same
rewards, and no gradient but that of SFT. What is written is a MIXTURE, so that ``train sft`` takes it as it is::

    lm-mixup train winners --data mixture --model sft -o winners
    lm-mixup train sft --data winners --model sft -o sft-on-winners
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_mixup.errors import PoolError
from lm_mixup.mixture.rows import make_row, write_parquet
from lm_mixup.ports import Embedder
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.rewards import Rollout, Scored
from lm_mixup.training.begin import ColdStart, begin, begun_with
from lm_mixup.training.data import Example
from lm_mixup.training.faults import explained
from lm_mixup.training.folder import Folder
from lm_mixup.training.recipe import TrainRecipe
from lm_mixup.training.reward import make_scorer

Score = Callable[[Sequence[Rollout]], list[Scored]]
NO_SPREAD = "no-spread"
NO_FORM = "no-form"
NOT_SCORED = "not-scored"


def find_winners(
    data: Path | str,
    out: Path,
    recipe: TrainRecipe,
    *,
    start: Path,
    cache_dir: Path,
    embedder: Embedder,
    library: RatedLibrary | None,
    resume: bool = False,
    max_steps: int | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Path:
    """Draw ``grpo.rollouts`` answers to each prompt of MIXTURE's GRPO part, ``grpo.prompts`` at a time; write the best.

    ``out`` gets ``sft.parquet`` (the winners as targets, in MIXTURE's layout), ``log.jsonl`` (a line a batch) and
    ``train.json``, whose ``left_out`` counts the prompts without a winner by reason. Draws depend on the seed and the
    batch's number alone, so that a search that was killed goes on (``resume``) to the same rows.
    Raises as :func:`lm_mixup.training.grpo.train_grpo`.
    """
    begun = begin(data, recipe, start=start, cache_dir=cache_dir)
    recipe = begun.recipe
    asked = {"command": "winners", "recipe": recipe.model_dump(mode="json", exclude={"sft", "watch"})}
    told = {**asked, "data": begun.found.digest, "begun_with": begun_with(start, begun.told)}
    folder = Folder(out, told, resume=resume, by_line=True)
    scorer = make_scorer(recipe.rewards, embedder, library)
    size = recipe.grpo.prompts
    batches = math.ceil(len(begun.found.examples) / size)
    done = {line["step"]: line for line in folder.lines()}
    model = begun.model()
    with explained("winners", size * recipe.grpo.rollouts):
        for number in range(min(batches, max_steps or batches)):
            if number + 1 in done:
                continue
            rows = begun.found.examples[number * size : (number + 1) * size]
            line = {"step": number + 1, **_batch(model, begun, rows, scorer.score, recipe.seed + number)}
            folder.add(line)
            done[number + 1] = line
            if progress:
                progress(number + 1, batches, {"best": line["best"], "mean": line["mean"]})
    return _write(folder, begun, [done[step] for step in sorted(done)])


def _batch(model: Any, begun: ColdStart, rows: Sequence[Example], score: Score, seed: int) -> dict[str, Any]:
    each = begun.recipe.grpo.rollouts
    scored = score(begun.draw(model, rows, batch=len(rows) * each, seed=seed)[1])
    groups = [scored[i : i + each] for i in range(0, len(scored), each)]
    chosen = {row.id: winner(group) for row, group in zip(rows, groups, strict=True)}
    worth = [[one.total for one in group if one.total is not None] for group in groups]
    totals = [total for group in worth for total in group]
    best = [max(group) for group in worth if group]
    return {
        "mean": sum(totals) / len(totals) if totals else None,
        "best": sum(best) / len(best) if best else None,
        "winners": {name: answer for name, (answer, reason) in chosen.items() if not reason},
        "left_out": dict(Counter(reason for _, reason in chosen.values() if reason)),
    }


def winner(group: Sequence[Scored]) -> tuple[str, str]:
    """The best answer of a group and "", or "" and the reason why there is none.

    Where all are worth the same there is nothing to learn from; the best must have the form; ties go to the first.
    """
    known = [one for one in group if one.total is not None]
    if not known:
        return "", NOT_SCORED
    totals = [one.total or 0.0 for one in known]
    if len(known) > 1 and max(totals) - min(totals) < 1e-6:
        return "", NO_SPREAD
    best = known[totals.index(max(totals))]
    if best.answer is None or (best.components.get("format") or 0.0) < 1.0:
        return "", NO_FORM
    return best.answer, ""


def _write(folder: Folder, begun: ColdStart, lines: Sequence[Mapping[str, Any]]) -> Path:
    winners = {name: answer for line in lines for name, answer in line["winners"].items()}
    rows = [
        make_row(e.task_type, e.variants, winners[e.id], id=e.id, split="sft", group=e.group)
        for e in begun.found.examples
        if e.id in winners
    ]
    if not rows:
        raise PoolError(f"{folder.path}: no prompt has a winner; lm-mixup train preflight says what is the matter")
    write_parquet(folder.path / "sft.parquet", rows)
    left_out = sum((Counter(line["left_out"]) for line in lines), Counter())
    folder.tell({"rows": len(rows), "left_out": dict(left_out), "prompts": len(rows) + left_out.total()})
    return folder.path
