from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_mixup.errors import PoolError
from lm_mixup.pool import PoolOptions
from lm_mixup.records import TaskType

from .helpers import chat, pool_file, read_all, texts

USER, BOT = ("user", "Q?"), ("assistant", "A.")

LAYOUTS: dict[str, tuple[dict[str, Any], str, list[tuple[str, str]]]] = {
    "messages": (chat("Q?", "A."), "messages", [USER, BOT]),
    "messages in a column named conversations": (
        {"conversations": chat("Q?", "A.")["messages"]},
        "messages",
        [USER, BOT],
    ),
    "messages with a prompt beside them": ({"prompt": "Q?", **chat("Q?", "A.")}, "messages", [USER, BOT]),
    "messages as JSON text": (
        {"messages": '[{"role":"user","content":"Q?"},{"role":"assistant","content":"A."}]'},
        "messages",
        [USER, BOT],
    ),
    "messages as a struct of lists": (
        {"messages": {"role": ["user", "assistant"], "content": ["Q?", "A."]}},
        "messages",
        [USER, BOT],
    ),
    "developer and function roles": (
        {
            "messages": [
                {"role": "developer", "content": "S"},
                {"role": "user", "content": "Q?"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "1"},
                {"role": "assistant", "content": "A."},
            ]
        },
        "messages",
        [("system", "S"), USER, ("assistant", ""), ("tool", "1"), BOT],
    ),
    "an empty system turn": (
        {"messages": [{"role": "system", "content": ""}, *chat("Q?", "A.")["messages"]]},
        "messages",
        [USER, BOT],
    ),
    "system beside messages": ({"system": "S", **chat("Q?", "A.")}, "messages", [("system", "S"), USER, BOT]),
    "alpaca": ({"instruction": "Q?", "input": "", "output": "A."}, "alpaca", [USER, BOT]),
    "alpaca with input": (
        {"instruction": "Sum up.", "input": "Text {x}", "output": "A."},
        "alpaca",
        [("user", "Sum up.\n\nText {x}"), BOT],
    ),
    "alpaca without an input column": ({"instruction": "Q?", "output": "A."}, "alpaca", [USER, BOT]),
    "alpaca with history": (
        {"instruction": "Q?", "input": None, "output": "A.", "history": [["Q0", "A0"]], "system": "S"},
        "alpaca",
        [("system", "S"), ("user", "Q0"), ("assistant", "A0"), USER, BOT],
    ),
    "dolly": (
        {"instruction": "Q?", "context": "C", "response": "A.", "category": "qa"},
        "alpaca",
        [("user", "Q?\n\nC"), BOT],
    ),
    "prompt and completion": ({"prompt": "Q?", "completion": "A."}, "prompt-completion", [USER, BOT]),
    "prompt and completion beside an answer": (
        {"prompt": "Q?", "completion": "A.", "answer": "42"},
        "prompt-completion",
        [USER, BOT],
    ),
    "trl's conversational pair": (
        {"prompt": [{"role": "user", "content": "Q?"}], "completion": [{"role": "assistant", "content": "A."}]},
        "prompt-completion",
        [USER, BOT],
    ),
    "prompt and response": ({"prompt": "Q?", "response": "A."}, "prompt-completion", [USER, BOT]),
    "question and answer": ({"question": "Q?", "answer": "A."}, "prompt-completion", [USER, BOT]),
    "query and response": ({"query": "Q?", "response": "A."}, "prompt-completion", [USER, BOT]),
    "flan": ({"inputs": "Q?", "targets": "A."}, "prompt-completion", [USER, BOT]),
    "input and output": ({"input": "Q?", "output": "A."}, "prompt-completion", [USER, BOT]),
    "openorca": (
        {"system_prompt": "S", "question": "Q?", "response": "A."},
        "prompt-completion",
        [("system", "S"), USER, BOT],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]},
        "sharegpt",
        [USER, BOT],
    ),
    "sharegpt with a greeting and tools": (
        {
            "conversations": [
                {"from": "gpt", "value": "Hello"},
                {"from": "human", "value": "Q?"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                {"from": "observation", "value": "1"},
                {"from": "gpt", "value": "A."},
            ]
        },
        "sharegpt",
        [("assistant", "Hello"), USER, ("assistant", ""), ("tool", "1"), BOT],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_detected_and_read(name: str, tmp_path: Path) -> None:
    row, format_name, expected = LAYOUTS[name]
    (good,), bad, report = read_all(pool_file(tmp_path / "p.jsonl", [row]))
    assert not bad
    assert texts(good) == expected
    assert report.files[0].formats == {format_name: 1}
    assert good.raw == row


def test_rows_of_several_layouts_share_a_file(tmp_path: Path) -> None:
    good, bad, report = read_all(pool_file(tmp_path / "p.jsonl", [row for row, _, _ in LAYOUTS.values()]))
    assert not bad
    assert [texts(row) for row in good] == [expected for _, _, expected in LAYOUTS.values()]
    assert report.files[0].formats.total() == len(LAYOUTS)


def _turns(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


BAD: dict[str, list[dict[str, Any]]] = {
    "unknown-layout": [{"text": "x"}, {}, {"prompt": "Q?", "chosen": "a", "rejected": "b"}],
    "ambiguous-layout": [
        {"prompt": "Q?", "response": "A.", "answer": "B."},
        {"question": "Q?", "input": "P", "output": "A."},
        {"instruction": "Q?", "output": "A.", "response": "B."},
        {"instruction": "Q?", "input": "P", "context": "C", "output": "B."},
    ],
    "missing-field": [{"messages": [{"content": "Q?"}]}, {"messages": [{"role": "user"}]}],
    "wrong-type": [
        {"messages": "text"},
        {"messages": 3},
        {"messages": {"role": "user"}},
        {"messages": ["Q?", "A."]},
        {"messages": "[broken"},
        _turns(("user", {"a": 1}), BOT),
        _turns(("user", 5), BOT),
        {"messages": [{"role": 3, "content": "x"}]},
        {"prompt": "Q?", "completion": 42},
        {"instruction": ["Q?"], "output": "A."},
        {"instruction": "Q?", "output": "A.", "history": [["only one"]]},
        {"system": {"a": 1}, **_turns(USER, BOT)},
    ],
    "no-turns": [_turns(), {"conversations": []}, _turns(("system", " "))],
    "unknown-role": [
        _turns(("human", "Q?"), BOT),
        _turns(("User", "Q?"), BOT),
        {"conversations": [{"from": "alien", "value": "Q?"}]},
    ],
    "non-text-content": [
        _turns(("user", [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "Q?"}]), BOT),
        _turns(("user", [{"type": "text", "text": None}]), BOT),
    ],
    "no-user-turn": [_turns(("system", "S"), BOT)],
    "no-assistant-turn": [_turns(USER)],
    "ends-with-user": [_turns(USER, BOT, USER)],
    "ends-with-system": [_turns(USER, BOT, ("system", "S"))],
    "ends-with-tool": [_turns(USER, BOT, ("tool", "1"))],
    "answer-is-tool-call": [
        {
            "messages": [
                {"role": "user", "content": "Q?"},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            ]
        }
    ],
    "empty-prompt": [_turns(("user", "\u00a0"), BOT), {"instruction": "", "input": " ", "output": "A."}],
    "empty-answer": [_turns(USER, ("assistant", None)), {"prompt": "Q?", "completion": None}],
    "empty-turn": [_turns(USER, ("assistant", ""), USER, BOT)],
    "bad-id": [{"id": ["a"], **_turns(USER, BOT)}, {"id": True, **_turns(USER, BOT)}],
}


@pytest.mark.parametrize(("reason", "row"), [(reason, row) for reason, rows in BAD.items() for row in rows])
def test_a_bad_row_is_quarantined_with_its_reason(reason: str, row: dict[str, Any], tmp_path: Path) -> None:
    good, bad, _ = read_all(pool_file(tmp_path / "p.jsonl", [chat(), row, chat("Another?")]))
    assert len(good) == 2
    assert [(b.line, b.reason) for b in bad] == [(2, reason)]


def test_tool_calls_of_sharegpt_become_openai_ones(tmp_path: Path) -> None:
    row = LAYOUTS["sharegpt with a greeting and tools"][0]
    (good,), _, _ = read_all(pool_file(tmp_path / "p.jsonl", [row]))
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert good.sample.messages[2].extra["tool_calls"] == [call]


def test_null_keys_of_a_message_say_nothing(tmp_path: Path) -> None:
    row = chat()
    row["messages"][1] |= {"tool_calls": None, "refusal": None}
    (good,), _, _ = read_all(pool_file(tmp_path / "p.jsonl", [row]))
    assert not good.sample.messages[1].extra


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    rows = [{"q": "Q?", "a": "A.", "uid": 3, "stars": 4.5, "kind": "mcq", "from": "x", "lang": "de", "note": "n"}]
    path = pool_file(tmp_path / "p.jsonl", rows)
    names = {"prompt": "q", "completion": "a", "id": "uid", "rating": "stars", "task_type": "kind", "source": "from"}
    (good,), _, _ = read_all(path, PoolOptions(columns={**names, "language": "lang"}))
    sample = good.sample
    assert (sample.id, good.rating, sample.task_type) == ("3", 4.5, TaskType.MCQ)
    assert (sample.source, sample.language, sample.fields) == ("x", "de", {"note": "n"})


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"ask": "Q?", "extra": "C", "reply": "A."}, {"instruction": "ask", "input": "extra", "output": "reply"}),
        (
            {"chat": [{"role": "user", "content": "Q?\n\nC"}, {"role": "assistant", "content": "A."}]},
            {"messages": "chat"},
        ),
        (
            {"chat": [{"from": "human", "value": "Q?\n\nC"}, {"from": "gpt", "value": "A."}]},
            {"conversations": "chat"},
        ),
        ({"prompt": "Q?\n\nC", "response": "A.", "answer": "B."}, {"completion": "response"}),
    ],
)
def test_columns_choose_the_format(row: dict[str, Any], columns: dict[str, str], tmp_path: Path) -> None:
    (good,), _, _ = read_all(pool_file(tmp_path / "p.jsonl", [row]), PoolOptions(columns=columns))
    assert texts(good) == [("user", "Q?\n\nC"), BOT]


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    row = {"prompt": "Q1", "completion": "A1", **chat("Q2", "A2")}
    path = pool_file(tmp_path / "p.jsonl", [row])
    assert read_all(path)[0][0].sample.prompt == "Q2"
    assert read_all(path, PoolOptions(format="prompt-completion"))[0][0].sample.prompt == "Q1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (PoolOptions(format="chatml"), "known formats: messages, alpaca, prompt-completion, sharegpt"),
        (PoolOptions(columns={"promt": "q"}), "did you mean 'prompt'"),
        (PoolOptions(columns={"prompt": "q", "output": "a"}), "mixes formats"),
        (PoolOptions(columns={"rating": "a"}, rating_column="b"), "two rating columns"),
        (PoolOptions(rating_column="stars"), "'stars', which no row"),
        (PoolOptions(columns={"id": "uid"}), "'uid', which no row"),
    ],
)
def test_wrong_options_are_refused(options: PoolOptions, said: str, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=said):
        read_all(pool_file(tmp_path / "p.jsonl", [chat()]), options)


