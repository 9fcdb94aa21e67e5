"""The ShareGPT format: turns of ``from`` and ``value``, also with function calls as LLaMA-Factory writes them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from lm_mixup.pool.messages import as_turns, kind, text_of
from lm_mixup.pool.rows import RowProblem
from lm_mixup.records import Message

ROLES: Mapping[str, str] = MappingProxyType(
    {
        "system": "system",
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "assistant": "assistant",
        "chatgpt": "assistant",
        "bing": "assistant",
        "bard": "assistant",
        "model": "assistant",
        "tool": "tool",
        "observation": "tool",
        "function_response": "tool",
        "function_call": "assistant",
        "tool_call": "assistant",
    }
)
"""Who speaks in the ShareGPT files that circulate, and the roles that they come down to."""

CALLS = frozenset({"function_call", "tool_call"})


def messages_from_sharegpt(value: Any, column: str) -> tuple[Message, ...]:
    """The messages of a list of ``{"from", "value"}``; raises :class:`RowProblem`. Not yet checked as a whole."""
    return tuple(_message(turn, f"{column}[{i}]") for i, turn in enumerate(as_turns(value, column)))


def _message(turn: Mapping[str, Any], where: str) -> Message:
    who = turn.get("from")
    if not isinstance(who, str):
        raise RowProblem("missing-field" if who is None else "wrong-type", f"{where}.from is {kind(who)}")
    role = ROLES.get(who.lower())
    if role is None:
        raise RowProblem("unknown-role", f"{where}.from is {who!r}, known: {', '.join(ROLES)}")
    if "value" not in turn:
        raise RowProblem("missing-field", f"{where}.value is missing")
    content = text_of(turn["value"], f"{where}.value")
    extra = {k: v for k, v in turn.items() if k not in ("from", "value") and v is not None}
    if who.lower() in CALLS and (calls := _calls(content)):
        content, extra = "", {**extra, "tool_calls": calls}
    return Message(role, content, extra) if extra else Message(role, content)


def _calls(text: str) -> list[dict[str, Any]]:
    """OpenAI tool calls from ``{"name", "arguments"}`` or a list of them as JSON; [] where the text is neither."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return []
    return [
        {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}}
        for call in calls
    ]
