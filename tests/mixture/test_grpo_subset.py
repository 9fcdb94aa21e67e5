"""The GRPO subset: no near-duplicates, the rarer half of each type."""

from __future__ import annotations

import numpy as np

from lm_mixup.mixture.grpo_subset import grpo_subset


def test_copies_go_and_the_rarer_half_of_each_type_stays() -> None:
    rng = np.random.default_rng(1)
    crowd = rng.standard_normal(16) + 0.45 * rng.standard_normal((40, 16))
    rare = rng.standard_normal((10, 16)) * 3
    half = np.concatenate([crowd, rare, crowd[:1]]).astype(np.float32)
    rows = np.concatenate([half, half])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    types = ["qa"] * 51 + ["tfq"] * 51
    kept, out = grpo_subset(rows, types)
    assert len(types) == kept.sum() + sum(out.values())
    assert out["near-duplicate"] >= 2
    for start in (0, 51):
        assert kept[start + 40 : start + 50].mean() == 1.0
        assert not kept[start + 50]
    assert np.array_equal(kept[:51], kept[51:])


def test_few_rows() -> None:
    assert grpo_subset(np.eye(4, dtype=np.float32)[:1], ["qa"])[0].tolist() == [True]
    assert grpo_subset(np.zeros((0, 4), np.float32), [])[0].tolist() == []
