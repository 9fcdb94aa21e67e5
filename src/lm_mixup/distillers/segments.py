"""Text to segments: sentences of prose, and blocks that must never be broken (code, formulas, tables, lists).

The one invariant: the segments' texts, joined, are the text again, character for character. Every pass is linear in
the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a segment is. Only ``prose`` is a sentence; everything else is a block, kept or left as a whole."""

    PROSE = "prose"
    CODE = "code"
    MATH = "math"
    TABLE = "table"
    LIST = "list"
    HEADING = "heading"
    QUOTE = "quote"


@dataclass(frozen=True, slots=True)
class Segment:
    """A sentence or a block; ``text`` is the exact piece, with the white space that follows it (up to the next)."""

    kind: Kind
    text: str

    @property
    def body(self) -> str:
        """The text without outer blank lines and trailing space (the indent of a code block is part of it)."""
        return self.text.strip("\n").rstrip() if self.kind is Kind.CODE else self.text.strip()


_FENCE = re.compile(r"^\s{0,12}(`{3,}|~{3,})")
_ITEM = re.compile(r"^\s{0,12}(?:[-*+•–●▪]|\(?\d{1,3}[.)]|\(?[a-z]\)|\(?[ivx]{1,4}\)|[A-J]\))\s+\S")
_BARE_NUMBER = re.compile(r"^\s{0,6}\d{1,3}[.)]\s*$")
_HEADING = re.compile(r"^\s{0,3}(?:#{1,6}\s+\S|\*\*[^*]{1,80}\*\*:?\s*$|__[^_]{1,80}__:?\s*$)")
_RULE = re.compile(r"^\s{0,3}(?:(?:-\s?){3,}|(?:\*\s?){3,}|(?:=\s?){3,}|(?:_\s?){3,})$")
_CODE_LINE = re.compile(
    r"^\s{0,40}(?:(?:def|class)\s+\w+[^\n]{0,200}:\s*$|(?:import|from)\s+[\w.]+(?:\s+import\b.{0,200}"
    r"|\s+as\s+\w+)?;?\s*$"
    r"|#include\b|(?:public|private|static|const|let|var|function|func|fn)\s+[\w<>\[\]]+.{0,200}[;{(=)]"
    r"|(?:if|for|while|else|elif|try|except|switch)\b[^\n]{0,200}[{:]\s*$|return\b[^\n]{0,200};?\s*$"
    r"|(?:SELECT|INSERT|UPDATE|CREATE|DELETE|FROM|WHERE)\s+[\w*`\"(]"
    r"|[\w.\[\]\"'() ]{1,60}\s?[-+*/]?=\s?[^=\n]{1,200}$|[^\n]{1,200}[;{}]\s*$"
    r"|\w[\w.]{0,60}\([^\n]{0,200}\)\s*$|[})\]]+[;,]?\s*$)"
)
_INDENTED = re.compile(r"^(?: {4}|\t)\s*\S")
_MATH_OPEN = re.compile(r"^\s{0,8}(\$\$|\\\[|\\begin\{([a-zA-Z]{1,20}\*?)\})")
_ART = re.compile(r"[|\\/_]")

_BOUNDARY = re.compile(
    # the looks behind make a run of marks start once: without them a hundred thousand "!" would take quadratic time
    r"(?<![.!?…])[.!?…]++[\"'”’)\]»*_]*+(?=\s)|[。！？｡]++[\"'”’」』）)]*+"
    r"|(?<![؟۔।॥؛])[؟۔।॥؛]++[\"'”’)»]*+(?=\s|[^\W\d_])|\n",
)
_LAST_TOKEN = re.compile(r"([^\s(\[\"'“‘]*)$")
_INITIALS = re.compile(r"(?:[A-Z]\.-?)*[A-Z]$")
_LABEL = re.compile(r"[^\W\d_][\w ]{0,24}\s?:(?:\s|$)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS = _words(
    "mr mrs ms dr prof sr jr st mt ft vs etc e.g i.e eg ie cf al approx no nos fig figs eq sec ch vol pp "
    "p ed eds est inc ltd co "
    "corp dept univ gen sen rep lt col sgt capt cmdr maj gov pres rev hon u.s u.k u.n u.s.a d.c b.c a.d "
    "a.m p.m ph.d m.d b.a m.a "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun lat long ca c bros z.b "
    "bzw usw ggf dr.-ing sog "
    "nr bspw evtl mme mlle ej dña sra srta núm págs т.е т.д"
)
_OPENERS = _words(
    "the a an it he she they we i you this that these those in on at for from by with after before when while if as "
    "although however there its his her their our my but and so what who where why how"
)
_PARENTHESIS_REACH = 400
"""A sentence may hold full stops inside brackets or back-ticks that stay open for at most so many characters."""
_WRAP_WIDTH = 60
"""A line of prose shorter than this, before a line that begins in upper case, was broken on purpose."""


