"""How fast the embedded model distils, how much memory it takes, and whether an answer depends on its batch.

    python -m benchmarks.distill --json                      # output tokens a core-second, peak memory
    python -m benchmarks.distill --batches                   # also: the same prompts alone, in pairs, in other orders
    python -m benchmarks.distill --train MIXTURE --steps 5   # also: tokens a second and memory of SFT (needs [train])
    python -m benchmarks.distill --train MIXTURE --only-train                  # in an environment without [genai]
    python -m benchmarks.distill --model DIR --mixture DIR   # another model; held-out rows instead of made-up ones

Prompts of about 400 tokens, sixteen at a time, greedy, one engine of one thread; answers as long as the model makes
them. The time is CPU time of the process, from the prompt's text to the answer's text, reading the prompts included.
The model is made before (half a minute at first); a first call, which makes it, has that in its peak of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_mixup.collaborators import Edge
from lm_mixup.distillers import trained
from lm_mixup.llm.openvino_slots import OpenVINOSlots
from lm_mixup.ports import Completion, Prompt
from lm_mixup.prompts.compact import compact
from lm_mixup.records import TaskType

PROMPT_TOKENS = range(370, 431)
_WARM_UP = 2

PLACES = ("Arden", "Brill", "Corve", "Dunmere", "Eskdale", "Farley", "Garth", "Holme", "Ilsley", "Kelby")
TRADES = ("rope", "glass", "paper", "salt", "lace", "brick", "cider", "felt", "pewter", "slate")
RIVERS = ("Wye", "Teme", "Leam", "Nene", "Swale", "Tarn", "Orme", "Yare")


def paragraph(rng: random.Random) -> list[str]:
    """Sentences on a town that is not; each holds facts of its own."""
    place, trade, river = rng.choice(PLACES), rng.choice(TRADES), rng.choice(RIVERS)
    year, people = rng.randint(1500, 1900), rng.randint(2, 90) * 100
    return [
        f"{place} is a market town on the river {river}, known for its {trade} since {year}.",
        f"About {people} people live there, most of them in the old quarter below the church.",
        f"The first {trade} works was built in {year + rng.randint(2, 40)} by a family that had come from the coast.",
        f"A fire destroyed half of the town in {year + rng.randint(50, 90)}, and the bridge was rebuilt in stone.",
        f"The railway reached {place} in {rng.randint(1840, 1890)}, which brought the {trade} trade to larger towns.",
        f"Today a museum beside the {river} shows how {trade} was made, and it is open from April to October.",
    ]


def variants(rng: random.Random, sentences: Sequence[str], count: int) -> list[str]:
    """Versions of a text, each without some sentences and with a letter doubled here and there."""
    out = []
    for _ in range(count):
        kept = [s for s in sentences if rng.random() < 0.75] or list(sentences[:1])
        words = " ".join(kept).split()
        out.append(" ".join(w + w[-1] if w.isalpha() and rng.random() < 0.04 else w for w in words))
    return out


def made_up(llm: OpenVINOSlots, count: int, limit: int, seed: int = 0) -> list[Prompt]:
    """Prompts of the wanted length over towns that are not."""
    rng, prompts = random.Random(seed), list[Prompt]()
    while len(prompts) < count:
        texts = variants(rng, paragraph(rng), rng.randint(2, 4))
        _keep(llm, prompts, TaskType.PARA, texts, limit)
    return prompts


def held_out(llm: OpenVINOSlots, folder: Path, count: int, limit: int) -> list[Prompt]:
    """Prompts of the wanted length over MIXTURE's test rows, of all task types."""
    from lm_mixup.mixture.load import load_mixture

    rows = [row for row in load_mixture(folder) if row.split == "test"]
    random.Random(0).shuffle(rows)
    prompts: list[Prompt] = []
    for row in rows:
        if len(prompts) < count and 2 <= len(row.variants) <= 4:
            _keep(llm, prompts, TaskType(row.task_type), row.variants, limit)
    return prompts


def _keep(llm: OpenVINOSlots, prompts: list[Prompt], kind: TaskType, texts: Sequence[str], limit: int) -> None:
    messages = compact(kind, texts)
    if sum(llm.count_tokens(m["content"]) for m in messages) in PROMPT_TOKENS:
        prompts.append(Prompt(str(len(prompts)), messages, max_tokens=limit))


