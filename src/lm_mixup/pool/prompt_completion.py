"""The prompt–completion format under its many names, and TRL's, whose two columns may be lists of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_mixup.pool.alpaca import text
from lm_mixup.pool.messages import messages_from_turns
from lm_mixup.records import Message

PROMPTS = ("prompt", "question", "query", "inputs", "input", "problem")
COMPLETIONS = ("completion", "response", "answer", "targets", "target", "output", "solution")


def messages_from_pair(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    """The messages of a row. ``columns`` maps ``prompt`` and ``completion``. Raises :class:`RowProblem`."""
    return (
        *_side(row, columns["prompt"], "user"),
        *_side(row, columns["completion"], "assistant"),
    )


def _side(row: Mapping[str, Any], column: str, role: str) -> tuple[Message, ...]:
    if isinstance(row.get(column), list):
        return messages_from_turns(row[column], column)
    return (Message(role, text(row, column)),)
