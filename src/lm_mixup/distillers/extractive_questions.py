"""Questions: which exchange of a conversation stands by itself, which questions are one, and how several are joined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lm_mixup.distillers.extractive_clean import LONE_I, clean
from lm_mixup.distillers.extractive_open import RANKS, kind_of, subject_of
from lm_mixup.distillers.extractive_whole import is_refusal
from lm_mixup.distillers.extractive_words import WORD, content_order, content_words, numbers
from lm_mixup.distillers.segments import split_sentences
from lm_mixup.records import Message, Sample

SAME_QUESTION = 0.8
"""Two questions with so large a share of their content words in common (Jaccard) are one …"""
SAME_QUESTION_WITH_ANSWERS = 0.55
"""… and with so large a share, where their answers are alike too."""
ANSWERS_ALIKE = 0.2
"""Share of the shorter answer's content words that stand in the other, for answers to be alike."""
RELATED_QUESTION = 0.25
"""Questions with so large a share of the shorter one's content words in common may be joined."""
RELATED_FIRMLY = 0.5
"""With so large a share they may be joined whatever their answers say."""
CROSS_LEAST = 2
"""Questions without a common word may be joined where their answers speak of so many of the other's words."""
FRAME_WORDS = 12
"""Questions of one frame ("Where is …?") are joined where they are no longer than this, …"""
FRAME_ANSWER_STEMS = 25
"""… and their answers not richer than this."""
KEYWORDS_MOST = 10
"""A turn of at most so many words without a mark at its end is a query in keywords."""
STANDALONE_LEAST = 3
"""A later turn stands by itself only with so many content words, and none that points back."""

