"""Step 8: what GRPO trains on. METHOD § 3: near-duplicates out, then the rarer half of each task type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors import build
from lm_mixup.ports import Vectors
from lm_mixup.selection import long_tail, near_duplicates


def grpo_subset(
    vectors: Vectors, task_types: Sequence[str], *, threshold: float = 0.92, share: float = 0.5, k: int = 16
) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
    """(n,) whether a row is in the subset, and how many are not, by reason.

    ``vectors`` (n, dim) are the rows' unit vectors. Within each task type, of rows of cosine ≥ ``threshold`` the first
    stays; of what is left the top ``share`` by long-tail score (mean cosine distance to the ``k`` nearest) stays.
    """
    kept = np.zeros(len(task_types), np.bool_)
    counts: Counter[str] = Counter()
    types = np.array([str(t) for t in task_types])
    for task_type in sorted(set(types.tolist())):
        rows = np.flatnonzero(types == task_type)
        distinct = rows[near_duplicates(vectors[rows], threshold=threshold).kept]
        counts["near-duplicate"] += len(rows) - len(distinct)
        # the scores are of what is left: a copy next door must not make a row common
        scores = long_tail(build(vectors[distinct], k), k=k)
        wanted = int(np.ceil(share * len(distinct)))
        best = distinct[np.lexsort((np.arange(len(distinct)), -scores))[:wanted]]
        kept[best] = True
        counts["common"] += len(distinct) - wanted
    return kept, +counts
