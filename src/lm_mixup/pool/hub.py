"""Data sets on the Hugging Face hub: their data files are fetched and read; no script of theirs is ever run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lm_mixup.errors import MissingExtraError, PoolError
from lm_mixup.pool.containers import container_of
from lm_mixup.pool.listing import METADATA

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
"""Words in a file's path that say which split it belongs to."""

_ADDRESS = re.compile(
    r"(?:hf://datasets/)?(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w.-]+))?"
    r"(?:/(?P<folder>[\w./ -]+?))?(?::(?P<split>[\w.-]+))?/?"
)


def fetch(address: str, notes: list[str]) -> list[tuple[Path, str, str]]:
    """The data files of ``org/name`` or ``hf://datasets/org/name[@revision][/folder][:split]``.

    Returns ``(local path, name, source)`` of each, in the order of their names, all of one commit. ``split`` is
    ``train`` unless named; what of the repository is left aside goes into ``notes``. Files that were fetched before
    are not fetched again. Raises :class:`PoolError`, or :class:`MissingExtraError` without huggingface-hub.
    """
    parsed = _ADDRESS.fullmatch(address)
    if not parsed:
        raise PoolError(f"{address}: expected org/name or hf://datasets/org/name[@revision][/folder][:split]")
    repo, revision, folder, split = parsed["repo"], parsed["revision"], parsed["folder"] or "", parsed["split"]
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise MissingExtraError(f"reading {address} from the Hugging Face hub", "hub", "huggingface-hub") from None
    try:
        info = huggingface_hub.HfApi().dataset_info(repo, revision=revision)
    except errors.GatedRepoError as error:
        raise PoolError(f"{address}: access must be granted on its page first, then log in: hf auth login") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise PoolError(f"{address}: neither a file here nor a data set (or revision) on the hub") from error
    except (OSError, errors.HfHubHTTPError, *_network_errors()) as error:
        # the cache is not read instead: it does not say whether an earlier fetch got all files of the split
        raise PoolError(
            f"{address}: not a file here, and the hub cannot be reached ({_short(error)}). Expected a path, or a "
            f"network; or fetch it where there is one: hf download {repo} --repo-type dataset --local-dir DIR, "
            "then name DIR"
        ) from error
    files = choose([s.rfilename for s in info.siblings or []], folder, split, address, notes)
    found = []
    for name in files:
        try:
            path = huggingface_hub.hf_hub_download(repo, name, repo_type="dataset", revision=info.sha)
        except (OSError, errors.HfHubHTTPError, *_network_errors()) as error:
            raise PoolError(f"{address}: {name} could not be fetched: {_short(error)}. Try again") from error
        found.append((Path(path), f"hf://datasets/{repo}@{str(info.sha)[:8]}/{name}", repo))
    return found


def choose(names: Sequence[str], folder: str, split: str | None, address: str, notes: list[str]) -> list[str]:
    """Which of a repository's files are the split's rows. Raises :class:`PoolError` where that is not plain.

    Files whose path names a split belong to it; where no file's does, all are ``train``. Files of several folders,
    which are most often variants of each other, are never read together: the error lists the folders to choose from.
    """
    wanted = split or "train"
    inside = [n for n in names if not folder or n == folder or n.startswith(folder.rstrip("/") + "/")]
    data = sorted(n for n in inside if container_of(n) and PurePosixPath(n).name not in METADATA)
    if not data:
        raise PoolError(f"{address}: no data file of a known kind; it has: {_some(names)}")
    splits: dict[str, str | None] = {name: _split_of(name) for name in data}
    if not any(splits.values()):
        splits = dict.fromkeys(data, "train")
    chosen = [n for n in data if splits[n] == wanted]
    if not chosen:
        raise PoolError(f"{address}: no files of the split {wanted!r}; it has: {_some(data)}")
    kinds = sorted({str(container_of(n)) for n in chosen})
    if len(kinds) > 1 and "parquet" in kinds:
        chosen = [n for n in chosen if container_of(n) == "parquet"]
    folders = sorted({str(PurePosixPath(n).parent) for n in chosen})
    if len(folders) > 1:
        example = f"hf://datasets/{'/'.join(address.removeprefix('hf://datasets/').split('/')[:2])}/{folders[-1]}"
        raise PoolError(f"{address}: rows in several folders ({', '.join(folders)}); name one, e.g. {example}")
    left = [n for n in data if n not in chosen]
    if left:
        notes.append(f"{address}: read {len(chosen)} of {len(data)} data files, left {_some(left)}")
    return chosen


def _split_of(name: str) -> str | None:
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split, said in SPLIT_WORDS.items() if any(word in said for word in words)), None)


def _network_errors() -> tuple[type[Exception], ...]:
    """The error classes of the HTTP library that this version of huggingface-hub uses (requests' are OSErrors)."""
    found: list[Any] = []
    for name in ("httpx", "httpx2"):
        try:
            found.append(__import__(name).HTTPError)
        except ImportError:
            continue
    return tuple(found)


def _short(error: Exception) -> str:
    # never the whole text: it may hold the address with its query, or headers
    return type(error).__name__


def _some(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(list(names)[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