_POINTS_BACK = re.compile(
    r"\b(?:it|its|this|that|these|those|they|them|he|she|him|her|above|previous|earlier|again|instead"
    r"|same|other|another|else|also|too|more|first one|"
    r"second one|you (?:said|mentioned|wrote|gave|just|repeated)|your (?:answer|last|previous|response"
    r"|reply|code|list|example)|continue|go on|rewrite|"
    r"shorter|longer|thanks?|thank you|no|ok|okay|yes|and|but|so)\b",
    re.IGNORECASE,
)
_ACKNOWLEDGES = re.compile(
    r"^(?:(?:okay|ok|yes|no|thanks?(?: you)?|great|cool|nice|perfect|well|so|and|but)\b[^.!?\n,]{0,30}[.!,]\s*)+",
    re.IGNORECASE,
)
_PLAIN_SYSTEM = re.compile(
    r"^\s*you are (?:a|an) (?:[\w-]+,? ){0,4}(?:assistant|chatbot|ai|model)\b[^\n]{0,120}$", re.IGNORECASE
)
_TRAILING_LABEL = re.compile(
    r"(?:\n\s{0,20}(?:a|answer|response|output|the answer is)\s{0,4}:\s{0,20})+$", re.IGNORECASE
)
_EMPTY_FRAME = re.compile(r"^[^\n]{0,120}:[ \t]{0,8}\n\s{1,20}(?:Q|Question)\s{0,4}:\s{0,8}(?=\S)", re.IGNORECASE)
_LEADING_LABEL = re.compile(r"^(?:q|question|user|human|prompt|instruction)\s*:\s*(?=\S)", re.IGNORECASE)
_ASKS = re.compile(
    r"(?:(?:please|can you|could you|would you|kindly)[ ,]+)*(?:who|what|whats|what's|when|where|which"
    r"|whose|whom|why|how|is|are|was|were|do|does|did|can|could|"
    r"should|would|will|has|have|am|explain|describe|define|list|name|identify|classify|give|tell|compare"
    r"|discuss|outline|summari[sz]e|suggest|"
    r"provide|state|mention|categorize|extract|find|tell|select|choose)\b",
    re.IGNORECASE,
)
_ARTEFACT = re.compile(
    r"(?:^|[.!?:,\n]\s{0,4}|\b(?:please|can you|could you|would you|you to|you will|help me|to me|need to|and)\s)"
    r"(?:please\s)?(?:re-?)?(?:write|create|compose|draft|generate|make (?:a|an|me|up|some)|come up"
    r"|design|draw|code|implement|phrase|paraphrase|translate|edit|fix|correct|summari[sz]e|act as"
    r"|pretend|imagine|role-?\s?play|tell me a|invent|produce|continue|"
    r"complete|convert|classify|categori[sz]e|extract|outline|sort|format|solve|think up)\b"
    r"|(?<!\bfor )(?<!\bof )(?<!\bin )(?<!\babout )(?<!writing )\b(?:a|an|the|some|\d{1,3}|my|short|python|bash|sql)"
    r" (?:\w{1,20} ){0,2}(?:script|poem|story|jokes?|essay"
    r"|e-?mail|letter|song|lyrics|haiku|limerick|regex|tweet|speech|blog|dialogue?|screenplay|recipe|ascii)\b",
    re.IGNORECASE,
)
_PLEASE = re.compile(r"[ ,]+(?:pls|plz|plss)(?=[?.!]*$)", re.IGNORECASE)
_ASKING = frozenset({"why", "measure", "when", "where", "how", "who", "what"})
_WH = re.compile(r"(?:why|how|when|where|who|which|what (?!would|could|should))", re.IGNORECASE)
_SORTING = re.compile(
    r"(?:please |can you |could you )*(?:classify|categori[sz]e|sort|extract|identify|tell me (?:whether"
    r"|which|if)|solve)\b",
    re.IGNORECASE,
)
"""Requests for one set answer: not to be mixed, but able to stand in a row."""
_NEEDS_CONTEXT = re.compile(
    r"\b(?:listed|passage|paragraphs?(?! of)|given|above|below|text|article|context|based on|according to"
    r"|reference|mentioned|provided|sentence|extract|following(?! [\w' -]{1,60}: ?\S)|the author|th(?:is|ese"
    r"|ose)(?![^:]{0,80}: ?\S)"
    r"(?! (?:day|year|week|month|time)))\b",
    re.IGNORECASE,
)
_PERSONAL = re.compile(r"\b(?:you|your|you're|yours|yourself|hal|alexa|siri)\b", re.IGNORECASE)
_POLITE = re.compile(
    r"^(?:please |can you |could you |would you )+"
    r"|\b(?:how|what|where|when|why) (?:do|would|should|can|could) you\b(?! (?:not|like|feel|think|want|love"
    r"|hate|know))"
    r"|\b(?:if|when|that|things|ways|steps) you (?:can|could|should|need to|have to|want to|are)\b",
    re.IGNORECASE,
)
_ADDRESSED = re.compile(
    r"^(?:are|were|have|will|what(?:'s| is| are) your|do you|did you|can you|could you|would you|who are|how "
    r"are) ?you?\b"
    r"|\b(?:do|did|would|can|could) you (?:like|feel|think|want|love|hate|believe|prefer|have|know|remember"
    r"|dream|eat|drink)\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|im|my|me|we|our)\b", re.IGNORECASE)
_TELLING = re.compile(r"^(?:please |can you |could you |would you |do you know )+", re.IGNORECASE)
_GENERIC = frozenset(
    content_words(
        "best difference differences between main example examples name names people person world kind kinds "
        "type types good popular famous first last "
        "top different following sentence paragraph text question answer passage given based reference "
        "context identify classify instrument "
        "options true false statement time year years day number important called come create take work help "
        "mean part place used using new old "
        "month week hour century series season famous species community country state city group number "
        "color song film show game words lyrics grow "
        "summarize article movie title please correctly situation fact information list lists bullet points"
    )
)
_KINDS = re.compile(r"\b(?:how (?:many|much|long|often|old|far)|when|where|who)\b", re.IGNORECASE)
"""What is asked for (a count, a time, a place, a person): where it differs, the questions differ."""
KIND_REACH = 200
ORDER_REACH = 60
_SOFT = content_words("general basic main simple typical common exactly really actually briefly short detail details")
"""Words that shade a question without making it another."""
_OPPOSITES = frozenset(
    content_words(
        "higher lower more less greater smaller larger bigger increase decrease before after above below "
        "first last best worst cause effect advantage "
        "disadvantage advantages disadvantages pros cons left right male female positive negative minimum "
        "maximum least most oldest youngest highest lowest older younger"
    )
) | {"more", "less", "most", "least", "not", "before", "after"}


