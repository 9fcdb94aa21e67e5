"""The names that users' scripts rely on."""

from __future__ import annotations

import lm_mixup

NAMES = {
    *("LLM", "Cluster", "Completion", "Distillate", "Distiller", "Embedder", "Failure", "LMMixupError", "Message"),
    *("Prompt", "Rater", "Rating", "Recipe", "Result", "Sample", "TaskType", "load_recipe", "run"),
}


def test_the_public_names_are_these():
    assert set(lm_mixup.__all__) == NAMES
    for name in NAMES:
        assert getattr(lm_mixup, name) is not None
