"""The clean-up of one text: tags, mojibake, mark-up debris, loops and stray white space go.

Pure functions of the text, linear in its length. Code, formulas and tables are never looked into.
"""

from __future__ import annotations

import html
import re

from lm_mixup.distillers.extractive_words import STOP_WORDS
from lm_mixup.distillers.segments import Kind, segment

_THINK = re.compile(r"<(think|thinking|reasoning|scratchpad)>", re.IGNORECASE)
_CHAT_TAG = re.compile(
    r"<\|[\w/ .-]{1,40}\|>|</?(?:think|thinking|reasoning|scratchpad|answer|response|assistant|user"
    r"|system|s|bos|eos|pad|unk|start_of_turn|end_of_turn)>"
    r"|\[/?INST\]|<</?SYS>>|\[(?:PAD|EOS|BOS|SEP|CLS|UNK)\]",
    re.IGNORECASE,
)
_ROLE_LEAD = re.compile(
    r"^(?:\s{0,8}(?:#{1,4}\s{0,4})?(?:assistant|response|output|answer|bot|ai|chatbot|a)\s{0,2}:\s{0,8}"
    r"|\s{0,8}#{1,4}\s{0,4}(?:response|answer|output)\s{0,4}\n)++",
    re.IGNORECASE,
)
_NEXT_TURN = re.compile(
    r"\n\s{0,8}(?:#{1,4}\s{0,4})?(?:human|user|instruction|question|prompter|q)\s{0,2}:[^\n]"
    r"|\n\s{0,4}#{2,4}\s{0,4}(?:instruction|input|human|user)\b",
    re.IGNORECASE,
)
_PLACEHOLDER_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\(\s?_?URL_?\d*_?\s?\)")
_MARKUP = re.compile(
    r"</?(?:p|br|hr|div|span|b|i|u|em|strong|font|center|small|big|sup|sub|ul|ol|li|a|h[1-6]|blockquote"
    r"|tr|td|th|table|tbody|img|footer|header|section|body|html|head|ref|nowiki)"
    r"(?:\s[^<>\n]{0,300})?/?>",
    re.IGNORECASE,
)
_BREAK_TAG = re.compile(r"<(?:br\s?/?|/p|/div|/li|/h[1-6])>[ \t]{0,8}", re.IGNORECASE)
_ABOUT_MARKUP = re.compile(r"\b(?:html|xml|tags?|mark-?up|css|svg|jsx|web ?page|website|href|div)\b", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,10}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_CITATION = re.compile(r"\[(?:\d{1,3}|citation needed|edit|note \d{1,2})\]", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u200e\u200f\u2060\ufeff\ufffc]")
_SPACE_RUN = re.compile(r"[ \t\u00a0]{2,}")
_BLANK_RUN = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")
_SPACE_BEFORE_MARK = re.compile(r"(?<=[^\W\d_]) +([,;!?]|\.(?=\s|$))")
_SPLIT_MARKER = re.compile(r"(^|\n)(\s{0,6}\d{1,3}[.)])[ \t]*\n(?=[ \t]*\S)")
_NUMBERED = re.compile(r"\s{0,4}\d{1,2}\. ")
_TRAILING_MARKER = re.compile(r"(?<=[^\d\s]) +(\d{1,2}\.)\n(?=[\"'(]?[^\W_])")
# UTF-8 read as Windows-1252: a lead byte's character followed by one to three continuation bytes' characters
_CP1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(rf"[ÂÃâãäåæçèéêëìíîïðñòóÐÑØÙÎÏ][{_CP1252}\x80-\xbf]{{1,3}}")
LONE_I = re.compile(r"(?<![\w'.’-])i(?=(?:'m|'ve|'ll|'d|’m|’ve|’ll|’d)?[ ,;!?])")

_SUSPECT = re.compile(
    "[<\\[\r&\t\u00a0\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u200e\u200f\u2060\ufeff\ufffc]|  |_URL|\\n[ "
    "\\t]*\\n[ \\t]*\\n|[.)]\\n"
    "|[^\\W\\d_] [,;!?]|[^\\W\\d_] \\.(?:\\s|$)|[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u2122]|^(?i:sure"
    "|certainly|of course|absolutely|ok|yes of|great|good)\\b"
    "|\\n\\s{0,8}(?:#{1,4}\\s?)?(?i:human|user|instruction|question|prompter|q|input)\\b"
)
"""What has none of this needs no cleaning but for loops: most texts, told by one search."""
_PREAMBLE = re.compile(
    r"^(?:(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|yes of course|great question|good "
    r"question)\s{0,2}[!.,:]\s{1,3})"
    r"(?=[A-Z\u2018\u2019\w])",
    re.IGNORECASE,
)