@dataclass(frozen=True, slots=True)
class Question:
    """A user turn, cleaned, with its words.

    ``stems`` are its content words, ``order`` the same in order; ``signs`` the numbers and negations that tell it
    apart; ``subject`` what an open request is about, ``wide`` where it asks more than that.
    """

    text: str
    stems: frozenset[str]
    signs: frozenset[str]
    names: frozenset[str]
    kind: str = "other"
    subject: frozenset[str] = frozenset()
    wide: bool = False
    order: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Question:
        """The question that a cleaned text asks."""
        words = WORD.findall(text)
        stems = (content_words(text) - _SOFT) or content_words(text)
        folded = {word.casefold().replace("’", "'") for word in words}
        signs = (
            numbers(stems)
            | (_OPPOSITES & (folded | stems))
            | {word for word in folded if word.endswith("n't") or word == "not"}
        )
        signs |= {found.casefold() for found in _KINDS.findall(text[:KIND_REACH])}
        names = frozenset(
            word.casefold()
            for i, word in enumerate(words)
            if i and word[0].isupper() and not word.isupper() and len(word) > 2
        )
        subject, wide = subject_of(text)
        order = content_order(words[:ORDER_REACH])
        return cls(text, stems, signs, names, kind_of(text[:KIND_REACH]), subject, wide, order)

    @property
    def artefact(self) -> bool:
        """Whether it asks for one made thing (a text, code, a rewriting), of which two cannot be mixed."""
        if self.subject or (self.kind in _ASKING and _WH.match(self.text)):
            return False  # "Write an article on rivers", "How do I make a song?"
        return _ARTEFACT.search(self.text[:300]) is not None

    @property
    def asks(self) -> bool:
        """Whether it is a plain question or request, of a kind that can stand in a row with others."""
        text = self.text
        return text.endswith(("?", "？", "؟")) or _ASKS.match(text) is not None

    @property
    def made(self) -> bool:
        """Whether it asks for something written or built, which is no answer among others."""
        return self.artefact and _SORTING.match(self.text) is None

    @property
    def keyword(self) -> bool:
        """Whether it is a query in keywords ("lower back pain from desk work"), which means a question."""
        words = self.text.split()
        return 1 < len(words) <= KEYWORDS_MOST and self.text[-1].isalnum() and not _FIRST_PERSON.search(self.text)

    @property
    def rank(self) -> int:
        """Its place among others asked in the same breath: what it is first, whether it is so last."""
        return RANKS["open" if self.subject and not self.wide else self.kind]

    @property
    def stands(self) -> bool:
        """Whether it can be understood, and asked by anyone, without what came before it."""
        if _NEEDS_CONTEXT.search(self.text) or _ADDRESSED.search(_TELLING.sub("", self.text)):
            return False
        return not _PERSONAL.search(_POLITE.sub("", self.text))


def exchange(sample: Sample) -> tuple[str, str]:
    """The user turn and the answer of a sample that make sense by themselves.

    Of one turn: that one, after a system prompt that says more than "you are a helpful assistant". Of several turns:
    of the first and the later ones whose user turn stands by itself the one with the fullest answer.
    """
    messages = sample.messages
    if len(messages) == 2:
        return messages[0].content, messages[1].content
    turns = _turns(messages)
    if not turns:
        return sample.prompt, sample.completion
    system = "\n\n".join(
        m.content for m in messages if m.role == "system" and not _PLAIN_SYSTEM.match(m.content)
    ).strip()
    # the first turn stands by itself; of those later ones that do, the fullest answer is taken
    standing = [turns[0], *(turn for turn in turns[1:] if _stands(turn[0]) and not is_refusal(turn[1]))]
    question, answer = max(standing, key=lambda turn: len(content_words(turn[1])))
    return (f"{system}\n\n{question}" if system else question), answer


def _stands(turn: str) -> bool:
    plain = _ACKNOWLEDGES.sub("", turn)
    return len(content_words(plain)) >= STANDALONE_LEAST and not _POINTS_BACK.search(plain)


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    question = ""
    for message in messages:
        if message.role == "user":
            question = message.content
        elif message.role == "assistant" and question and message.content.strip():
            if turns and turns[-1][0] is question:
                turns[-1] = (question, message.content)  # after a tool's answer: the final word counts
            else:
                turns.append((question, message.content))
    return turns


def clean_question(text: str) -> str:
    """A user turn without tags, empty template frames and labels."""
    text = clean(text, request=text, answer=False)
    text = _TRAILING_LABEL.sub("", text).rstrip()
    text = _EMPTY_FRAME.sub("", text, count=1)
    return _LEADING_LABEL.sub("", text, count=1).strip() if "\n" not in text.strip() else text.strip()


