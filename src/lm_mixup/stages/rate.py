"""Rate: every sample, or every distillate, gets a rating in 0–5 from a rater (METHOD § 1, steps 1 and 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson
import pyarrow as pa

from lm_mixup.ports import Rater
from lm_mixup.records import Rating, Sample
from lm_mixup.stages.rowwise import Progress, fill, silent
from lm_mixup.store import Store

STORE_SCHEMA = pa.schema([pa.field("rating", pa.float64()), pa.field("details", pa.string())])

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("rating", pa.float64()),
        pa.field("details", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
"""``rating`` (0–5) and ``details`` (JSON), or, where rating failed, ``reason`` and ``detail``."""


class RateStage:
    """Rates samples through a store, so that equal content is rated once."""

    def __init__(self, rater: Rater, store: Store, *, chunk_rows: int = 2048) -> None:
        self._rater = rater
        self._store = store
        self._chunk_rows = chunk_rows

    def run(
        self,
        batches: Iterable[tuple[Sequence[Sample], Sequence[float | None]]],
        progress: Progress = silent,
    ) -> Iterator[pa.RecordBatch]:
        """One record per sample, in order. A batch is samples and the ratings they came with (None: to be rated)."""
        for samples, given in batches:
            to_rate = [s for s, rating in zip(samples, given, strict=True) if rating is None]
            progress(len(samples) - len(to_rate))
            keys = [s.digest for s in to_rate]
            failures = fill(
                self._store, keys, to_rate, self._rater.rate, _encode, chunk=self._chunk_rows, progress=progress
            )
            rated = self._store.take([k for k in keys if k not in failures]).to_pylist()
            rows, taken = [], iter(rated)
            for sample, rating in zip(samples, given, strict=True):
                if rating is not None:
                    rows.append(_row(sample.id, rating, '{"given":true}'))
                elif failure := failures.get(sample.digest):
                    rows.append(_row(sample.id, reason=failure.reason, detail=failure.detail))
                else:
                    row = next(taken)
                    rows.append(_row(sample.id, row["rating"], row["details"]))
            yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _encode(_: Sample, rating: Rating) -> tuple[float, str]:
    return rating.value, orjson.dumps(dict(rating.details), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _row(
    id_: str,
    rating: float | None = None,
    details: str | None = None,
    reason: str | None = None,
    detail: str | None = None,
) -> dict[str, object]:
    return {"id": id_, "rating": rating, "details": details, "reason": reason, "detail": detail}
