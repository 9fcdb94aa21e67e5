"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# continuous integration judges the change, not the day's luck: the same examples at each run; anywhere else, new ones
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real pools and ratings; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("LM_MIXUP_DATA", ROOT / "../shared/data")).resolve()
    if not (folder / "pools").is_dir():
        pytest.skip(f"no real data at {folder}: set LM_MIXUP_DATA to the folder that holds pools/ and ratings/")
    return folder
