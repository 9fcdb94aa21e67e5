from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.pool import PoolRow, language, read
from lm_mixup.records import UNKNOWN_LANGUAGE


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The weather in the north of the country was cold and wet for most of the year.", "en"),
        ("Das Wetter im Norden des Landes war den größten Teil des Jahres kalt und nass.", "de"),
        ("El tiempo en el norte del país fue frío y húmedo durante la mayor parte del año.", "es"),
        ("Погода на севере страны большую часть года была холодной и влажной.", "ru"),
        ("この国の北部の天気は一年の大半で寒くて湿っていました。", "ja"),
        ("สวัสดีครับ", "th"),
        ("", UNKNOWN_LANGUAGE),
        ("Sort of.", UNKNOWN_LANGUAGE),
        ("12 * 7 = 84", UNKNOWN_LANGUAGE),
        ("```python\nfor item in range(10):\n    print('the weather is cold and wet')\n```", UNKNOWN_LANGUAGE),
        ("https://example.org/the/weather/in/the/north/of/the/country/was/cold", UNKNOWN_LANGUAGE),
    ],
)
def test_detection(text: str, code: str) -> None:
    assert language.detect(text) == code


@given(st.text(max_size=400))
def test_detection_never_fails_and_repeats_itself(text: str) -> None:
    code = language.detect(text)
    assert code == language.detect(text)
    assert 2 <= len(code) <= 3


def test_a_source_settles_its_unknown_rows() -> None:
    counts = {
        "plain": {"en": 95, "de": 5, UNKNOWN_LANGUAGE: 40},
        "mixed": {"en": 50, "de": 50, UNKNOWN_LANGUAGE: 3},
        "few": {"en": 3, UNKNOWN_LANGUAGE: 3},
        "unknown": {UNKNOWN_LANGUAGE: 30},
    }
    assert language.settle(counts) == {"plain": "en"}


@pytest.mark.data
def test_languages_of_real_rows(data_dir: Path) -> None:
    pools = data_dir / "pools"
    rows = [r for r in read(pools / "oasst1_other_languages.jsonl") if isinstance(r, PoolRow)]
    right = sum(r.sample.language == r.raw["lang"].split("-")[0] for r in rows)
    assert right >= 95
    assert len(rows) == 100
    english = [r for r in read(pools / "dolly.jsonl") if isinstance(r, PoolRow)]
    other = [r.sample.language for r in english if r.sample.language not in ("en", UNKNOWN_LANGUAGE)]
    assert len(other) <= 4, json.dumps(other)
