"""Writing rows: JSON Lines, whole or not at all, and train sets in the formats that trainers read."""

from __future__ import annotations

import contextlib
import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import orjson

from lm_mixup.errors import InputError
from lm_mixup.files import replacing
from lm_mixup.pool.containers import container_of
from lm_mixup.pool.layout import FORMATS
from lm_mixup.pool.messages import calls_tool
from lm_mixup.records import Message, Sample

PARQUET_BATCH_ROWS = 4096
GZIP_LEVEL = 6
_EXTRAS_IN_PARQUET = ("name", "tool_call_id", "tool_calls")


@dataclass(slots=True)
class ExportReport:
    """Rows written, and how many of them the format could not hold whole, by what was lost."""

    rows: int = 0
    losses: Counter[str] = field(default_factory=Counter)

    @property
    def notes(self) -> list[str]:
        """The losses as sentences."""
        return [f"in {count:,} of {self.rows:,} rows {LOSSES[name]}" for name, count in sorted(self.losses.items())]


LOSSES: Mapping[str, str] = {
    "turns-as-text": "earlier turns were written into the prompt as text with their roles named",
    "system-as-text": "the system prompt was written into the prompt as text",
    "several-turns-in-history": "earlier turns are in the column history, which not every trainer reads",
    "tool-calls-dropped": "calls of tools have no place in the format",
    "message-keys-dropped": "further keys of messages have no place in the format",
}
"""What :func:`export` can lose, and what that means."""


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line, atomically, compressed if the name ends in ``.gz`` or ``.zst``; returns how many.

    The bytes depend on the rows alone: a gzip's header carries neither time nor name.
    """
    count = 0
    path = Path(path)
    with replacing(path) as temporary, temporary.open("wb") as file, _compressed(path, file) as stream:
        for row in rows:
            stream.write(orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def export(path: str | Path, rows: Iterable[Mapping[str, Any]], format: str = "messages") -> ExportReport:
    """Write the rows of a train set (``id`` and ``messages`` each) in a format that a trainer reads.

    ``format`` is ``messages``, ``alpaca``, ``prompt-completion`` or ``sharegpt``; the file's name ends in ``.jsonl``,
    ``.jsonl.gz``, ``.jsonl.zst`` or ``.parquet``. Every row has the same columns, ``id`` first. What the format cannot
    hold is counted in the report, never dropped in silence; :data:`LOSSES` says what each count means. Raises
    :class:`lm_mixup.errors.InputError` for an unknown format or ending.
    """
    path = Path(path)
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; expected one of: {', '.join(FORMATS)}")
    suffixes = [s.lower() for s in path.suffixes]
    table = suffixes[-1:] == [".parquet"]
    if not table and container_of(path) != "jsonl":
        raise InputError(f"{path}: expected a name that ends in .jsonl, .jsonl.gz, .jsonl.zst or .parquet")
    report = ExportReport()
    converted = _converted(rows, format, table, report)
    if table:
        _write_parquet(path, converted, format)
    else:
        write_jsonl(path, converted)
    return report


def _converted(
    rows: Iterable[Mapping[str, Any]], format: str, table: bool, report: ExportReport
) -> Iterator[dict[str, Any]]:
    convert = _CONVERT[format]
    for row in rows:
        sample = Sample(row["id"], tuple(Message.from_dict(m) for m in row["messages"]))
        losses: set[str] = set()
        out = {"id": sample.id, **convert(sample, losses)}
        if table and format == "messages":
            out["messages"] = [_table_message(m, losses) for m in sample.messages]
        report.rows += 1
        report.losses.update(losses)
        yield out


def _as_messages(sample: Sample, losses: set[str]) -> dict[str, Any]:
    return {"messages": [m.as_dict() for m in sample.messages]}


def _as_sharegpt(sample: Sample, losses: set[str]) -> dict[str, Any]:
    turns: list[dict[str, str]] = []
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    for message in sample.messages:
        calls = _plain_calls(message)
        if message.content or not calls:
            turns.append({"from": names[message.role], "value": message.content})
        if calls:
            value = calls[0] if len(calls) == 1 else calls
            turns.append({"from": "function_call", "value": orjson.dumps(value).decode()})
        if set(message.extra) - {"tool_calls"} or any(call.get("id") for call in _calls(message)):
            losses.add("message-keys-dropped")
    return {"conversations": turns}


def _as_pair(sample: Sample, losses: set[str]) -> dict[str, Any]:
    before = sample.messages[:-1]
    _note_extras(sample, losses)
    if any(m.role == "system" for m in before):
        losses.add("system-as-text")
    if sum(m.role != "system" for m in before) > 1:
        losses.add("turns-as-text")
    return {"prompt": sample.prompt, "completion": sample.completion}


def _as_alpaca(sample: Sample, losses: set[str]) -> dict[str, Any]:
    before = list(sample.messages[:-1])
    system = before.pop(0).content if before[0].role == "system" else ""
    _note_extras(sample, losses)
    if [m.role for m in before] == ["user", "assistant"] * (len(before) // 2) + ["user"]:
        history = [[q.content, a.content] for q, a in zip(before[:-1:2], before[1::2], strict=True)]
        if history:
            losses.add("several-turns-in-history")
        instruction = before[-1].content
    else:
        losses.add("turns-as-text")
        history = []
        instruction = "\n\n".join(f"{m.role}: {m.content}" for m in before)
    return {
        "instruction": instruction,
        "input": "",
        "output": sample.completion,
        "system": system,
        "history": history,
    }


_CONVERT: Mapping[str, Callable[[Sample, set[str]], dict[str, Any]]] = {
    "messages": _as_messages,
    "sharegpt": _as_sharegpt,
    "prompt-completion": _as_pair,
    "alpaca": _as_alpaca,
}


def _note_extras(sample: Sample, losses: set[str]) -> None:
    for message in sample.messages:
        if calls_tool(message):
            losses.add("tool-calls-dropped")
        if set(message.extra) - {"tool_calls", "function_call"}:
            losses.add("message-keys-dropped")


def _calls(message: Message) -> list[Mapping[str, Any]]:
    calls = message.extra.get("tool_calls")
    return [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []


def _plain_calls(message: Message) -> list[dict[str, Any]]:
    functions = [call.get("function") for call in _calls(message)]
    return [{"name": f.get("name"), "arguments": f.get("arguments")} for f in functions if isinstance(f, Mapping)]


def _table_message(message: Message, losses: set[str]) -> dict[str, Any]:
    """A message for a table, whose columns must be of one type: tool calls as JSON text (the reader takes it back)."""
    if set(message.extra) - set(_EXTRAS_IN_PARQUET):
        losses.add("message-keys-dropped")
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    for name in _EXTRAS_IN_PARQUET:
        value = message.extra.get(name)
        out[name] = value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
    return out


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]], format: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    turn = [("from", text), ("value", text)]
    message = [("role", text), ("content", text), *((name, text) for name in _EXTRAS_IN_PARQUET)]
    columns = {
        "messages": [("messages", pa.list_(pa.struct(message)))],
        "sharegpt": [("conversations", pa.list_(pa.struct(turn)))],
        "prompt-completion": [("prompt", text), ("completion", text)],
        "alpaca": [
            *((name, text) for name in ("instruction", "input", "output", "system")),
            ("history", pa.list_(pa.list_(text))),
        ],
    }
    schema = pa.schema([("id", text), *columns[format]])
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) >= PARQUET_BATCH_ROWS:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch.clear()
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))


@contextlib.contextmanager
def _compressed(path: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    match path.suffix.lower():
        case ".gz":
            with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as stream:
                yield cast(IO[bytes], stream)
        case ".zst":
            import pyarrow as pa

            with pa.CompressedOutputStream(pa.PythonFile(file, "w"), "zstd") as stream:
                yield cast(IO[bytes], stream)
                stream.flush()
        case _:
            yield file
