"""The page's examples run, and give what the page says they give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rewards.md"


def test_the_pages_examples_give_what_they_say() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    told = 0
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        for call, value in re.findall(r"^(\w+_reward\(.*\))  # ([\d.]+)", block, re.MULTILINE):
            assert eval(call, names) == pytest.approx(float(value)), call
            told += 1
    assert told == 4
    assert names["rewards"] == [pytest.approx(1.0)]
    assert dict(names["reward"].last[0].components) == {"format": 1.0, "coverage": 1.0, "grounding": 1.0}
