"""Which format a row is in, told by its fields' names alone, and which column plays which part."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lm_mixup.errors import PoolError
from lm_mixup.pool import alpaca, messages, prompt_completion, sharegpt
from lm_mixup.pool.rows import RowProblem
from lm_mixup.records import Message

FORMATS = ("messages", "alpaca", "prompt-completion", "sharegpt")

TURN_COLUMNS = ("messages", "conversations", "conversation")
SYSTEM_COLUMNS = ("system", "system_prompt")

PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "messages": ("messages",),
        "sharegpt": ("conversations",),
        "alpaca": ("instruction", "input", "output", "history"),
        "prompt-completion": ("prompt", "completion"),
    }
)
"""The parts of each format that a column can be named for."""

SIDE_PARTS = ("id", "source", "task_type", "rating", "language", "system")
"""Parts that every format has."""

KNOWN = (
    "messages (a list of role and content); "
    "alpaca or dolly (instruction, input or context, output or response); "
    "prompt-completion (prompt, completion and the like: "
    f"{', '.join(prompt_completion.PROMPTS)} with {', '.join(prompt_completion.COMPLETIONS)}); "
    "sharegpt (conversations: a list of from and value)"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """One reading of a row: its format's name, and the column of each part."""

    format: str
    columns: Mapping[str, str]

    def messages(self, row: Mapping[str, Any]) -> tuple[tuple[Message, ...], str]:
        """The row's conversation, checked, and the format that it turned out to have. Raises :class:`RowProblem`."""
        name = self.format
        match name:
            case "alpaca":
                found = alpaca.messages_from_alpaca(row, self.columns)
            case "prompt-completion":
                found = prompt_completion.messages_from_pair(row, self.columns)
            case _:
                column = self.columns["messages"]
                name = _turn_format(row.get(column), column)
                read = sharegpt.messages_from_sharegpt if name == "sharegpt" else messages.messages_from_turns
                found = read(row.get(column), column)
        if "system" in self.columns and not any(m.role == "system" for m in found):
            said = alpaca.text(row, self.columns["system"])
            found = (Message("system", said), *found)
        return messages.checked(found), name


