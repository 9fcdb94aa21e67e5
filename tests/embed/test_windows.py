"""Windows and batches."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.embed.windows import batches, window_spans


@given(st.integers(0, 5000), st.integers(1, 300), st.integers(1, 6))
def test_windows_cover_or_sample_the_whole_text(tokens: int, width: int, max_windows: int) -> None:
    spans = window_spans(tokens, width, max_windows)
    assert 1 <= len(spans) <= max_windows
    assert all(0 <= begin <= end <= tokens and end - begin <= width for begin, end in spans)
    assert spans[0][0] == 0
    if tokens <= width * max_windows:
        # every token once, in windows of (nearly) one length
        assert spans[-1][1] == tokens
        assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
        lengths = [end - begin for begin, end in spans]
        assert max(lengths) - min(lengths) <= 1
    else:
        assert all(end - begin == width for begin, end in spans)
        assert max_windows == 1 or spans[-1][1] == tokens
        gaps = np.diff([begin for begin, _ in spans])
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


@given(st.lists(st.integers(1, 256), max_size=80), st.integers(16, 600), st.sampled_from([1, 8, 16]))
def test_batches_hold_every_window_once_at_its_own_padded_length(
    lengths: list[int], batch_tokens: int, step: int
) -> None:
    seen: list[int] = []
    for rows, length in batches(lengths, batch_tokens=batch_tokens, step=step):
        assert length % step == 0
        assert all(length - step < lengths[row] <= length for row in rows)
        assert len(rows) == 1 or len(rows) * length <= batch_tokens
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))
