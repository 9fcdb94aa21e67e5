"""The real weights, fetched once into the user's own cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lm_mixup import models
from lm_mixup.errors import ModelError


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2; tests that need it are skipped where it cannot be had."""
    cache = Path(os.environ.get("LM_MIXUP_CACHE", "~/.cache/lm-mixup")).expanduser()
    try:
        return models.resolve("all-minilm-l6-v2", cache_dir=cache)
    except ModelError as error:
        pytest.skip(str(error))
