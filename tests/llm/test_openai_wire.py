"""The protocol without a socket: bodies as servers write them."""

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lm_mixup.llm.openai_wire import Fault, Reply, Stream, read_error, read_reply, request_body, retry_after_seconds
from lm_mixup.ports import Prompt


def body(message, finish="stop", **more):
    return orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more})


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (body({"content": "hi"}), "hi"),
        (body({"content": ""}), ""),
        (body({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "ab"),
        (body({"content": "a\x00b"}), "ab"),
        (b'{"choices":[{"message":{"content":"a\\ud800b"}}]}', "a?b"),
        (body({"content": "hi"}, None), "hi"),
        (body({"content": None, "refusal": "No."}), "No."),
        (body({"content": None, "reasoning_content": "hm"}, "length"), ""),
    ],
)
def test_answers(raw, text):
    reply = read_reply(raw)
    assert isinstance(reply, Reply), reply
    assert reply.text == text
    reply.text.encode()


def test_token_counts_are_none_where_unknown_and_the_length_is_told():
    reply = read_reply(body({"content": "x"}, "length", usage={"prompt_tokens": 3}))
    assert (reply.prompt_tokens, reply.completion_tokens, reply.finish_reason) == (3, None, "length")


def test_reasoning_is_kept_beside_the_answer():
    assert read_reply(body({"content": "x", "reasoning_content": "t"})).details == {"reasoning": "t"}


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b'"x"', b"<html>", b'{"choices": null}', b'{"choices": []}', b'{"choices": [1]}',
     b'{"choices": [{"message": null}]}', b'{"choices": [{"message": {"content": null}}]}', b"\xff\xfe",
     body({"content": "half"})[:-5], b'{"error": {"message": "overloaded"}}', b'{"error": "x"}'],
)  # fmt: skip
def test_what_is_no_answer_is_a_fault_that_is_asked_again(raw):
    fault = read_reply(raw)
    assert isinstance(fault, Fault)
    assert fault.retry


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(
    st.sampled_from(["choices", "message", "content", "usage", "error", "finish_reason", "delta"]), c)).map(
        lambda v: orjson.dumps(v, option=orjson.OPT_NON_STR_KEYS) if not _too_large(v) else b""))  # fmt: skip
@example(b'{"choices":1}')
@example(b'{"choices":[{"delta":1,"finish_reason":2}]}')
@example(b'{"choices":[{"delta":{"content":1,"reasoning":[1]}}],"usage":7}')
def test_no_body_raises(raw):
    assert isinstance(read_reply(raw), Reply | Fault)
    assert isinstance(read_error(400, raw, None), Fault)
    stream = Stream()
    stream.feed(b"data: " + raw.replace(b"\n", b""))
    assert isinstance(stream.reply(), Reply | Fault)


def _too_large(value):
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) >= 2**63
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_too_large(part) for part in parts)


@pytest.mark.parametrize(
    ("status", "message", "kind", "retry"),
    [
        (429, {}, "http-429", True),
        (429, {"code": "insufficient_quota"}, "no-quota", False),
        (503, {}, "http-503", True),
        (500, {}, "http-500", True),
        (408, {}, "http-408", True),
        (401, {"message": "bad key"}, "http-401", False),
        (404, {"message": "no such model"}, "http-404", False),
        (400, {"code": "context_length_exceeded"}, "context-length", False),
        (400, {"message": "This model's maximum context length is 8 tokens"}, "context-length", False),
        (400, {"message": "request (6031 tokens) exceeds the available context size"}, "context-length", False),
        (413, {"message": "prompt is too long"}, "context-length", False),
        (400, {"message": "nonsense"}, "bad-request", False),
    ],
)  # fmt: skip
def test_what_statuses_mean(status, message, kind, retry):
    fault = read_error(status, orjson.dumps({"error": message}), None)
    assert (fault.kind, fault.retry) == (kind, retry)


@pytest.mark.parametrize(
    ("message", "param", "refused"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported.", "max_tokens", "max_completion_tokens"),
        ("Unsupported value: 'temperature' does not support 0", "temperature", "temperature"),
        ("Unrecognized request argument supplied: repetition_penalty", "", "repetition_penalty"),
        ("response_format.type: json_schema is unavailable", "", "json_schema"),
        ("Extra inputs are not permitted: seed", "", "seed"),
        ("The temperature of the sea is 12", "", ""),
        ("messages: unsupported role", "messages", ""),
    ],
)  # fmt: skip
def test_what_a_server_does_not_support(message, param, refused):
    assert read_error(400, orjson.dumps({"error": {"message": message, "param": param}}), None).refused == refused


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("", 0), ("3", 3), ("0.5", 0.5), ("-1", 0), ("soon", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90)],
)
def test_retry_after(header, seconds):
    assert retry_after_seconds(header, 10.0) == seconds


def test_a_body_holds_what_was_asked_and_nothing_else():
    prompt = Prompt("id7", ({"role": "user", "content": "x"},), 9, 0.5, 0.9, 1.1, ("s",), 3, {"type": "object"})
    sent = orjson.loads(request_body("m", prompt, (), stream=True, extra={"top_k": 1}))
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "id7" not in str(sent)
    plain = orjson.loads(request_body("m", Prompt("i", prompt.messages), (), stream=False, extra={}))
    assert set(plain) == {"model", "messages", "max_tokens", "temperature"}


def test_a_stream_in_pieces():
    stream = Stream()
    for line in (
        b": ping", b"", b"event: message", b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}',
        b'data:{"choices":[{"index":1,"delta":{"content":"other choice"}}]}',
        b'data: {"choices":[{"index":0,"delta":{"reasoning":"t"},"finish_reason":"length"}]}',
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}', b"data: [DONE]",
    ):  # fmt: skip
        assert stream.feed(line) is None
    assert stream.reply() == Reply("a", "length", 1, 2, {"reasoning": "t"})
    assert stream.done
