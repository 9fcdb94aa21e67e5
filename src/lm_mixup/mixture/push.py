"""A built MIXTURE to the hub."""

from __future__ import annotations

from pathlib import Path

from lm_mixup.errors import InputError, MissingExtraError, StorageError

KEPT_HERE = ("store/**", "ledger.sqlite*", "timings.json", ".*")
"""What stays on this machine: what was worked out on the way."""


def push(
    folder: Path, repository: str, *, private: bool = True, token: str | None = None, endpoint: str | None = None
) -> str:
    """Upload the folder as a data set; returns its address. ``token`` None: the one that the hub's own login keeps.

    Raises InputError where the folder holds no finished build, StorageError where the hub refuses.
    """
    if not (folder / "manifest.json").is_file():
        raise InputError(f"{folder}: expected a finished build (a manifest.json); run lm-mixup mixture build first")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    except ImportError:
        raise MissingExtraError("pushing to the hub", "hub", "huggingface-hub") from None
    api = HfApi(endpoint=endpoint, token=token)
    try:
        url = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, repo_type="dataset", ignore_patterns=list(KEPT_HERE))
    except HFValidationError as error:
        raise InputError(f"{repository}: expected NAME/NAME: {error}") from None
    except LocalTokenNotFoundError:
        raise InputError("the hub needs a login: set HF_TOKEN, or run hf auth login") from None
    except (HfHubHTTPError, OSError) as error:
        # the message may hold the request with its headers: the kind of error says enough
        raise StorageError(f"{repository}: the hub did not take the data set ({type(error).__name__})") from None
    return str(url)