def segment(text: str) -> list[Segment]:
    """The segments of ``text``, in order; joined, they are ``text`` again."""
    if not text:
        return []
    if not _needs_blocks(text):
        return [Segment(Kind.PROSE, piece) for piece in split_sentences(text)]
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    segments: list[Segment] = []
    number, lead = 0, ""
    while number < len(lines):
        if not lines[number].strip():
            if segments:
                segments[-1] = Segment(segments[-1].kind, segments[-1].text + lines[number])
            else:
                lead += lines[number]
            number += 1
            continue
        kind, end = _block(lines, number, after_blank=number == 0 or not lines[number - 1].strip())
        # blank lines belong to the piece before them: gathered here, once, so that long runs stay linear
        after = end
        while after < len(lines) and not lines[after].strip():
            after += 1
        piece = lead + "".join(lines[number:after])
        lead = ""
        if kind is Kind.PROSE:
            segments.extend(Segment(Kind.PROSE, sentence) for sentence in split_sentences(piece))
        else:
            segments.append(Segment(kind, piece))
        number = after
    if lead:
        segments.append(Segment(Kind.PROSE, lead))
    return segments


def list_items(text: str) -> list[str]:
    """The items of a list block, each with its marker and its continuation lines, as exact pieces of ``text``.

    The items joined are ``text``. Only markers at the indent of the first one begin an item.
    """
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    indent = next((_indent(line) for line in lines if line.strip()), 0)
    items: list[list[str]] = []
    for line in lines:
        if not items or (_ITEM.match(line) and _indent(line) <= indent + 1):
            items.append([])
        items[-1].append(line)
    return ["".join(item) for item in items]


def split_sentences(text: str) -> list[str]:
    """Sentences of prose, each with the white space after it; joined, they are ``text``.

    Knows abbreviations, initials, decimals, closing quotes, brackets and inline code, and the full stops of Chinese,
    Japanese, Arabic, Urdu and Hindi. A line break ends a sentence only where the line was plainly broken on purpose.
    """
    sentences: list[str] = []
    start = counted = 0
    brackets = ticks = 0
    tick_balanced = text.count("`") % 2 == 0
    for found in _BOUNDARY.finditer(text):
        mark_end = found.end()
        brackets += text.count("(", counted, mark_end) - text.count(")", counted, mark_end)
        ticks += text.count("`", counted, mark_end)
        counted = mark_end
        if found[0] == "\n":
            if not _breaks_line(text, start, found.start(), mark_end):
                continue
        else:
            open_still = brackets > 0 or (tick_balanced and ticks % 2 == 1)
            if open_still and mark_end - start < _PARENTHESIS_REACH:
                continue
            if found[0][0] in ".…!?" and not _ends_sentence(text, start, found):
                continue
        end = mark_end
        while end < len(text) and text[end].isspace():
            end += 1
        if end <= start or not text[start:end].strip():
            continue
        sentences.append(text[start:end])
        start = counted = end
        brackets = ticks = 0
    if start < len(text):
        sentences.append(text[start:])
    return sentences


