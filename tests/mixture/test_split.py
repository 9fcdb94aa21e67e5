"""Splits: by group, near the wanted shares, and nothing nearly the same across."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import InvariantError
from lm_mixup.mixture.split import Split, assign, check_no_overlap, leaks, split_of


@given(st.lists(st.integers(1, 12), min_size=200, max_size=400), st.integers(0, 50))
def test_shares_are_met_to_within_a_group(sizes: list[int], seed: int) -> None:
    weights = {f"g{n}": size for n, size in enumerate(sizes)}
    assigned = assign(weights, seed=seed)
    total = sum(sizes)
    of = {split: sum(weights[g] for g, s in assigned.items() if s == split) for split in Split}
    assert abs(of[Split.TEST] - 0.05 * total) <= 12
    assert abs(of[Split.SFT] - 0.95 * 0.30 * total) <= 24
    assert sum(of.values()) == total
    assert assign(weights, seed=seed) == assigned


def test_every_kind_has_its_share_in_every_split() -> None:
    weights = {f"{kind}{n}": 1 for kind in "abc" for n in range(100)}
    assigned = assign(weights, strata={g: g[0] for g in weights})
    for kind in "abc":
        assert sum(s == Split.TEST for g, s in assigned.items() if g[0] == kind) == 5


def test_a_group_larger_than_the_test_part_stays_out_of_it() -> None:
    weights = {"giant": 500, **{f"g{n}": 1 for n in range(500)}}
    assigned = assign(weights)
    assert assigned["giant"] != Split.TEST


def test_groups_across_splits_are_a_bug() -> None:
    assigned = {"a": Split.SFT, "b": Split.TEST}
    assert split_of(["a"], assigned) == Split.SFT
    with pytest.raises(InvariantError):
        split_of(["a", "b"], assigned)
    check_no_overlap([["a"], ["b"], ["a"]], [Split.SFT, Split.TEST, Split.SFT])
    with pytest.raises(InvariantError, match="'a'"):
        check_no_overlap([["a"], ["b", "a"]], [Split.SFT, Split.TEST])


def test_twins_across_splits_go_and_the_test_part_stays() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((6, 32)).astype(np.float32)
    rows = np.concatenate([base, base[[0, 1, 2]] + 0.01])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    # 0 test with twin 6 in sft; 1 sft with twin 7 in grpo; 2 and 8 both in grpo
    splits = [Split(s) for s in ("test", "sft", "grpo", "sft", "grpo", "test", "sft", "grpo", "grpo")]
    gone, counts = leaks(rows, splits)
    assert np.flatnonzero(gone).tolist() == [6, 7]
    assert counts == {"sft-row-near-test": 1, "grpo-row-near-sft": 1}