@dataclass
class LayoutFinder:
    """Finds the layout of rows; remembers it by field names, so that a pool of one shape is looked at once."""

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise PoolError(f"unknown format {self.format!r}; known formats: {', '.join(FORMATS)}")
        parts = [*SIDE_PARTS, *(part for parts in PARTS.values() for part in parts)]
        for part in self.columns:
            if part not in parts:
                near = difflib.get_close_matches(part, parts, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise PoolError(f"--columns names an unknown part {part!r}{hint} Known parts: {', '.join(parts)}.")
        named = {name for name, parts in PARTS.items() if any(part in self.columns for part in parts)}
        named |= {self.format} if self.format else set()
        if len(named) > 1:
            raise PoolError(f"--columns or --format mixes formats ({', '.join(sorted(named))}); name the parts of one")
        self._only = next(iter(named), None)
        self._found: dict[tuple[str, ...], Layout | RowProblem] = {}

    def find(self, row: Mapping[str, Any]) -> Layout:
        """The row's layout. Fields that are null count only where no other fields tell. Raises :class:`RowProblem`."""
        keys = tuple(key for key, value in row.items() if value is not None)
        layout = self._remembered(keys)
        if isinstance(layout, Layout):
            return layout
        if len(keys) < len(row):
            full = self._remembered(tuple(row))
            if isinstance(full, Layout):
                return full
        raise RowProblem(layout.reason, layout.detail)  # a new one: a raised exception grows with its traceback

    def knows(self, row: Mapping[str, Any]) -> bool:
        """Whether the row's fields tell its format."""
        try:
            self.find(row)
        except RowProblem:
            return False
        return True

    def _remembered(self, keys: tuple[str, ...]) -> Layout | RowProblem:
        known = self._found.get(keys)
        if known is None:
            try:
                known = self._look(frozenset(keys))
            except RowProblem as problem:
                known = problem
            if len(self._found) < 10_000:  # a pool of ever new field names must not grow this without bound
                self._found[keys] = known
        return known

    def _look(self, keys: Collection[str]) -> Layout:
        if self._only:
            columns = self._columns_of(self._only, keys)
            return Layout(self._only, self._with_system(columns, keys))
        turns = [name for name in TURN_COLUMNS if name in keys]
        if turns:
            return Layout("messages", self._with_system({"messages": turns[0]}, keys))
        if "instruction" in keys and any(name in keys for name in alpaca.OUTPUTS):
            return Layout("alpaca", self._with_system(self._columns_of("alpaca", keys), keys))
        if any(n in keys for n in prompt_completion.PROMPTS) and any(n in keys for n in prompt_completion.COMPLETIONS):
            columns = self._columns_of("prompt-completion", keys)
            return Layout("prompt-completion", self._with_system(columns, keys))
        raise RowProblem("unknown-layout", f"fields: {_listed(keys)}; known formats: {', '.join(FORMATS)}")

    def _columns_of(self, name: str, keys: Collection[str]) -> dict[str, str]:
        if name in ("messages", "sharegpt"):
            mapped = self.columns.get("messages") or self.columns.get("conversations")
            return {"messages": self._one("messages", TURN_COLUMNS, keys, mapped, first=True)}
        if name == "prompt-completion":
            if not self.columns and {"prompt", "completion"} <= set(keys):
                return {"prompt": "prompt", "completion": "completion"}
            prompt = self._one("prompt", prompt_completion.PROMPTS, keys, self.columns.get("prompt"))
            wanted = prompt_completion.COMPLETIONS
            return {
                "prompt": prompt,
                "completion": self._one("completion", wanted, keys, self.columns.get("completion")),
            }
        columns = {
            "instruction": self._one("instruction", ("instruction",), keys, self.columns.get("instruction")),
            "output": self._one("output", alpaca.OUTPUTS, keys, self.columns.get("output")),
        }
        if "input" in self.columns or any(key in keys for key in alpaca.INPUTS):
            columns["input"] = self._one("input", alpaca.INPUTS, keys, self.columns.get("input"))
        history = self.columns.get("history", "history")
        return columns | ({"history": history} if history in keys else {})

    def _one(
        self, part: str, names: Iterable[str], keys: Collection[str], mapped: str | None, *, first: bool = False
    ) -> str:
        """The one column of ``keys`` that plays ``part``; raises :class:`RowProblem` for none, or for several."""
        if mapped:
            if mapped not in keys:
                raise RowProblem("missing-field", f"no field {mapped!r} (for {part}); fields: {_listed(keys)}")
            return mapped
        found = [name for name in names if name in keys]
        if not found:
            raise RowProblem("missing-field", f"no field for {part} ({', '.join(names)}); fields: {_listed(keys)}")
        if len(found) > 1 and not first:
            raise RowProblem("ambiguous-layout", f"{' and '.join(found)} may each be the {part}")
        return found[0]

    def _with_system(self, columns: dict[str, str], keys: Collection[str]) -> dict[str, str]:
        if "system" in self.columns:
            name = self.columns["system"]
            return columns | ({"system": name} if name in keys else {})
        found = next((name for name in SYSTEM_COLUMNS if name in keys), None)
        return columns | ({"system": found} if found else {})


def _turn_format(value: Any, column: str) -> str:
    turns = messages.as_turns(value, column)
    if not turns:
        raise RowProblem("no-turns", f"{column} is an empty list")
    return "sharegpt" if "from" in turns[0] and "role" not in turns[0] else "messages"


def _listed(keys: Collection[str], most: int = 20) -> str:
    names = sorted(keys)
    shown = ", ".join(repr(name) for name in names[:most])
    return (shown + (f" and {len(names) - most} more" if len(names) > most else "")) or "none"