def _needs_blocks(text: str) -> bool:
    return (
        "\n" in text
        or _ITEM.match(text) is not None
        or text.startswith(("#", "```", "$$", "\\", "|", "    ", ">", "**"))
    )


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip(" "))


def _block(lines: list[str], start: int, *, after_blank: bool) -> tuple[Kind, int]:
    """The kind of the block that begins at ``start``, and the line after its last."""
    line = lines[start]
    fence = _FENCE.match(line)
    if fence:
        return Kind.CODE, _end_of_fence(lines, start, fence[1])
    opened = _MATH_OPEN.match(line)
    if opened:
        return Kind.MATH, _end_of_math(lines, start, opened)
    if _HEADING.match(line) or _RULE.match(line):
        return Kind.HEADING, start + 1
    if _is_row(line) and start + 1 < len(lines) and _is_row(lines[start + 1]):
        return Kind.TABLE, _run(lines, start, _is_row)
    if line.lstrip().startswith(">"):
        return Kind.QUOTE, _run(lines, start, lambda one: one.lstrip().startswith(">"))
    if _ITEM.match(line) or (_BARE_NUMBER.match(line) and start + 1 < len(lines) and lines[start + 1].strip()):
        return Kind.LIST, _end_of_list(lines, start)
    if after_blank and _INDENTED.match(line):
        return Kind.CODE, _end_of_code(lines, start, indented=True)
    if _is_code(line) and start + 1 < len(lines) and (_is_code(lines[start + 1]) or _INDENTED.match(lines[start + 1])):
        return Kind.CODE, _end_of_code(lines, start, indented=False)
    end = start + 1
    while end < len(lines) and lines[end].strip() and not _opens_block(lines, end):
        end += 1
    return Kind.PROSE, end


def _opens_block(lines: list[str], number: int) -> bool:
    line = lines[number]
    following = lines[number + 1] if number + 1 < len(lines) else ""
    return bool(
        _FENCE.match(line)
        or _ITEM.match(line)
        or _HEADING.match(line)
        or _MATH_OPEN.match(line)
        or (_is_row(line) and _is_row(following))
        or (_is_code(line) and (_is_code(following) or _INDENTED.match(following)))
    )


def _is_row(line: str) -> bool:
    return line.count("|") >= 2 and not line.rstrip().endswith(("||", "|;"))


def _is_code(line: str) -> bool:
    if len(line) > 400:
        return False
    if _CODE_LINE.match(line):
        return True
    # drawings in characters: mostly strokes, hardly a letter
    drawn = line.strip()
    return len(drawn) >= 3 and _ART.search(drawn) is not None and sum(map(str.isalnum, drawn)) < 0.35 * len(drawn)


def _run(lines: list[str], start: int, belongs: Callable[[str], object]) -> int:
    end = start
    while end < len(lines) and lines[end].strip() and belongs(lines[end]):
        end += 1
    return end


def _end_of_fence(lines: list[str], start: int, fence: str) -> int:
    for number in range(start + 1, len(lines)):
        found = _FENCE.match(lines[number])
        if found and found[1].startswith(fence) and not lines[number].strip().strip(fence[0]):
            return number + 1
    return len(lines)


def _end_of_math(lines: list[str], start: int, opened: re.Match[str]) -> int:
    closing = {"$$": "$$", "\\[": "\\]"}.get(opened[1], "\\end{" + (opened[2] or "") + "}")
    if closing in lines[start][opened.end() :]:
        return start + 1
    end = start + 1
    while end < len(lines) and lines[end].strip():
        end += 1
        if closing in lines[end - 1]:
            break
    return end


def _end_of_list(lines: list[str], start: int) -> int:
    indent = _indent(lines[start])
    end = start + 1
    fence = ""
    while end < len(lines):
        line = lines[end]
        found = _FENCE.match(line)
        if found:
            if not fence and _indent(line) <= indent:
                break
            fence = "" if fence else found[1]
            end += 1
        elif fence or (line.strip() and (_ITEM.match(line) or _BARE_NUMBER.match(line) or _indent(line) >= indent + 2)):
            end += 1
        elif not line.strip():
            after = end
            while after < len(lines) and not lines[after].strip():
                after += 1
            more = after < len(lines) and (_ITEM.match(lines[after]) or _indent(lines[after]) >= indent + 2)
            if not more or after - end > 2:
                break
            end = after
        elif _BARE_NUMBER.match(lines[end - 1]) or not lines[end - 1].rstrip().endswith((".", "!", "?", ":")):
            end += 1  # a lazy continuation of the item
        else:
            break
    return end


