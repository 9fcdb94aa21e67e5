"""What GRPO did to the reward: trainings side by side, and what each part of the reward is good for.

    python -m benchmarks.grpo GRPO CONTROL [--figure F.svg]      # folders of lm-mixup train grpo, the control second
    python -m benchmarks.grpo --ablate OUT --data MIXTURE --model SFT --steps 10 [--set grpo.learning_rate=5e-5 …]

The first prints, for each folder, the mean reward of its rollouts in its first and last third, the slope over all
steps, and, step by step over the same prompts, how far the first stands above each other. Trainings with one seed and
one recipe draw the same prompts at the same step, so that the difference knows nothing of easy and hard prompts.
Intervals are 95 %, by bootstrap over steps.

The second trains once with all rewards and once without each, from the same cold start, and compares them: by the
rollouts over the same prompts, and by what the watch saw on held-out rows before and after. A training that was stopped
goes on when the command is given again. ``--only`` makes some of the trainings (``all``, or the reward that is left
out), so that several can run side by side; the rest of the comparison is then of what is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("quality", "alignment", "format", "coverage", "grounding")
ALL = "all"
LOOKED_AT = ("reward", *PARTS, "judge", "tokens", "cut", "copied", "distinct")
_DRAWS = 10_000


def lines(folder: Path, name: str = "log.jsonl") -> list[dict[str, Any]]:
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def interval(count: int, figure: Callable[[np.ndarray[Any, Any]], float]) -> tuple[float, float, float]:
    """A figure over rows 0 … count - 1, and its interval over draws of rows."""
    rng = np.random.default_rng(0)
    drawn = [figure(rng.integers(0, count, count)) for _ in range(_DRAWS)]
    return figure(np.arange(count)), *np.nanpercentile(drawn, [2.5, 97.5])


def shown(found: tuple[float, float, float], digits: int = 3) -> str:
    mean, low, high = found
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def summary(folder: Path) -> dict[str, str]:
    """Mean reward in the first and last third, and the slope."""
    log = [line for line in lines(folder) if line.get("reward") is not None]
    steps, rewards = (np.array([line[name] for line in log], dtype=float) for name in ("step", "reward"))
    third = max(1, len(log) // 3)

    def slope(rows: np.ndarray[Any, Any]) -> float:
        return float(np.polyfit(steps[rows], rewards[rows], 1)[0]) * 10 if len(set(rows)) > 1 else float("nan")

    first, last = rewards[:third], rewards[-third:]
    return {
        "folder": folder.name,
        "steps": str(len(log)),
        f"reward, first {third}": shown(interval(third, lambda rows: float(first[rows].mean()))),
        f"reward, last {third}": shown(interval(third, lambda rows: float(last[rows].mean()))),
        "a slope of, in 10 steps": shown(interval(len(log), slope), 4),
        "groups without spread": f"{np.mean([line['groups_without_spread'] for line in log]):.0%}",
        "tokens an answer, first and last": f"{log[0]['tokens_an_answer']:.0f}, {log[-1]['tokens_an_answer']:.0f}",
    }


def above(first: Path, other: Path, part: str) -> str | None:
    """How far the rollouts of ``first`` stand above those of ``other``, over the last half of their common steps."""
    one, two = ({line["step"]: line.get(part) for line in lines(folder)} for folder in (first, other))
    steps = [step for step in sorted(one.keys() & two.keys()) if one[step] is not None and two[step] is not None]
    steps = steps[len(steps) // 2 :]
    if not steps:
        return None
    gaps = np.array([one[step] - two[step] for step in steps])
    return f"{shown(interval(len(gaps), lambda rows: float(gaps[rows].mean())))} (steps {steps[0]}–{steps[-1]})"


def looks(folder: Path) -> list[str]:
    """Rows of a table: what the watch saw, look by look."""
    found = []
    for look in lines(folder, "watch.jsonl"):
        cells = [f"{look[name]:.3f}" if look.get(name) is not None else "–" for name in LOOKED_AT]
        found.append(f"| {folder.name} | {look['step']} | {' | '.join(cells)} |")
    return found


def compare(folders: Sequence[Path], figure: Path | None) -> None:
    for folder in folders:
        for name, value in summary(folder).items():
            print(f"{name:36} {value}")
        print()
    gaps(folders, ("reward", *PARTS))
    table(folders)
    if figure:
        draw(figure, folders)


def gaps(folders: Sequence[Path], parts: Sequence[str]) -> None:
    for other in folders[1:]:
        for part in parts:
            if gap := above(folders[0], other, part):
                print(f"{folders[0].name} above {other.name}, {part:10} {gap}")


def table(folders: Sequence[Path]) -> None:
    print(f"\n| training | step | {' | '.join(LOOKED_AT)} |\n|{'---|' * (len(LOOKED_AT) + 2)}")
    for folder in folders:
        print("\n".join(looks(folder)))


def draw(path: Path, folders: Sequence[Path], window: int = 10) -> None:
    """The rewards of the rollouts, and of the held-out rows with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    rollouts, held_out = figure.subplots(1, 2)
    for folder in folders:
        log = [line for line in lines(folder) if line.get("reward") is not None]
        steps, rewards = [line["step"] for line in log], [line["reward"] for line in log]
        smooth = [float(np.mean(rewards[max(0, i - window + 1) : i + 1])) for i in range(len(rewards))]
        dots = rollouts.plot(steps, rewards, ".", alpha=0.35)[0]
        rollouts.plot(steps, smooth, color=dots.get_color(), label=folder.name)
        seen = [look for look in lines(folder, "watch.jsonl") if look.get("reward") is not None]
        at = ([look[name] for look in seen] for name in ("step", "reward"))
        errors = [1.96 * (look["reward_error"] or 0) for look in seen]
        held_out.errorbar(*at, yerr=errors, fmt="o-", capsize=3, color=dots.get_color(), label=folder.name)
    rollouts.set_title(f"reward of the rollouts, and its mean over {window} steps", fontsize=9)
    held_out.set_title("reward of held-out rows, greedy", fontsize=9)
    for axis in (rollouts, held_out):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def ablate(out: Path, data: Path, model: Path, steps: int, settings: Sequence[str], only: Sequence[str]) -> None:
    """One training with all rewards, one without each."""
    folders = {name: out / (name if name == ALL else f"without-{name}") for name in (ALL, *PARTS)}
    for name in only:
        folder = folders[name]
        if (folder / "lm_mixup.json").is_file():
            continue
        more = [*settings, *([f"rewards.{name}=0"] if name != ALL else [])]
        command = ["train", "grpo", "--data", str(data), "--model", str(model), "-o", str(folder), "--recipe", "cpu"]
        options = ["--max-steps", str(steps), *(word for one in more for word in ("--set", one))]
        resume = ["--resume"] if (folder / "train.json").is_file() else []
        subprocess.run([sys.executable, "-m", "lm_mixup", *command, *options, *resume], check=True)
    there = [folder for folder in folders.values() if (folder / "lm_mixup.json").is_file()]
    gaps(there, PARTS)  # the sums are of other weights
    table(there)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="of lm-mixup train grpo")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--ablate", type=Path, metavar="OUT")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=(ALL, *PARTS), default=(ALL, *PARTS), help="for --ablate")
    parser.add_argument("--set", action="append", default=[], help="a setting of the recipe, for --ablate")
    args = parser.parse_args()
    if args.ablate:
        if not (args.data and args.model):
            parser.error("--ablate needs --data and --model")
        ablate(args.ablate, args.data, args.model, args.steps, args.set, args.only)
    elif args.folders:
        compare(args.folders, args.figure)
    else:
        parser.error("give folders of trainings, or --ablate OUT")


if __name__ == "__main__":
    main()
