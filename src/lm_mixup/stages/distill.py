"""Distill: every cluster becomes one sample (METHOD § 1, step 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from lm_mixup.pool.table import decode_messages, encode_messages
from lm_mixup.ports import Distiller
from lm_mixup.records import UNKNOWN_LANGUAGE, Cluster, Distillate, Failure, Sample, TaskType
from lm_mixup.stages.rowwise import Progress, fill, silent
from lm_mixup.store import Store

STORE_SCHEMA = pa.schema(
    [
        pa.field("answer", pa.string()),
        pa.field("messages", pa.string()),
        pa.field("think", pa.string()),
        pa.field("used", pa.list_(pa.int32())),
    ]
)
"""``used`` are positions in the cluster: ids may change where the content does not."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("task_type", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_ids", pa.list_(pa.string()), nullable=False),
        pa.field("used_ids", pa.list_(pa.string())),
        pa.field("answer", pa.string()),
        pa.field("messages", pa.string()),
        pa.field("think", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
"""One row a cluster; ``id`` is the cluster's id. Where distilling failed: ``reason`` and ``detail``."""


class DistillStage:
    """Distills clusters through a store: a cluster whose members did not change is not distilled again."""

    def __init__(self, distiller: Distiller, store: Store, *, chunk_clusters: int = 256) -> None:
        self._distiller = distiller
        self._store = store
        self._chunk_clusters = chunk_clusters

    def run(self, batches: Iterable[Sequence[Cluster]], progress: Progress = silent) -> Iterator[pa.RecordBatch]:
        """One record per cluster, in order."""
        for clusters in batches:
            keys = [c.digest for c in clusters]
            failures = fill(
                self._store,
                keys,
                clusters,
                self._distiller.distill,
                _encode,
                chunk=self._chunk_clusters,
                progress=progress,
            )
            taken = iter(self._store.take([k for k in keys if k not in failures]).to_pylist())
            rows = [
                _failed(cluster, failures[key]) if key in failures else _row(cluster, next(taken))
                for cluster, key in zip(clusters, keys, strict=True)
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def read(table: pa.Table) -> list[Distillate]:
    """The distillates of a table of this stage's records; failed clusters are left out."""
    return [
        Distillate(
            id=row["id"],
            cluster=row["id"],
            task_type=TaskType(row["task_type"]),
            language=row["language"],
            source=row["source"],
            source_ids=tuple(row["source_ids"]),
            used_ids=tuple(row["used_ids"]),
            answer=row["answer"],
            messages=decode_messages(row["messages"]),
            think=row["think"],
        )
        for row in table.to_pylist()
        if row["answer"] is not None
    ]


def as_cluster(name: str, samples: list[Sample], ratings: Iterable[float]) -> Cluster:
    """Samples as a cluster. Its source names all of theirs; its language is the commonest known one."""
    sources = {s.source for s in samples}
    languages = [s.language for s in samples if s.language != UNKNOWN_LANGUAGE]
    return Cluster(
        id=name,
        task_type=samples[0].task_type,
        language=max(sorted(set(languages)), key=languages.count) if languages else UNKNOWN_LANGUAGE,
        source=samples[0].source if len(sources) == 1 else "+".join(sorted(sources)),
        samples=tuple(samples),
        ratings=tuple(round(float(r), 4) for r in ratings),
    )


def _encode(cluster: Cluster, distillate: Distillate) -> tuple[object, ...]:
    if distillate.cluster != cluster.id or not set(distillate.used_ids) <= set(cluster.source_ids):
        raise ValueError(
            f"distiller: expected a distillate of cluster {cluster.id} with used_ids among {cluster.source_ids}, "
            f"got cluster {distillate.cluster} with used_ids {distillate.used_ids}"
        )
    place = {id_: position for position, id_ in enumerate(cluster.source_ids)}
    used = [place[id_] for id_ in distillate.used_ids]
    return distillate.answer, encode_messages(distillate.messages), distillate.think, used


def _row(cluster: Cluster, stored: dict[str, object]) -> dict[str, object]:
    used = stored.pop("used")
    assert isinstance(used, list)
    return _base(cluster) | stored | {"used_ids": [cluster.source_ids[i] for i in used]}


def _failed(cluster: Cluster, failure: Failure) -> dict[str, object]:
    return _base(cluster) | {"reason": failure.reason, "detail": failure.detail}


def _base(cluster: Cluster) -> dict[str, object]:
    return {
        "id": cluster.id,
        "task_type": str(cluster.task_type),
        "language": cluster.language,
        "source": cluster.source,
        "source_ids": list(cluster.source_ids),
    }