@pytest.mark.parametrize("count", [1, 150])
def test_a_file_of_unknown_layout_is_refused_as_a_whole(count: int, tmp_path: Path) -> None:
    path = pool_file(tmp_path / "p.jsonl", [{"text": "x", "label": n} for n in range(count)])
    with pytest.raises(PoolError) as caught:
        read_all(path)
    message = str(caught.value)
    assert "p.jsonl" in message
    assert "'label', 'text'" in message
    assert "sharegpt" in message
    assert "--columns" in message


def test_a_mapped_column_that_is_missing_everywhere_is_an_error(tmp_path: Path) -> None:
    path = pool_file(tmp_path / "p.jsonl", [{"prompt": "Q?", "completion": "A."}])
    with pytest.raises(PoolError, match="no field 'question'"):
        read_all(path, PoolOptions(columns={"prompt": "question", "completion": "completion"}))


def test_source_is_the_rows_own_or_the_files(tmp_path: Path) -> None:
    rows = [chat("a", source="own"), chat("b", source=""), chat("c", source=3), chat("d")]
    path = pool_file(tmp_path / "dolly-00001-of-00003.jsonl", rows)
    good, _, _ = read_all(path)
    assert [row.sample.source for row in good] == ["own", "dolly", "dolly", "dolly"]
    assert good[2].sample.fields == {"source": 3}
    left_alone, _, _ = read_all(path, PoolOptions(columns={"source": ""}))
    assert left_alone[0].sample.source == "dolly"
    assert left_alone[0].sample.fields == {"source": "own"}


