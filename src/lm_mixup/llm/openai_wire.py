"""The OpenAI chat-completions protocol: what is sent, what comes back, and what its errors mean. No sockets here.

Reading is forgiving where servers differ (content type, content as parts, token counts missing) and strict where an
answer would be incomplete: a body without a choice, or a stream without an end, is a fault and is asked again.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from lm_mixup.ports import Prompt

OPTIONAL = (
    "json_schema",
    "json_object",
    "repetition_penalty",
    "seed",
    "temperature",
    "top_p",
    "stop",
    "stream_options",
    "logprobs",
)
"""What a request may carry that some servers refuse. Refused ones are left out from then on (and said so)."""

MAX_COMPLETION_TOKENS = "max_completion_tokens"
"""In the set of refusals: the server wants this name instead of ``max_tokens``."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as it came. Token counts are None where the server did not say, ``id`` is "" then."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    details: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no answer. ``kind`` is a short kebab-case word; ``retry``: asking again may help.

    ``refused`` names what the server does not support, of what was sent (see :data:`OPTIONAL`).
    """

    kind: str
    detail: str = ""
    retry: bool = True
    congestion: bool = False
    retry_after_s: float = 0.0
    refused: str = ""

    @property
    def billed(self) -> bool:
        """Whether the server may have worked for it: an answer cut off on the way, or a failure behind a gateway."""
        server_side = self.kind.startswith("http-5") and self.kind not in ("http-503", "http-529")
        return server_side or self.kind in _BILLED


_BILLED = frozenset({"timeout", "connection-lost", "bad-body", "cut-off", "content-filter", "stale-answer"})


def request_body(
    model: str, prompt: Prompt, left_out: Collection[str], *, stream: bool, extra: Mapping[str, Any]
) -> bytes:
    """The JSON body of one request. ``left_out`` holds what the server has refused; ``extra`` is sent as it is."""
    body: dict[str, Any] = {"model": model, "messages": prompt.messages}
    body[MAX_COMPLETION_TOKENS if MAX_COMPLETION_TOKENS in left_out else "max_tokens"] = prompt.max_tokens
    if "temperature" not in left_out:
        body["temperature"] = prompt.temperature
    if prompt.top_p != 1.0 and "top_p" not in left_out:
        body["top_p"] = prompt.top_p
    if prompt.repetition_penalty != 1.0 and "repetition_penalty" not in left_out:
        body["repetition_penalty"] = prompt.repetition_penalty
    if prompt.stop and "stop" not in left_out:
        body["stop"] = prompt.stop
    if prompt.seed is not None and "seed" not in left_out:
        body["seed"] = prompt.seed
    if prompt.logprobs and "logprobs" not in left_out:
        body["logprobs"], body["top_logprobs"] = True, prompt.logprobs
    if prompt.schema is not None:
        if "json_schema" not in left_out:
            schema = {
                "name": _schema_name(str(prompt.schema.get("title", "answer"))),
                "schema": dict(prompt.schema),
                "strict": True,
            }
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif "json_object" not in left_out:
            body["response_format"] = {"type": "json_object"}
    if stream:
        body["stream"] = True
        if "stream_options" not in left_out:
            body["stream_options"] = {"include_usage": True}
    return orjson.dumps({**body, **extra})


@functools.lru_cache(maxsize=64)
def _schema_name(title: str) -> str:
    """A schema's title in the letters that servers take."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", title)[:64] or "answer"


def read_reply(body: bytes) -> Reply | Fault:
    """The answer in a complete (not streamed) body of status 200."""
    data = _json(body)
    if not isinstance(data, dict):
        return Fault("bad-body", f"expected a JSON object, got {excerpt(body)}")
    if "error" in data and not data.get("choices"):
        return read_error(500, body, None)  # some gateways send their errors with status 200
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return Fault("bad-body", f"expected choices[0].message, got {excerpt(body)}")
    text = _text(message.get("content"))
    details: dict[str, Any] = {}
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        details["reasoning"] = clean(reasoning)
    if probabilities := _logprobs(choice.get("logprobs")):
        details["logprobs"] = probabilities
    if text is None and isinstance(message.get("refusal"), str):
        text, details["refusal"] = message["refusal"], True
    return _finished(text, choice.get("finish_reason"), data.get("usage"), details, data.get("id"))


@dataclass
class Stream:
    """A streamed answer, line by line. Complete once a finish reason or ``[DONE]`` has come."""

    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _finish_reason: str | None = None
    _usage: Any = None
    _id: Any = None
    done: bool = False

    def feed(self, line: bytes) -> Fault | None:
        """Take one line of the event stream; a fault if it holds an error or is no event."""
        line = line.strip()
        if not line or line.startswith((b":", b"event:", b"id:", b"retry:")):
            return None
        if not line.startswith(b"data:"):
            return Fault("bad-body", f"expected a line of an event stream, got {excerpt(line)}")
        line = line.removeprefix(b"data:").strip()
        if line == b"[DONE]":
            self.done = True
            return None
        data = _json(line)
        if not isinstance(data, dict):
            return Fault("bad-body", f"expected a JSON object in an event, got {excerpt(line)}")
        if "error" in data:
            return read_error(500, line, None)
        self._usage = data.get("usage") or self._usage
        self._id = data.get("id") or self._id
        choices = data.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                delta = choice.get("delta")
                delta = delta if isinstance(delta, dict) else {}
                self._text.append(_text(delta.get("content")) or "")
                reasoning = delta.get("reasoning_content") or delta.get("reasoning")
                self._reasoning.append(reasoning if isinstance(reasoning, str) else "")
                self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return None

    def reply(self) -> Reply | Fault:
        """The whole answer, after the last line."""
        if self._finish_reason is None and not self.done:
            return Fault("cut-off", "the stream ended before its end was said")
        details = {"reasoning": clean("".join(self._reasoning))} if any(self._reasoning) else {}
        return _finished("".join(self._text), self._finish_reason, self._usage, details, self._id)


