"""The pool of a run on disk: what was written is read, in batches and by row number."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.pool import table
from lm_mixup.pool.table import PoolTable, decode_messages, encode_messages, write_table
from lm_mixup.records import Message, Sample, TaskType

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=30)


def as_row(sample: Sample) -> dict[str, object]:
    return {
        "id": sample.id,
        "source": sample.source,
        "pool": "p",
        "line": 1,
        "task_type": str(sample.task_type),
        "language": sample.language,
        "digest": sample.digest,
        "messages": encode_messages(sample.messages),
        "fields": orjson.dumps(dict(sample.fields)).decode(),
        "rating": None,
    }


def sample(number: int, text: str) -> Sample:
    messages = (Message("user", text), Message("assistant", f"{text}!", {"tool_calls": [{"n": number}]}))
    return Sample(f"s{number}", messages, "source", TaskType.CS, "de", {"k": [number, text]})


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(TEXT, max_size=11), data=st.data())
def test_rows_come_back_in_order_and_by_number(tmp_path_factory, texts, data):
    path = tmp_path_factory.mktemp("table") / "records.arrow"
    samples = [sample(i, text) for i, text in enumerate(texts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "BATCH_ROWS", 4)  # several batches from a few rows
        assert write_table(path, (as_row(s) for s in samples)) == len(samples)
    read = PoolTable(path)
    assert len(read) == len(samples)
    assert [s for batch in read.batches() for s in batch] == samples
    if samples:
        wanted = data.draw(st.lists(st.integers(0, len(samples) - 1), max_size=9))
        assert read.rows(wanted) == [samples[i] for i in wanted]
        assert read.column("digest").to_pylist() == [s.digest for s in samples]


def test_messages_keep_all_their_keys():
    messages = (Message("tool", "", {"tool_call_id": "c", "name": "x"}), Message("assistant", "ünï 🎈 ‮rtl"))
    assert decode_messages(encode_messages(messages)) == messages