def answers(llm: OpenVINOSlots, prompts: Sequence[Prompt]) -> list[Completion]:
    """The model's answers; a prompt without one ends the benchmark."""
    made = asyncio.run(llm.complete(prompts))
    failed = [a for a in made if not isinstance(a, Completion)]
    if failed:
        raise SystemExit(f"{len(failed)} prompts were not answered: {failed[0]}")
    return [a for a in made if isinstance(a, Completion)]


def measure(llm: OpenVINOSlots, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Speed by CPU time, and the process's peak memory."""
    answers(llm, prompts[:_WARM_UP])
    began, cpu = time.perf_counter(), time.process_time()
    made = answers(llm, prompts)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    read, written = (sum(a.prompt_tokens or 0 for a in made), sum(a.completion_tokens or 0 for a in made))
    return {
        "prompts": len(prompts),
        "slots": trained.SLOTS,
        "prompt_tokens_mean": round(read / len(made), 1),
        "output_tokens_mean": round(written / len(made), 1),
        "cut_at_limit": sum(a.finish_reason == "length" for a in made),
        "output_tokens_a_core_second": round(written / cpu_s, 1),
        "cpu_s": round(cpu_s, 1),
        "clock_s": round(seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def batches(llm: OpenVINOSlots, path: Path, prompts: Sequence[Prompt]) -> dict[str, int]:
    """How many answers differ from those of one list, when the same prompts are asked otherwise."""
    whole = [a.text for a in answers(llm, prompts)]

    def differ(made: Sequence[Completion]) -> int:
        return sum(a.text != b for a, b in zip(made, whole, strict=True))

    two = OpenVINOSlots(path, slots=3, engines=2, lookup=trained.LOOKUP)
    return {
        "prompts": len(prompts),
        "alone": differ([answers(llm, [p])[0] for p in prompts]),
        "pairs": differ([a for i in range(0, len(prompts), 2) for a in answers(llm, prompts[i : i + 2])]),
        "reversed": differ(answers(llm, prompts[::-1])[::-1]),
        "two engines, three slots": differ(answers(two, prompts)),
    }


def distilling(args: argparse.Namespace) -> dict[str, Any]:
    """All figures of inference."""
    model = trained.load(args.model)
    path = trained.runnable(model, cache_dir=Edge.of(os.environ).cache_dir)
    llm = OpenVINOSlots(path, slots=trained.SLOTS, engines=1, lookup=trained.LOOKUP)
    limit = model.max_tokens
    prompts = held_out(llm, args.mixture, args.prompts, limit) if args.mixture else made_up(llm, args.prompts, limit)
    results: dict[str, Any] = {"model": args.model, "distilling": measure(llm, prompts)}
    if args.batches:
        results["answers_that_differ"] = batches(llm, path, prompts)
    return results


def training(mixture: Path, steps: int) -> dict[str, Any]:
    """Tokens a second and peak memory of a few steps of SFT with the CPU recipe."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sft"
        command = ["train", "sft", "--data", str(mixture), "-o", str(out), "--recipe", "cpu"]
        settings = ["--max-steps", str(steps), "--set", "sft.log_steps=1"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "lm_mixup.cli.main", *command, *settings], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line and "tokens" in line]
    first, last = lines[0], lines[-1]
    tokens, seconds = last["tokens"] - first["tokens"], last["seconds"] - first["seconds"]
    return {
        "steps": steps,
        "tokens_a_second": round(tokens / seconds, 1) if seconds else None,  # without the first step
        "core_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_memory_mb": round(after.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=trained.DEFAULT, help="a shipped name, or a folder of lm-mixup train")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--mixture", type=Path, help="take the prompts from this MIXTURE's test rows")
    parser.add_argument("--batches", action="store_true", help="compare answers over batch compositions")
    parser.add_argument("--train", type=Path, metavar="MIXTURE", help="also measure SFT on this MIXTURE")
    parser.add_argument("--only-train", action="store_true", help="measure no distilling")
    parser.add_argument("--steps", type=int, default=5, help="of --train")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    results: dict[str, Any] = {} if args.only_train else distilling(args)
    if args.train:
        results["training"] = training(args.train, args.steps)
    if args.json:
        print(json.dumps(results))
        return
    for title, figures in results.items():
        print(title if isinstance(figures, dict) else f"{title}: {figures}")
        for name, value in figures.items() if isinstance(figures, dict) else ():
            print(f"  {name.replace('_', ' '):32} {value}")


if __name__ == "__main__":
    main()
