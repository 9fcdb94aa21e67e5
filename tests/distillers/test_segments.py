"""Segments: joined they are the text again, blocks are whole, sentences end where a reader ends them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.distillers import segments as segments_module
from lm_mixup.distillers.segments import Kind, list_items, segment, split_sentences

PIECES = st.sampled_from(
    [
        "A sentence.", "Dr. A. B. Smith paid 3.50.", '"Why?" she asked.', "```", "```python", "x = 1;",
        "    indented()",
        "| a | b |", "|---|---|", "- item", "1. one", "2) two", "  continued", "# Heading", "**Bold**", "$$",
        "\\[ x \\]",
        "\\begin{align}", "\\end{align}", "> quoted", "", " ", "\t", "今日は。", "هل؟", "यह है।", "e.g. this",
        "(a. b. c", "`a. b`",
        "foo\u2028bar", "\x0b", "User: hi", "1.", "a|b|c", "---", "…",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.tuples(PIECES, st.sampled_from(["\n", " ", "\n\n", "", "\n \n"])), max_size=25).map(
        lambda parts: "".join(piece + gap for piece, gap in parts)
    ),
)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_segments_joined_are_the_text(text: str) -> None:
    assert "".join(piece.text for piece in segment(text)) == text
    assert "".join(split_sentences(text)) == text
    assert "".join(list_items(text)) == text


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_only_an_all_blank_text_has_a_blank_segment(text: str) -> None:
    blank = [piece for piece in segment(text) if not piece.text.strip()]
    assert not blank or not text.strip()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. J. R. Smith paid $3.50. He left.", ["Dr. J. R. Smith paid $3.50. ", "He left."]),
        ("It weighs approx. 2.1 kg (i.e. a lot). Fine.", ["It weighs approx. 2.1 kg (i.e. a lot). ", "Fine."]),
        ('"Why?" she asked. He said "No." Then he left.', ['"Why?" she asked. ', 'He said "No." ', "Then he left."]),
        ("He moved to the U.S. The rest stayed.", ["He moved to the U.S. ", "The rest stayed."]),
        ("The U.S. Army came.", ["The U.S. Army came."]),
        ("By J.K. Rowling and J.-P. Sartre. Both.", ["By J.K. Rowling and J.-P. Sartre. ", "Both."]),
        ("Call `a.b. C` now. Then stop.", ["Call `a.b. C` now. ", "Then stop."]),
        ("(It rained. It poured.) We stayed.", ["(It rained. It poured.) ", "We stayed."]),
        ("今日は。元気です！「はい。」そう。", ["今日は。", "元気です！", "「はい。」", "そう。"]),
        ("هل هذا جيد؟ نعم۔ شكرا", ["هل هذا جيد؟ ", "نعم۔ ", "شكرا"]),
        ("यह है। वह है।", ["यह है। ", "वह है।"]),
        ("Wait… what? No… never.", ["Wait… what? ", "No… never."]),
        ("Roses are red\nViolets are blue", ["Roses are red\n", "Violets are blue"]),
        ("Version 2.0.1 is out! Get it.", ["Version 2.0.1 is out! ", "Get it."]),
    ],
)  # fmt: skip
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


BLOCKS = [
    (Kind.CODE, "```python\ndef f(x):\n\n    return x. Really\n```"),
    (Kind.CODE, "~~~\na\n```\nb\n~~~"),
    (Kind.CODE, "    x = 1\n    y = 2\n\n    z = 3"),
    (Kind.CODE, "def f(x):\n    return x"),
    (Kind.CODE, "#include <stdio.h>\nint main() {\n    return 0;\n}"),
    (Kind.MATH, "$$\na = b. C\n+ d\n$$"),
    (Kind.MATH, "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}"),
    (Kind.TABLE, "| a | b |\n|---|---|\n| 1. One | 2 |"),
    (Kind.LIST, "1. One thing. More of it.\n2. Two\n   continued\n\n3. Three"),
    (Kind.LIST, "- a\n  - nested. Deep\n- b\n  ```\n  code\n  ```"),
    (Kind.QUOTE, "> said. Once\n> and again."),
    (Kind.HEADING, "## A heading. Of two parts"),
]


@pytest.mark.parametrize(("kind", "block"), BLOCKS)
def test_a_block_between_prose_is_one_piece(kind: Kind, block: str) -> None:
    found = segment(f"Before it. And more.\n\n{block}\n\nAfter it.")
    assert [piece.kind for piece in found] == [Kind.PROSE, Kind.PROSE, kind, Kind.PROSE]
    assert found[2].body == block
    assert found[3].body == "After it."


def test_items_of_a_list_keep_their_continuation() -> None:
    items = list_items("1. One\n   more\n2. Two\n   - nested\n3. Three")
    assert items == ["1. One\n   more\n", "2. Two\n   - nested\n", "3. Three"]


@pytest.mark.parametrize(
    "unit",
    [
        "a. ", "(a. ", "`a. ", "\n", "\n\n", "- a\n", "1.\n", "|a|b|\n", "```\n", "$$\n", "    x\n", "Dr. ",
        "A: b\n", "> a\n", "é",
        "\\begin{a}\n", " ", "\t", "a", "1. ", "f(", "x = 1\n", "**a**\n", '."', "if a:\n", "  a\n\n",
    ],
)  # fmt: skip
def test_work_grows_in_step_with_the_text(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations, not seconds: characters handed to the line-wise and sentence-wise helpers, at n and at 4 n."""
    work = 0

    def counted(function):  # type: ignore[no-untyped-def]
        def wrapper(text, *args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal work
            work += 1 + (len(text) if isinstance(text, str) else 0)
            return function(text, *args, **kwargs)

        return wrapper

    # per-boundary helpers get the whole text by reference: what counts for them is how often they are called
    for name in ("_is_code", "_is_row", "_indent", "split_sentences"):
        monkeypatch.setattr(segments_module, name, counted(getattr(segments_module, name)))
    counts = []
    for size in (5_000, 20_000):
        work = 0
        segment(unit * (size // len(unit)))
        counts.append(work)
    assert counts[1] <= 6 * counts[0] + 1000, json.dumps([unit, *counts])