ATOMIC = (Kind.CODE, Kind.MATH, Kind.TABLE)
"""Blocks whose inside is never changed."""


def clean(text: str, *, request: str = "", answer: bool = True) -> str:
    """``text`` without tags, mojibake, mark-up debris, loops and stray white space; "" where nothing is left.

    ``request`` is the user turn that the text answers: where it is about mark-up, mark-up stays. With ``answer`` the
    text is an assistant's: a role label at its head goes, and what follows an invented next turn is cut. Cleaning a
    clean text changes nothing.
    """
    text = text.strip()
    for _ in range(_ROUNDS):  # a removal can lay a further piece of debris open; a few rounds reach the fixed point
        sound = not _SUSPECT.search(text) and not (answer and _ROLE_LEAD.match(text))
        if sound and "\n" not in text:
            return collapse_loops(text)
        if sound and not answer:
            return text
        cleaned = _clean_once(text, request, answer)
        if cleaned == text:
            break
        text = cleaned
    return text


def _clean_once(text: str, request: str, answer: bool) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "<" in text or "[" in text:
        text = _without_thinking(text)
    if answer:
        text = _ROLE_LEAD.sub("", text, count=1)
        cut = _NEXT_TURN.search(text)
        if cut and "```" not in text[: cut.start()] and ":" not in request[-200:]:
            text = text[: cut.start()]
        text = _PREAMBLE.sub("", text.lstrip(), count=1)
    text = _CONTROL.sub("", text)
    if answer and ".\n" in text and "```" not in text and len(_TRAILING_MARKER.findall(text)) >= 2:
        text = _numbered_again(text)
    parts = []
    for piece in segment(text):
        atomic = piece.kind in ATOMIC or "```" in piece.text or "~~~" in piece.text
        parts.append(piece.text if atomic else _clean_prose(piece.text, request))
    text = "".join(parts)
    if "\n\n\n" in text or "\n \n" in text:
        text = "".join(
            p.text if p.kind in ATOMIC or "```" in p.text else _BLANK_RUN.sub("\n\n", p.text) for p in segment(text)
        )
    lines = text.strip("\n")
    return lines.rstrip() if lines[:1].isspace() and lines.lstrip(" \t") != lines and "\n" in lines else lines.strip()


def _numbered_again(text: str) -> str:
    """A list again, where a sentence splitter had taken the numbers for sentence ends and broken the lines there."""
    text = _SPLIT_MARKER.sub(r"\1\2 ", _TRAILING_MARKER.sub(r"\n\1 ", text))
    lines: list[str] = []
    for line in text.split("\n"):
        inside = any(_NUMBERED.match(one) for one in lines[-1:])
        if inside and line.strip() and not _NUMBERED.match(line):
            lines[-1] = f"{lines[-1].rstrip()} {line.strip()}"
        else:
            lines.append(line)
    return "\n".join(lines)


def _without_thinking(text: str) -> str:
    found = _THINK.search(text)
    if found:
        kept, at, low = [], 0, text.casefold()
        while found:
            close = low.find(f"</{found[1].casefold()}>", found.end()) if len(low) == len(text) else -1
            if close < 0:
                break
            kept.append(text[at : found.start()])
            at = close + len(found[1]) + 3
            found = _THINK.search(text, at)
        text = "".join(kept) + text[at:]
    return _CHAT_TAG.sub("", text)


def _clean_prose(text: str, request: str) -> str:
    if not text.isascii():
        text = _MOJIBAKE.sub(_mend, text)
    if "`" not in text:
        if "<" in text and not _ABOUT_MARKUP.search(request):
            text = _BREAK_TAG.sub("\n", text)
            text = _MARKUP.sub("", text)
        if "&" in text and not _ABOUT_MARKUP.search(request):
            text = _ENTITY.sub(lambda found: html.unescape(found[0]).replace("\xa0", " "), text)
    if "URL" in text or "LINK" in text:
        text = _PLACEHOLDER_LINK.sub(r"\1", text)
    if "[" in text:
        text = _CITATION.sub("", text)
    body = text.rstrip()
    tail = text[len(body) :]
    if "  " in body or "\t" in body or "\xa0" in body:
        body = "\n".join(
            line[: len(line) - len(line.lstrip())] + _SPACE_RUN.sub(" ", line.strip()) for line in body.split("\n")
        )
    body = _SPACE_BEFORE_MARK.sub(r"\1", body)
    if ".\n" in body or ")\n" in body:
        body = _TRAILING_MARKER.sub(r"\n\1 ", _SPLIT_MARKER.sub(r"\1\2 ", body))
    return collapse_loops(body) + tail