def read_error(status: int, body: bytes, retry_after: str | None, now_s: float = 0.0) -> Fault:
    """What an error status means. ``retry_after`` is the header; ``now_s`` the seconds since the epoch."""
    data = _json(body)
    error = data.get("error", data) if isinstance(data, dict) else None
    if isinstance(error, dict):
        message = str(error.get("message") or error.get("detail") or "")
        code, parameter = str(error.get("code") or error.get("type") or ""), str(error.get("param") or "")
    else:
        message, code, parameter = (error if isinstance(error, str) else ""), "", ""
    detail = f"HTTP {status}: {excerpt((message or code).encode() or body)}"
    wait_s = retry_after_seconds(retry_after, now_s)
    if status == 429:
        if code == "insufficient_quota":
            return Fault("no-quota", detail, retry=False)
        return Fault("http-429", detail, congestion=True, retry_after_s=wait_s)
    if status == 503 or status == 529:
        return Fault(f"http-{status}", detail, congestion=True, retry_after_s=wait_s)
    if status >= 500 or status in (408, 409, 425):
        return Fault(f"http-{status}", detail, retry_after_s=wait_s)
    if _CONTEXT.search(f"{code} {message}"):
        return Fault("context-length", detail, retry=False)
    if status in (400, 422):
        return Fault("bad-request", detail, retry=False, refused=_refused(parameter, message))
    return Fault(f"http-{status}", detail, retry=False)


_CONTEXT = re.compile(
    r"context[_ -]?(length|window|size)|maximum (context|prompt|input)|too many tokens|exceeds?.{0,40}\b(context|n_ctx)"
    r"|prompt is too long|string_above_max_length|input is too long",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|not permitted|not allowed|extra (inputs|fields)|unexpected"
    r"|not available|does not accept|unavailable|only the default",
    re.IGNORECASE,
)
_NAMED = (  # what a message may call a part of the request → what to leave out
    ("max_tokens", MAX_COMPLETION_TOKENS),
    ("json_schema", "json_schema"),
    ("response_format", "json_schema"),
    ("json_object", "json_object"),
    ("repetition_penalty", "repetition_penalty"),
    ("stream_options", "stream_options"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("seed", "seed"),
    ("top_logprobs", "logprobs"),
    ("logprobs", "logprobs"),
    ("stop", "stop"),
)


def _refused(parameter: str, message: str) -> str:
    """Which part of the request the server seems not to support, or "". Only a success without it confirms that."""
    for name, part in _NAMED:
        if parameter == name or parameter.startswith(name + "."):
            return part
    head = message[:600]
    if parameter or not _UNSUPPORTED.search(head):
        return ""
    return next((part for name, part in _NAMED if re.search(rf"\b{name}\b", head)), "")


def retry_after_seconds(header: str | None, now_s: float) -> float:
    """The seconds that a Retry-After header asks for (a number or a date); 0 where there is none that can be read."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def excerpt(body: bytes, limit: int = 200) -> str:
    """The beginning of a body on one line, for an error's text."""
    text = " ".join(body[: 4 * limit].decode("utf-8", "replace").split())
    return (text[:limit] + "…" if len(text) > limit else text) or "nothing"


def clean(text: str) -> str:
    """The text without what a record may not hold: NUL characters and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:  # lone surrogates, NaN: what orjson refuses and servers send
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _text(content: object) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # content parts
        parts = [p.get("text") for p in content if isinstance(p, dict)]
        return "".join(p for p in parts if isinstance(p, str))
    return None


def _logprobs(value: object) -> list[list[Any]]:
    """[[token, [[alternative, its log probability], …]], …] of an answer, [] where the server gave none."""
    content = value.get("content") if isinstance(value, dict) else None
    told: list[list[Any]] = []
    for place in content if isinstance(content, list) else ():
        if not isinstance(place, dict) or not isinstance(place.get("token"), str):
            return []
        pairs = [
            [clean(option["token"]), float(option["logprob"])]
            for option in place.get("top_logprobs") or ()
            if isinstance(option, dict)
            and isinstance(option.get("token"), str)
            and isinstance(option.get("logprob"), int | float)
        ]
        told.append([clean(place["token"]), pairs])
    return told


def _finished(
    text: str | None, finish_reason: object, usage: object, details: dict[str, Any], id_: object
) -> Reply | Fault:
    if finish_reason == "content_filter":
        return Fault("content-filter", "the server's content filter stopped the answer", retry=False)
    if text is None and not details:
        return Fault("bad-body", "expected text in choices[0].message.content, got none")
    counts = usage if isinstance(usage, dict) else {}
    tokens = [n if isinstance(n := counts.get(k), int) else None for k in ("prompt_tokens", "completion_tokens")]
    reason = "length" if finish_reason == "length" else "stop"
    return Reply(clean(text or ""), reason, tokens[0], tokens[1], details, id_ if isinstance(id_, str) else "")
