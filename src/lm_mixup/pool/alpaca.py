"""The Alpaca format, and Dolly's under other names: instruction, input | context, output | response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_mixup.pool.messages import kind
from lm_mixup.pool.rows import RowProblem
from lm_mixup.records import Message

INPUTS = ("input", "context")
OUTPUTS = ("output", "response", "completion", "answer")

JOIN = "\n\n"
"""Between the instruction and its input: what Alpaca's and Dolly's own training code puts between sections."""


def messages_from_alpaca(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    """The messages of a row. ``columns`` maps ``instruction``, ``output`` and maybe ``input``, ``history`` to names.

    ``history`` is LLaMA-Factory's list of earlier ``[question, answer]`` pairs. Raises :class:`RowProblem`.
    """
    instruction = text(row, columns["instruction"])
    given = text(row, columns["input"]) if "input" in columns else ""
    prompt = JOIN.join(part for part in (instruction, given) if part.strip())
    earlier = _history(row.get(columns["history"]), columns["history"]) if "history" in columns else []
    return (*earlier, Message("user", prompt), Message("assistant", text(row, columns["output"])))


def text(row: Mapping[str, Any], column: str) -> str:
    """A column's text, "" where it is null; raises :class:`RowProblem` where it is anything else."""
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowProblem("wrong-type", f"{column} is {kind(value)}, expected text")
    return value


def _history(value: Any, column: str) -> list[Message]:
    if value is None:
        return []
    ok = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in value
    )
    if not ok:
        raise RowProblem("wrong-type", f"{column} is {kind(value)}, expected a list of [question, answer]")
    return [Message(role, said) for pair in value for role, said in zip(("user", "assistant"), pair, strict=True)]
