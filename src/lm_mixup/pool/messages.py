"""The ``messages`` format (OpenAI): turns of ``role`` and ``content``; and what makes any conversation usable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lm_mixup.pool.rows import RowProblem
from lm_mixup.records import Message

ROLES: Mapping[str, str] = MappingProxyType(
    {
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "assistant",
        "tool": "tool",
        "function": "tool",
    }
)
"""OpenAI's roles, and the four of :class:`lm_mixup.records.Message` that they come down to."""

PART_SEPARATOR = "\n"
"""Between the text parts of one turn: as vLLM joins them for a model that takes plain text."""


def messages_from_turns(value: Any, column: str) -> tuple[Message, ...]:
    """The messages of a list of ``{"role", "content"}``; raises :class:`RowProblem`. Not yet checked as a whole."""
    return tuple(_message(turn, f"{column}[{i}]") for i, turn in enumerate(as_turns(value, column)))


def as_turns(value: Any, column: str) -> Sequence[Mapping[str, Any]]:
    """A column of turns as a list of objects: a list, its JSON as text (CSV), or columns of a table (Arrow structs)."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowProblem("wrong-type", f"{column} is text that is no JSON list") from None
    if isinstance(value, Mapping):
        # datasets' Sequence of a struct is stored as a struct of lists
        lists = {key: part for key, part in value.items() if part is not None}
        if not lists or not all(isinstance(p, list) for p in lists.values()) or len({*map(len, lists.values())}) > 1:
            raise RowProblem("wrong-type", f"{column} is an object, expected a list of turns")
        value = [dict(zip(lists, turn, strict=True)) for turn in zip(*lists.values(), strict=True)]
    if not isinstance(value, list):
        raise RowProblem("wrong-type", f"{column} is {kind(value)}, expected a list of turns")
    for number, turn in enumerate(value):
        if not isinstance(turn, Mapping):
            raise RowProblem("wrong-type", f"{column}[{number}] is {kind(turn)}, expected an object")
    return value


def checked(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation, without empty system turns, if it can be learned from; raises :class:`RowProblem` if not.

    Somebody asks, the last turn is an assistant's and has text, and no turn of user or assistant is empty but an
    assistant's that calls a tool. Turns need not alternate; a greeting by the assistant may come first.
    """
    kept = tuple(m for m in messages if m.role != "system" or m.content.strip())
    if not kept:
        raise RowProblem("no-turns", "the conversation is empty")
    roles = {m.role for m in kept}
    if "user" not in roles:
        raise RowProblem("no-user-turn", f"turns by {', '.join(sorted(roles))}")
    if "assistant" not in roles:
        raise RowProblem("no-assistant-turn", f"turns by {', '.join(sorted(roles))}")
    last = kept[-1]
    if last.role != "assistant":
        raise RowProblem(f"ends-with-{last.role}", f"{len(kept)} turns")
    if not last.content.strip():
        if calls_tool(last):
            raise RowProblem("answer-is-tool-call", "the last turn holds only tool calls")
        raise RowProblem("empty-answer", "the last turn has no text")
    for number, message in enumerate(kept[:-1]):
        if message.role == "user" and not message.content.strip():
            raise RowProblem("empty-prompt", f"turn {number + 1} of {len(kept)}")
        if message.role == "assistant" and not message.content.strip() and not calls_tool(message):
            raise RowProblem("empty-turn", f"turn {number + 1} of {len(kept)}")
    return kept


def calls_tool(message: Message) -> bool:
    """Whether the turn calls a tool (also by the older ``function_call``)."""
    return bool(message.extra.get("tool_calls") or message.extra.get("function_call"))


def text_of(content: Any, where: str) -> str:
    """The text of a turn's content: a string, null (""), or a list of text parts. Raises :class:`RowProblem`."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list):
        return PART_SEPARATOR.join(_part(part, f"{where}[{i}]") for i, part in enumerate(content))
    raise RowProblem("wrong-type", f"{where} is {kind(content)}, expected text or a list of parts")


def kind(value: Any) -> str:
    """What a value is, in JSON's words, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case Mapping():
            return "an object"
    return type(value).__name__


def _message(turn: Mapping[str, Any], where: str) -> Message:
    role = turn.get("role")
    if not isinstance(role, str):
        raise RowProblem("missing-field" if role is None else "wrong-type", f"{where}.role is {kind(role)}")
    known = ROLES.get(role)
    if known is None:
        raise RowProblem("unknown-role", f"{where}.role is {role!r}, known: {', '.join(ROLES)}")
    extra = {k: v for k, v in turn.items() if k not in ("role", "content") and v is not None}
    if isinstance(extra.get("tool_calls"), str):  # as our own Parquet export writes them
        try:
            extra["tool_calls"] = json.loads(extra["tool_calls"])
        except (ValueError, RecursionError):
            raise RowProblem("wrong-type", f"{where}.tool_calls is text that is no JSON") from None
    if "content" not in turn and not (extra.get("tool_calls") or extra.get("function_call")):
        raise RowProblem("missing-field", f"{where}.content is missing")
    content = text_of(turn.get("content"), f"{where}.content")
    return Message(known, content, extra) if extra else Message(known, content)


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise RowProblem("wrong-type", f"{where} is {kind(part)}, expected a part")
    text = part.get("text")
    if part.get("type", "text") in ("text", "input_text", "output_text") and isinstance(text, str):
        return text
    raise RowProblem("non-text-content", f"{where} is of type {part.get('type')!r}")