def test_task_types_are_read_or_told(tmp_path: Path) -> None:
    statement = chat("True or false: Water is wet.", "True. It is.")
    rows = [
        chat("a", task_type="para_mixup"),
        chat("b", task_type="cs"),
        chat("c", task_type="other"),
        statement,
    ]
    path = pool_file(tmp_path / "p.jsonl", rows)
    good, _, _ = read_all(path)
    assert [str(row.sample.task_type) for row in good] == ["para", "cs", "qa", "tfq"]
    assert good[2].sample.fields == {"task_type": "other"}
    _, bad, _ = read_all(path, PoolOptions(columns={"task_type": "task_type"}))
    assert [(b.line, b.reason) for b in bad] == [(3, "unknown-task-type")]


def test_ratings_are_read_only_where_asked_for(tmp_path: Path) -> None:
    values = [4, 2.5, None, "3", "", "nan", 7, -0.1, "good", True, float("nan")]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(chat(str(n), rating=v)) + "\n" for n, v in enumerate(values)))
    good, bad, _ = read_all(path)
    assert not bad
    assert {row.rating for row in good} == {None}
    assert good[0].sample.fields == {"rating": 4}
    good, bad, _ = read_all(path, PoolOptions(rating_column="rating"))
    assert [row.rating for row in good] == [4.0, 2.5, None, 3.0, None, None, None]
    assert [(b.line, b.reason) for b in bad] == [(n, "bad-rating") for n in (7, 8, 9, 10)]
    assert all("rating" not in row.sample.fields for row in good)


def test_limit_counts_good_rows_over_all_files(tmp_path: Path) -> None:
    one = pool_file(tmp_path / "a.jsonl", [chat("1"), 3, chat("2")])
    two = pool_file(tmp_path / "b.jsonl", [chat("3"), chat("4")])
    good, bad, report = read_all([one, two], PoolOptions(limit=3))
    assert [row.sample.prompt for row in good] == ["1", "2", "3"]
    assert len(bad) == 1
    assert [file.complete for file in report.files] == [True, False]
