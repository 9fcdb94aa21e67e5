"""Step 7: test, SFT and GRPO, by article. METHOD § 2, § 3: test 5 % first, of the rest SFT 30 % and GRPO 70 %.

The unit is the group (an article by its title, else a passage, else an item), so that nothing learned from one article
is asked in the test. What is still nearly the same on both sides of a split is removed and counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import InvariantError
from lm_mixup.neighbors import search
from lm_mixup.ports import Vectors


class Split(StrEnum):
    """Where a row goes."""

    TEST = "test"
    SFT = "sft"
    GRPO = "grpo"


def assign(
    weights: Mapping[str, int],
    *,
    strata: Mapping[str, str] | None = None,
    test: float = 0.05,
    sft: float = 0.30,
    seed: int = 0,
) -> dict[str, Split]:
    """Group → split. ``weights`` are the rows of each group; ``test`` is a share of all rows, ``sft`` of the rest.

    ``strata`` names a kind for each group (the task types that it serves): each kind is divided by itself, so that no
    split lacks a type; what one falls short the next makes up. Within a kind groups are gone through in a random order
    fixed by the seed; one is taken where the split comes nearer to its share by it.
    """
    if not (0 <= test < 1 and 0 <= sft <= 1):
        raise ValueError(f"shares: expected test in [0, 1) and sft in [0, 1], got {test} and {sft}")
    kinds: dict[str, list[str]] = {}
    for name in sorted(weights):
        kinds.setdefault((strata or {}).get(name, ""), []).append(name)
    out: dict[str, Split] = {}
    owed = {Split.TEST: 0.0, Split.SFT: 0.0}
    # the kinds with the largest groups first: the many single items after them even out what they miss
    for kind in sorted(kinds, key=lambda k: (-max(weights[n] for n in kinds[k]), k)):
        names = kinds[kind]
        random.Random(f"split:{seed}:{kind}").shuffle(names)
        total = sum(weights[name] for name in names)
        for split, share in ((Split.TEST, test), (Split.SFT, (1 - test) * sft)):
            wanted = share * total + owed[split]
            full = 0
            for name in names:
                if name not in out and full + weights[name] / 2 < wanted:
                    out[name] = split
                    full += weights[name]
            owed[split] = wanted - full
        out.update((name, Split.GRPO) for name in names if name not in out)
    return out


def split_of(groups: Sequence[str], assigned: Mapping[str, Split]) -> Split:
    """The split of a row that rests on these groups. Raises InvariantError if they are in different ones."""
    splits = {assigned[group] for group in groups}
    if len(splits) != 1:
        raise InvariantError(f"groups {sorted(groups)} are in the splits {sorted(splits)}: a row needs one")
    return splits.pop()


def check_no_overlap(groups: Sequence[Sequence[str]], splits: Sequence[Split]) -> None:
    """Raise InvariantError if a group stands in two splits."""
    seen: dict[str, Split] = {}
    for row, split in zip(groups, splits, strict=True):
        for group in row:
            if seen.setdefault(group, split) != split:
                raise InvariantError(f"group {group!r} is in {seen[group]} and in {split}; please report this")


def leaks(
    vectors: Vectors, splits: Sequence[Split], *, threshold: float = 0.92
) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
    """(n,) which rows are nearly the same as one across a split, and how many by reason.

    ``vectors`` (n, dim) are unit rows. The test part is kept whole: its twins go from SFT and GRPO; then those of SFT
    from GRPO. Exact search.
    """
    split = np.array([str(s) for s in splits])
    gone = np.zeros(len(split), np.bool_)
    counts: Counter[str] = Counter()
    for base, other in ((Split.TEST, Split.SFT), (Split.TEST, Split.GRPO), (Split.SFT, Split.GRPO)):
        there = np.flatnonzero((split == str(base)) & ~gone)
        rows = np.flatnonzero((split == str(other)) & ~gone)
        if len(there) and len(rows):
            nearest = search(vectors[rows], vectors[there], 1)[1][:, 0]
            twins = rows[nearest >= np.float16(threshold)]
            gone[twins] = True
            if len(twins):
                counts[f"{other}-row-near-{base}"] += len(twins)
    return gone, counts
