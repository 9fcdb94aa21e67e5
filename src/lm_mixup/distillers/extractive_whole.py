"""What of a cleaned answer is fit to keep: random tokens, cut-off ends, repeats and talk about the "
"talk are told apart.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from lm_mixup.distillers.extractive_words import FUNCTION_WORDS, WORD, word_set
from lm_mixup.distillers.segments import Kind, Segment, list_items, segment, split_sentences

_PLACEHOLDER = re.compile(r"_URL_\d+_|\[(?:URL|LINK)\]")
_INNER_CAPITAL = re.compile(r"[a-zà-ÿ][A-Z]")
_MIXED_SCRIPT = re.compile(
    "[A-Za-z][\u0370-\u03ff\u0400-\u1fff\u3040-\ud7ff]|[\u0370-\u03ff\u0400-\u1fff\u3040-\ud7ff][A-Za-z]|\ufffd"
)
_SOUP_WINDOWS = (12, 24)
_SOUP_STRANGE = 3
_SOUP_FUNCTION_SHARE = 0.13
"""Random tokens: so many strange words in a window of so many, of which so small a share are function words."""

_META = re.compile(
    r"^(?:(?:hello|hi|hey|greetings|dear|welcome)\b.{0,60}$"
    r"|i hope (?:this|that|it)|hope (?:this|that|it) helps|let me know|feel free|please let me know|if "
    r"you have any (?:other |further |more )?questions"
    r"|do you have any|is there anything|would you like|happy to help|good luck|you're welcome|thank you"
    r"|thanks|source:|sources:|edit:|tl;?dr"
    r"|as an ai|as a (?:large )?language model|i am an ai|i'm an ai|i am a helpful|i am (?:a|an) (?:open"
    r"|large|chat|ai)|i'm (?:a|an) (?:open|large|chat|ai)"
    r"|stay safe|take care|have (?:a|an) (?:nice|great|good|lovely|wonderful) |enjoy!|cheers\b|idk\b|lol\b|i "
    r"don'?t know\b.{0,12}$"
    r"|that'?s (?:it|all)[.!]|hope (?:so|you)|hope it|you'?ve? got this|don'?t worry, everything|careful[.!]"
    r"|fun fact[.!]"
    r"|(?:\S+ ){1,6}(?:is|are) (?:a |an )?(?:very |really |quite )?(?:interesting|fascinating|cool|great|good"
    r"|broad|complex"
    r"|nice)(?: and \w+)? (?:topic|subject|question|thing)s?\b"
    r"|(?:there (?:is|are)|i could|one could) (?:so )?much (?:more )?to say"
    r"|i am joi|i'm open ?assistant|i am open ?assistant|below (?:is|are) (?:a|an|the|some) "
    r"(?:instruction|question|example)|here'?s? (?:is )?(?:my|the) (?:answer|response)"
    r"|(?:sure|certainly|of course|absolutely|okay|ok|yes of course|great question|good question)[!,. ])",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(?:i'?m|i am|we are|my apologies|i apologi[sz]e|\bsorry)\b[^.\n]{0,40}(?:sorry|not sure|unable"
    r"|cannot|can't|don't|do not|afraid|confusion|not able)"
    r"|\bi (?:do not|don't|cannot|can't|am not able to|am unable to) (?:understand|know|answer|help|have "
    r"(?:access|enough|any|the|personal)|provide|find|see|think i can)"
    r"|\b(?:can|could) you (?:please )?(?:clarify|rephrase|be more specific|provide more|explain what you "
    r"mean)|\binsufficient information\b|\bnot enough information\b"
    r"|\bplease (?:provide|clarify|rephrase|specify) (?:more|your|the|some|a)\b|\b(?:it'?s|it is) not "
    r"clear (?:what|which|if|whether) you|\bwhat do you mean\b"
    r"|\bi'?m not sure\b|\bi have no idea\b|\bi was (?:curious|wondering)\b",
    re.IGNORECASE,
)
FILLER_CHARS = 40
UNCUT_CHARS = 350
"""Texts of no more characters are not thought to have been cut off by a limit."""
UNCUT_WORDS = 4
_OPENS_CLAUSE = word_set("and or but because when which that if so while although since who where as than then")
_OPENS_PHRASE = word_set(
    "the a an this these those his her its their our my your of in on at to for from with by not no"
)
_WANTS_MORE = FUNCTION_WORDS | word_set(
    "because between into than about through during such very more most being been quand que qui et der die das und"
) - word_set("it this that these those there so not")
_ENDS_WHOLE = re.compile(r"[.!?…。！？｡؟۔।॥:;*`|$%)\]}>\"'”’»」』）~]\s*$|[\U0001f300-\U0001faff☀-➿]\ufe0f?\s*$")


def is_refusal(text: str) -> bool:
    """Whether a text (short, or by its first words) declines to answer."""
    return _REFUSAL.search(text[:200].replace("’", "'")) is not None


def is_meta(sentence: str) -> bool:
    """Whether a sentence speaks about the conversation, not about the question."""
    return _META.match(sentence.replace("’", "'")) is not None


def is_filler(sentence: str) -> bool:
    """Whether a sentence says nothing, wherever it stands: "Stay safe!", "lol", "Great question!"."""
    return len(sentence) < FILLER_CHARS and _META.match(sentence) is not None and sentence[-1:] in ".!"


def breaks_off(sentence: str) -> bool:
    """Whether the last word of a sentence wants another one: "… ranging from"."""
    words = WORD.findall(sentence[-40:].casefold())
    return bool(words) and words[-1] in _WANTS_MORE


def is_finished(sentence: str, *, text_chars: int) -> bool:
    """Whether a last sentence without a full stop was left without it by its author, and not cut off.

    So it is in a short English text, where it does not end in a word that wants another one, nor in the beginning of a
    clause ("… and the machine").
    """
    words = WORD.findall(sentence.casefold())
    if text_chars > UNCUT_CHARS or len(words) < UNCUT_WORDS or not sentence.rstrip()[-1:].isalnum():
        return False
    if words[-1] in _WANTS_MORE or len(words[-1]) < 2 or sum(word in FUNCTION_WORDS for word in words) < 2:
        return False
    opened = max((i for i, word in enumerate(words) if word in _OPENS_CLAUSE), default=-1)
    tail = words[opened + 1 :]
    if opened < 0 or len(tail) > 2:
        return True
    return len(tail) > 0 and tail[0] not in _OPENS_PHRASE and (len(tail) == 2 or words[opened] in ("and", "or"))


def is_whole(text: str) -> bool:
    """Whether a text ends as one that was finished does: with a mark of punctuation, a bracket, or the like."""
    return _ENDS_WHOLE.search(text[-8:]) is not None


def is_closed(block: Segment) -> bool:
    """Whether a fenced block or a formula was finished: its closing mark is there."""
    body = block.text.strip()
    first = body.split("\n", 1)[0].strip()
    if first.startswith(("```", "~~~")):
        return "\n" in body and body.rstrip().endswith(first[:3])
    if first.startswith("$$"):
        return len(body) > 3 and body.endswith(("$$", "$$."))
    return not first.startswith("\\[") or "\\]" in body


def is_soup(text: str, *, code: bool = False) -> bool:
    """Whether a sentence, an item or a block turns into random tokens, as a broken sampler writes them.

    Seen by words with capitals inside or two scripts in one word, several in a short window that holds hardly a
    function word. In code, where such words are usual, only a line of many bare words counts.
    """
    if code:
        return any(_is_soup_line(line) for line in text.split("\n"))
    if len(_INNER_CAPITAL.findall(text)) + 2 * len(_MIXED_SCRIPT.findall(text)) < _SOUP_STRANGE:
        return False
    words = text.split()
    strange = [_strange(word) for word in words]
    plain = [word.casefold().strip(".,;:!?()\"'") in FUNCTION_WORDS for word in words]
    for window in _SOUP_WINDOWS:
        strange_now, plain_now = sum(strange[:window]), sum(plain[:window])
        for end in range(window, len(words) + 1):
            if end > window:
                strange_now += strange[end - 1] - strange[end - 1 - window]
                plain_now += plain[end - 1] - plain[end - 1 - window]
            if strange_now >= _SOUP_STRANGE and plain_now <= _SOUP_FUNCTION_SHARE * window:
                return True
    return False


def _is_soup_line(line: str) -> bool:
    words = line.split()
    if len(words) < _SOUP_WINDOWS[0] or line.lstrip().startswith(("#", "//", "*", "--", ";")):
        return False
    bare = sum(word.isalpha() for word in words)
    plain = sum(word.casefold() in FUNCTION_WORDS for word in words)
    mixed = sum(map(_strange, words))
    return bare >= 0.6 * len(words) and plain <= _SOUP_FUNCTION_SHARE * len(words) and mixed >= _SOUP_STRANGE


def _strange(word: str) -> int:
    if "/" in word or "." in word[1:-1] or "_" in word or "`" in word or "@" in word:
        return 2 if _MIXED_SCRIPT.search(word) else 0
    return (2 if _MIXED_SCRIPT.search(word) else 0) or (1 if _INNER_CAPITAL.search(word) else 0)


def whole_segments(text: str) -> tuple[list[Segment], int]:
    """The segments of a cleaned answer that are fit to keep, and how many were dropped.

    Dropped: everything from where random tokens begin; a sentence with a placeholder or an undecodable character; a
    sentence, list item or block that was cut off at the end; a second copy of a sentence or an item.
    """
    pieces, dropped = _before_soup(segment(text))
    cut = dropped > 0
    pieces = [piece for piece in pieces if piece.text.strip()]
    if len(pieces) > 1 or (pieces and pieces[0].kind is not Kind.PROSE):
        pieces, cut_off = _without_cut_end(pieces, text_cut=cut)
        dropped += cut_off
    seen: set[str] = set()
    kept: list[Segment] = []
    for piece in pieces:
        if piece.kind is Kind.LIST:
            rest, lost = _without_repeated_items(piece, seen)
            dropped += lost
            if rest is not None:
                kept.append(rest)
            continue
        same = " ".join(WORD.findall(piece.text.casefold()))
        unfit = piece.kind is Kind.PROSE and ("\ufffd" in piece.text or _PLACEHOLDER.search(piece.text) is not None)
        if unfit or (len(same) > 12 and same in seen):
            dropped += 1
            if kept and "\n\n" in piece.text:  # the paragraph ends all the same
                kept[-1] = Segment(kept[-1].kind, kept[-1].text.rstrip() + "\n\n")
            continue
        seen.add(same)
        kept.append(piece)
    if len(kept) == 1 and kept[0].kind is Kind.PROSE and kept[0].text.rstrip().endswith((":", "：")):
        return [], dropped + 1  # a lead-in that leads to nothing
    return kept, dropped


def _before_soup(pieces: list[Segment]) -> tuple[list[Segment], int]:
    """The pieces before random tokens begin (of a list, the items before), and how many were cut away."""
    for number, piece in enumerate(pieces):
        if not is_soup(piece.text, code=piece.kind in (Kind.CODE, Kind.MATH, Kind.TABLE)):
            continue
        kept = pieces[:number]
        if piece.kind is Kind.LIST:
            items = list_items(piece.text)
            first = next((i for i, item in enumerate(items) if is_soup(item)), 0)
            if first:
                kept.append(Segment(Kind.LIST, "".join(items[:first]).rstrip() + "\n"))
        return kept, len(pieces) - number
    return pieces, 0


def _without_cut_end(pieces: list[Segment], *, text_cut: bool) -> tuple[list[Segment], int]:
    last = pieces[-1]
    if last.kind is Kind.PROSE and len(pieces) > 1:
        done = is_finished(last.text, text_chars=sum(len(p.text) for p in pieces))
        if text_cut or (not is_whole(last.text) and not done and _punctuated(pieces[:-1])):
            # what broke off is dropped, and a lead-in ("Here are some ideas:") that now leads to nothing with it
            rest = pieces[:-1] if not is_whole(last.text) else pieces
            return _without_dangling(rest), len(pieces) - len(rest)
    elif last.kind in (Kind.CODE, Kind.MATH) and not is_closed(last) and len(pieces) > 1:
        rest = _without_dangling(pieces[:-1])
        # an answer that is all code stays, cut or not; one with an explanation goes on without the stump
        if sum(len(p.text) for p in rest) >= 2 * len(last.text):
            return rest, 1
    elif last.kind is Kind.LIST:
        items = list_items(last.text)
        if len(items) > 2 and not is_whole(items[-1]) and sum(map(is_whole, items[:-1])) >= 0.6 * (len(items) - 1):
            return [*pieces[:-1], Segment(Kind.LIST, "".join(items[:-1]).rstrip() + "\n")], 1
        sentences = split_sentences(items[-1]) if items and not is_whole(items[-1]) and "```" not in items[-1] else []
        if len(sentences) > 1 and is_whole(sentences[-2]):
            items[-1] = "".join(sentences[:-1])
            return [*pieces[:-1], Segment(Kind.LIST, "".join(items).rstrip() + "\n")], 1
    elif last.kind is Kind.HEADING and len(pieces) > 1:
        return _without_dangling(pieces[:-1]), 1
    return _without_dangling(pieces), 0


def _without_dangling(pieces: list[Segment]) -> list[Segment]:
    while len(pieces) > 1 and (
        pieces[-1].kind is Kind.HEADING or pieces[-1].text.rstrip().endswith((":", "：")) or _numbered_heading(pieces)
    ):
        pieces = pieces[:-1]
    return pieces


def _numbered_heading(pieces: list[Segment]) -> bool:
    """Whether the last piece is the bare next number of an answer in numbered sections."""
    last = pieces[-1]
    return (
        last.kind is Kind.LIST
        and not is_whole(last.text)
        and len(list_items(last.text)) == 1
        and any(a.kind is Kind.LIST and b.kind is Kind.PROSE for a, b in itertools.pairwise(pieces))
    )


def repetition(text: str) -> float:
    """How much of a text is said in words that it has used before: the share of its triples of words "
    "that recur, in [0, 1).
    """
    words = WORD.findall(text.casefold())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1.0 - len(set(triples)) / len(triples) if len(triples) > 20 else 0.0


def _punctuated(pieces: list[Segment]) -> bool:
    prose = [p for p in pieces if p.kind is Kind.PROSE]
    return not prose or sum(is_whole(p.text) for p in prose) >= 0.6 * len(prose)


_MARKER = re.compile(r"^(\s*)(\(?(\d{1,3})[.)]|[-*+•–●▪]|\(?[a-zA-Z]{1,4}[.)])(\s+)")


def _without_repeated_items(block: Segment, seen: set[str]) -> tuple[Segment | None, int]:
    items = list_items(block.text)
    kept = []
    for item in items:
        same = " ".join(WORD.findall(_MARKER.sub("", item).casefold()))
        if not same or same in seen:
            continue
        seen.add(same)
        kept.append(item)
    if len(kept) == len(items):
        return block, 0
    if not kept:
        return None, len(items)
    return Segment(block.kind, renumber("".join(kept).rstrip() + "\n")), len(items) - len(kept)


def renumber(text: str) -> str:
    """A list block with its top-level numbers, where it has numbers, counted on from the first."""
    items = list_items(text)
    first = _MARKER.match(items[0]) if items else None
    if not first or not first[3]:
        return text
    count, result = int(first[3]), []
    for item in items:
        found = _MARKER.match(item)
        if found and found[3]:
            item = item[: found.start(3)] + str(count) + item[found.end(3) :]
            count += 1
        result.append(item)
    return "".join(result)


def items_of(block: Segment) -> Iterator[tuple[str, str]]:
    """Marker and text of each item of a list block."""
    for item in list_items(block.text):
        found = _MARKER.match(item)
        yield (found[0], item[found.end() :]) if found else ("", item)
