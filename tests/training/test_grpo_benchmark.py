"""The benchmark of GRPO tells a training that rises from one that does not."""

import json
import random

from benchmarks import grpo


def training(folder, slope, *, seed):
    """Sixty steps whose prompts are as hard as those of every other training, with noise of its own."""
    folder.mkdir()
    hard, own = random.Random(0), random.Random(seed)
    told = []
    for step in range(1, 61):
        reward = 0.7 + hard.uniform(-0.1, 0.1) + own.uniform(-0.01, 0.01) + slope * step
        told.append({"step": step, "reward": reward, "groups_without_spread": 0.25, "tokens_an_answer": 70.0})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    return folder


def low(text):
    return float(text[text.index("[") + 1 : text.index(",")])


def test_a_rise_is_seen_beside_a_control_over_the_same_prompts(tmp_path):
    risen, control = training(tmp_path / "grpo", 0.001, seed=1), training(tmp_path / "control", 0.0, seed=2)
    gap = grpo.above(risen, control, "reward")
    assert gap is not None
    assert gap.endswith("(steps 31–60)")
    assert 0.03 < low(gap) < 0.046
    same = grpo.above(control, training(tmp_path / "other", 0.0, seed=3), "reward")
    assert same is not None
    assert low(same) < 0
    assert grpo.above(risen, control, "coverage") is None


def test_the_summary_says_how_many_steps_there_were(tmp_path):
    found = grpo.summary(training(tmp_path / "grpo", 0.005, seed=1))
    assert found["steps"] == "60"
    assert low(found["a slope of, in 10 steps"]) > 0
