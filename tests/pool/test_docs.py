from __future__ import annotations

from pathlib import Path

from lm_mixup.pool import REASONS
from lm_mixup.pool.containers import CONTAINERS
from lm_mixup.pool.layout import FORMATS

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def test_the_page_lists_every_reason_in_the_codes_words() -> None:
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in PAGE


def test_the_page_lists_every_format_and_ending() -> None:
    for name in (*FORMATS, *CONTAINERS):
        assert f"`{name}`" in PAGE