def _end_of_code(lines: list[str], start: int, *, indented: bool) -> int:
    end = start + 1
    while end < len(lines):
        line = lines[end]
        if line.strip():
            if not (
                _INDENTED.match(line) or (not indented and (_is_code(line) or line.lstrip().startswith(("#", "//"))))
            ):
                break
            end += 1
            continue
        after = end
        while after < len(lines) and not lines[after].strip():
            after += 1
        goes_on = after < len(lines) and (_INDENTED.match(lines[after]) or (not indented and _is_code(lines[after])))
        if not goes_on:
            break
        end = after
    return end


def _breaks_line(text: str, start: int, at: int, after: int) -> bool:
    """Whether the line break at ``at`` ends a sentence that has no full stop."""
    line_start = max(start, text.rfind("\n", max(start, at - 2 * _WRAP_WIDTH), at) + 1)
    while after < len(text) and text[after] in " \t\n":
        if text[after] == "\n":
            return True
        after += 1
    if after >= len(text):
        return False
    if _LABEL.match(text, after, min(len(text), after + 32)):
        return True
    following = text[after]
    return at - line_start < _WRAP_WIDTH and (following.isupper() or following.isdigit() or following in "\"'“‘¿¡")


def _ends_sentence(text: str, start: int, found: re.Match[str]) -> bool:
    mark, end = found[0], found.end()
    while end < len(text) and text[end].isspace():
        end += 1
    if end >= len(text):
        return True
    following = text[end]
    if mark[0] in "!?":
        # He asked "Why?" and left: the sentence goes on in lower case
        return not following.islower()
    if following.islower() and "\n" not in text[found.end() : end]:
        return False
    if mark[0] != "." or len(mark) > 1:
        return True
    last = _LAST_TOKEN.search(text, max(start, found.start() - 40), found.start())
    token = last[1] if last else ""
    initials = _INITIALS.match(token) is not None and token != "I"
    if token.casefold() in _ABBREVIATIONS or initials:
        following_word = re.match(r"[^\W\d_]+", text[end : end + 20])
        opener = following_word is not None and following_word[0].casefold() in _OPENERS
        return opener and token.casefold() in {
            "etc",
            "u.s",
            "u.k",
            "u.n",
            "u.s.a",
            "d.c",
            "b.c",
            "a.d",
            "a.m",
            "p.m",
            "inc",
            "ltd",
            "corp",
            "co",
        }
    if token.isdigit() and len(token) <= 3:
        before = text[max(start, found.start() - 40) : found.start() - len(token)].rstrip()
        return bool(before) and not before.endswith((":", ".", ";", "\n"))
    return True


_LOST_CAPITAL = re.compile(r"(?<=[a-z\d)\]][a-z\d)\]\"])[.!?][\"')]?( )(?=[a-z])")


def lost_capitals(sentence: str, *, words: int) -> list[str]:
    """A sentence parted where only a lost capital letter had joined two ("… ended. the king …"), each of ``words``.

    The pieces joined are the sentence. Not parted: code, and what follows an abbreviation.
    """
    if "`" in sentence or "\n" in sentence:
        return [sentence]
    pieces, start = [], 0
    for found in _LOST_CAPITAL.finditer(sentence):
        last = sentence[start : found.start()].rsplit(" ", 1)[-1].casefold().strip("(\"'")
        if (
            last in _ABBREVIATIONS
            or min(len(sentence[start : found.start()].split()), len(sentence[found.end() :].split())) < words
        ):
            continue
        pieces.append(sentence[start : found.end()])
        start = found.end()
    return [*pieces, sentence[start:]]
