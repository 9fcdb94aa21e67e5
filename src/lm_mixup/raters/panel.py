"""Several raters as one: each rates every sample, and their mean or median counts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Literal

from lm_mixup.errors import InputError
from lm_mixup.ports import Rater
from lm_mixup.records import Failure, Rating, Sample, digest, rating_class

STAGE = "rate"

_COMBINE: dict[str, Callable[[list[float]], float]] = {"mean": statistics.fmean, "median": statistics.median}


class Panel:
    """Rates samples by several raters, named in ``raters``.

    A sample's rating is the ``combine`` of those raters that could rate it, if they are at least ``quorum`` (default:
    more than half), else it is a Failure ``too-few-raters``. Its details hold each one's rating by name (``panel``;
    None where it failed), the ``spread`` (largest minus smallest), and the ``agreement``: the share of pairs of raters
    that give the same class.
    """

    def __init__(
        self,
        raters: Mapping[str, Rater],
        *,
        combine: Literal["mean", "median"] = "mean",
        quorum: int | None = None,
    ) -> None:
        if len(raters) < 2:
            raise InputError(f"a panel: expected at least two raters, got {len(raters)}")
        if combine not in _COMBINE:
            raise InputError(f"combine: expected mean or median, got {combine!r}")
        self._raters = dict(raters)
        self._combine = combine
        self._quorum = quorum if quorum is not None else len(raters) // 2 + 1
        if not 1 <= self._quorum <= len(raters):
            raise InputError(f"quorum: expected 1 to {len(raters)}, got {quorum}")

    @property
    def key(self) -> str:
        """A hash of the raters' names and keys, and of how they are combined."""
        parts = [{name: rater.key for name, rater in self._raters.items()}, self._combine, self._quorum]
        return "panel-" + digest(parts)[:16]

    @property
    def at_once(self) -> int | None:
        """How many samples its raters want to be given at a time (None: none of them cares)."""
        return max((wish for r in self._raters.values() if (wish := getattr(r, "at_once", None))), default=None)

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating, or a failure, per sample, in order."""
        columns = [rater.rate(samples) for rater in self._raters.values()]
        return [self._together(sample, row) for sample, row in zip(samples, zip(*columns, strict=True), strict=True)]

    def _together(self, sample: Sample, row: Sequence[Rating | Failure]) -> Rating | Failure:
        values = [rating.value for rating in row if isinstance(rating, Rating)]
        if len(values) < self._quorum:
            why = "; ".join(
                f"{name}: {failed.reason}"
                for name, failed in zip(self._raters, row, strict=True)
                if isinstance(failed, Failure)
            )
            return Failure(sample.id, STAGE, "too-few-raters", f"{len(values)} of {len(row)} rated it ({why})")
        pairs = list(combinations([rating_class(value) for value in values], 2))
        by_name = {
            name: rating.value if isinstance(rating, Rating) else None
            for name, rating in zip(self._raters, row, strict=True)
        }
        details = {
            "panel": by_name,
            "spread": round(max(values) - min(values), 4),
            "agreement": round(sum(a == b for a, b in pairs) / len(pairs), 4) if pairs else None,
        }
        return Rating(_COMBINE[self._combine](values), MappingProxyType(details))