def _mend(found: re.Match[str]) -> str:
    try:
        return b"".join(_byte(char) for char in found[0]).decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return found[0]


def _byte(char: str) -> bytes:
    return char.encode("latin-1") if ord(char) < 256 else char.encode("cp1252")


_LEGITIMATE_DOUBLES = frozenset(
    {
        "had",
        "that",
        "very",
        "bye",
        "ha",
        "haha",
        "no",
        "yes",
        "so",
        "really",
        "many",
        "long",
        "far",
        "well",
        "knock",
        "tick",
        "blah",
        "yada",
        "hear",
        "now",
        "cha",
        "mahi",
        "bora",
        "sing",
        "new",
    }
)
_ROUNDS = 8
"""Clean-up is repeated until nothing changes, at most so often."""
_LONGEST_LOOP = 16
"""Loops of up to so many words within a sentence are seen."""


def collapse_loops(text: str) -> str:
    """``text`` with each stretch of words that is said again at once (a doubled word, a phrase in a loop) said once.

    One word counts when doubled, two when said three times, longer phrases when said twice. Numbers and words that are
    doubled on purpose ("very very") stay.
    """
    for _ in range(_ROUNDS):  # what closes up can make a new pair: "The. The the." → "The. The." → "The."
        shorter = _collapse_once(text)
        if shorter == text:
            break
        text = shorter
    return text


def _collapse_once(text: str) -> str:
    words = text.split(" ")
    if len(words) < 2 or len(set(text.casefold().split(" "))) == len(words):
        return text
    kept: list[str] = []
    cores: list[str] = []
    seen: dict[str, list[int]] = {}  # where each word stands in ``kept``; places beyond its end are stale
    for word in words:
        core = word.rstrip(",.;").casefold()
        places = seen.setdefault(core, [])
        at = len(kept)
        while places and (places[-1] >= at or cores[places[-1]] != core):
            places.pop()
        kept.append(word)
        cores.append(core)
        for place in reversed(places):
            length = at - place
            # a phrase can only have been said twice where its last word has
            if length > _LONGEST_LOOP or 2 * length > len(kept):
                break
            if _said_again(kept, cores, length):
                times = _times(length)
                del kept[len(kept) - (times - 1) * length :], cores[len(cores) - (times - 1) * length :]
                if length == 1:
                    kept[-1] = kept[-1].rstrip(",.;") + word[len(word.rstrip(",.;")) :]
                break
        else:
            places.append(at)
            continue
        if len(kept) > at:
            places.append(at)
    return " ".join(kept) if len(kept) < len(words) else text


def _times(length: int) -> int:
    return 3 if length == 2 else 2


def _said_again(kept: list[str], cores: list[str], length: int) -> bool:
    """Whether the last ``length`` words are what the words just before them were, once more than is usual."""
    last = kept[-1]
    if length == 1:
        core, first = cores[-1], kept[-2]
        # a name may be doubled ("Duran Duran"); "The the" and "the the" are slips
        name = last[:1].isupper() and first[:1].isupper() and core not in STOP_WORDS
        # "… that it is. It was": a full stop between the two makes them two sentences, unless both have it
        apart = first[-1:] == "." and first != last
        return core.isalpha() and not name and not apart and core not in _LEGITIMATE_DOUBLES
    times = _times(length)
    if len(kept) < times * length or not any(word.isalpha() for word in cores[-length:]):
        return False
    # but for the mark after the last word the copies are the same to the letter: no loop is seen across two sentences
    phrase, end = kept[-length:-1], cores[-1]
    return all(
        kept[-(k + 1) * length : -k * length - 1] == phrase and cores[-k * length - 1] == end for k in range(1, times)
    )


COMMAND_REACH = 25


def tidy_sentence(text: str) -> str:
    """A prose text in Latin script with its first letter in upper case and, where it is a sentence, a full stop.

    Answers of a few words ("forty-two") stay as they are.
    """
    words = text.split()
    if len(words) < 4 or not text[:1].isalpha() or not text[0].isascii():
        return text
    command = " -" in text[:COMMAND_REACH]  # "git reset --hard" is not a word in lower case
    if text[0].islower() and words[0].isalpha() and (len(words[0]) > 1 or words[0] in "ai") and not command:
        text = text[0].upper() + text[1:]
    text = LONE_I.sub("I", text)
    return text + "." if len(words) >= 5 and text[-1].isalnum() and "\n" not in text else text
