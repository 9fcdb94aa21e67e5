"""Writes golden/training.json: python -m tests.training.make_golden. Needs the extra train; see test_golden.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_mixup.records import Rating
from lm_mixup.rewards import Scorer, Weights, trl_reward
from lm_mixup.training import base
from lm_mixup.training.data import examples, token_counter
from lm_mixup.training.folder import Folder
from lm_mixup.training.grpo import make_trainer
from lm_mixup.training.recipe import TrainRecipe
from lm_mixup.training.recipe import load as load_recipe
from lm_mixup.training.sft import train_sft
from tests.fakes import WordEmbedder

GOLDEN = Path(__file__).parent.parent / "golden" / "training.json"
ROLLOUTS = Path(__file__).parent.parent / "golden" / "rollouts.json"
STEPS = 5


def recipe(**more: Any) -> TrainRecipe:
    """Five steps of two rows; an adapter of rank 4, in float32, on one thread."""
    settings = {
        "device": "cpu", "threads": 1, "model.dtype": "float32", "lora.rank": 4, "lora.alpha": 8,
        "data.max_tokens": 2000, "sft.batch": 2, "sft.epochs": 1, "sft.learning_rate": 3e-2, "sft.log_steps": 1,
        "sft.save_steps": 2,
        "sft.checkpoint_activations": False, "grpo.checkpoint_activations": False,
        "grpo.prompts": 2, "grpo.mini_batch": 2, "grpo.rollouts": 4, "grpo.batch": 4, "grpo.learning_rate": 1e-2,
        "grpo.max_new_tokens": 300, "grpo.kl": 0.05, "grpo.save_steps": 2, "watch.every": 0,
        "rewards.quality": 0.0, "rewards.coverage": 0.3, "rewards.grounding": 0.2,
    }  # fmt: skip
    return load_recipe(None, (), settings | more)


def sft_lines(tiny: Path, mixture: Path, out: Path, **more: Any) -> list[dict[str, Any]]:
    """The log of a short cold start."""
    asked = recipe(**{"model.name": str(tiny), **more})
    train_sft(mixture, out, asked, cache_dir=out / "cache", max_steps=STEPS)
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


class Replay:
    """TRL's rollout function: the stored answers, in turn, whatever the model would say."""

    def __init__(self, answers: list[str]) -> None:
        self._answers = answers
        self._said = 0

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        tokenizer = trainer.processing_class
        chosen = [self._answers[(self._said + i) % len(self._answers)] for i in range(len(prompts))]
        self._said += len(prompts)
        asked = [
            tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=True)["input_ids"] for p in prompts
        ]
        said = [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in chosen]
        return {"prompt_ids": asked, "completion_ids": said, "logprobs": None}


def grpo_lines(tiny: Path, mixture: Path, out: Path, **more: Any) -> list[dict[str, Any]]:
    """The log of a short GRPO whose rollouts are replayed from the file."""
    asked = recipe(**{"model.name": str(tiny), **more})
    tokenizer = base.load_tokenizer(str(tiny))
    found = examples(mixture, "grpo", asked.data, count_tokens=token_counter(tokenizer), seed=0)
    scorer = Scorer(WordEmbedder(), None, Weights(0.0, 0.4, 0.1, 0.3, 0.2), threshold=None)
    folder = Folder(out, {"golden": True}, resume=False)
    model = base.load_model(str(tiny), asked)
    answers = json.loads(ROLLOUTS.read_text())
    trainer = make_trainer(
        model, tokenizer, found, folder, asked, trl_reward(scorer), STEPS, None, None, rollout=Replay(answers)
    )
    trainer.train()
    return folder.lines()


def figures(lines: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, float]]:
    """The named figures of each line."""
    return [{name: round(line[name], 6) for name in ("step", *names) if name in line} for line in lines]


class LengthJudge:
    """A judge for tests: longer is better."""

    key = "length"

    def rate(self, samples: Any) -> list[Rating]:
        return [Rating(min(5.0, len(s.completion) / 30)) for s in samples]


def main() -> None:
    """Write the golden file."""
    import tempfile

    from tests.training.conftest import make_mixture, make_tiny

    with tempfile.TemporaryDirectory() as there:
        place = Path(there)
        tiny, mixture = make_tiny(place / "tiny"), make_mixture(place / "mixture")
        sft = figures(sft_lines(tiny, mixture, place / "sft"), ("loss", "learning_rate", "tokens"))
        names = ("loss", "reward", "reward_spread", "kl", "alignment", "format", "coverage", "grounding")
        grpo = figures(grpo_lines(tiny, mixture, place / "grpo"), names)
    GOLDEN.write_text(json.dumps({"sft": sft, "grpo": grpo}, indent=1) + "\n")


if __name__ == "__main__":
    main()