def same_question(a: Question, b: Question, answers: tuple[frozenset[str], frozenset[str]]) -> bool:
    """Whether two user turns ask the same. ``answers`` are the content words of their answers.

    Open requests about one subject do, whatever their wording. Turns of another kind (why, how, who …), or that differ
    in a number, a name, a negation, an opposite (higher, lower) or the order of their words, never do.
    """
    if a.text == b.text or a.text.casefold().strip(" ?.!") == b.text.casefold().strip(" ?.!"):
        return True
    if a.subject and b.subject:
        return a.subject == b.subject
    if a.signs != b.signs or not a.stems or not b.stems or bool(a.subject) != bool(b.subject):
        return False
    if a.kind != b.kind and "other" not in (a.kind, b.kind):
        return False
    shared = len(a.stems & b.stems)
    share = shared / (len(a.stems) + len(b.stems) - shared)
    if share < SAME_QUESTION_WITH_ANSWERS:
        return False
    if a.names and b.names and a.names ^ b.names and share < 1.0:
        return False
    shortest = min(len(answers[0]), len(answers[1]))
    if share < 1.0 and shortest < 5 and answers[0] != answers[1]:
        return False
    common = len(answers[0] & answers[1])
    both = a.stems & b.stems
    if [s for s in a.order if s in both] != [s for s in b.order if s in both] and common < 0.5 * shortest:
        return False  # "What makes a good unit test?", "What are unit tests good for?"
    alike = common >= ANSWERS_ALIKE * shortest
    # in a long turn a single word can turn the question: there only answers that agree show that they are one
    return alike if share < SAME_QUESTION or len(a.stems) > 25 else True


def related(a: Question, b: Question, answers: tuple[frozenset[str], frozenset[str]]) -> bool:
    """Whether two different questions are about one thing, or have one frame, so that one user might ask both."""
    mine, theirs = a.stems - _GENERIC, b.stems - _GENERIC
    shared = (mine & theirs) - numbers(mine)
    share = len(shared) / (min(len(mine), len(theirs)) or 1)
    if share >= RELATED_FIRMLY:
        return True
    if share >= RELATED_QUESTION:
        # what they share must matter to one at least: an answer speaks of it, or is too short to
        return any(len(answer) <= 6 or shared & answer for answer in answers)
    if len(mine & answers[1]) + len(theirs & answers[0]) >= CROSS_LEAST and not mine.isdisjoint(answers[1] | theirs):
        return True
    return _frame(a) == _frame(b) != "" and max(map(len, answers)) <= FRAME_ANSWER_STEMS


def _frame(question: Question) -> str:
    """The first two words of a short question that asks something, or ""."""
    words = question.text.casefold().split()
    return " ".join(words[:2]) if 2 < len(words) <= FRAME_WORDS and question.kind != "other" else ""


def best_wording(questions: Sequence[str]) -> str:
    """Of several wordings of one question the best formed; the first of equals."""

    def flaws(text: str) -> int:
        asks = text.endswith(("?", ".", "!", "？", "؟", "。", ":"))
        return (
            2 * (not asks) + (text[:1].islower()) + (" ?" in text or " ." in text) + (text.isupper() and len(text) > 12)
        )

    return min(questions, key=flaws)


def finish_question(text: str) -> str:
    """A question with its first letter in upper case and a mark at its end."""
    text = _PLEASE.sub("", text.strip())
    if not text:
        return text
    if text[0].islower() and text[0].isascii():
        text = text[0].upper() + text[1:]
    text = LONE_I.sub("I", text)
    if text[-1].isalnum() and text[-1].isascii() and "\n" not in text:
        asks = re.match(
            r"(?:who|what|when|where|which|whose|why|how|is|are|was|were|do|does|did|can|could|should|would|will"
            r"|has|have|pourquoi|comment|quand|où|quel|quelle|quels|quelles|combien|wo|was|wie|wann|warum|wer"
            r"|wieso|welcher?"
            r"|cómo|cuándo|cuando|dónde|cuál|quién|cuánto)\b",
            split_sentences(text)[-1],
            re.IGNORECASE,
        )
        text += "?" if asks else "."
    return text
