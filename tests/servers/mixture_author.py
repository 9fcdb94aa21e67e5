"""The local OpenAI-shaped server, as a writer and spoiler of MIXTURE's samples: obedient, but for every few prompts.

    python -m tests.servers.mixture_author --port 0 --log FILE [--faults …]

Asked to write, it takes a passage's own sentences; asked for poor versions, it drops sentences of the sample. By the
prompt's hash, one answer in four has a fault of its own: a number that the passage lacks, an invented name in a clause
after a true one, a claim in other words, a sample out of form, no tags. Its inventions hold one of ``INVENTED``, so
that a test can look for them anywhere.
"""

from __future__ import annotations

import hashlib
import re

from tests.servers import openai_server

INVENTED = ("Zorbania", "987654", "quixotic marmalade")
_DATA = re.compile(r"<<<(\w+) (passage|sample)\n(.*?)\n\1>>>", re.DOTALL)
_TYPE = re.compile(r"[Tt]ask type:? (qa|mcq|tfq|cs|para)")
_other = openai_server.answer_text
_TOPIC = re.compile(r"The topic: (.*?)\.\n")


def sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])\s+", text) if s]


def written(kind: str, topic: str, passage: str, fault: int) -> str:
    """A sample of the kind, made of the passage's first sentences; ``fault`` 0–4 spoils it, others do not."""
    first, second = [*sentences(passage), "", ""][:2]
    if fault == 0:
        first = re.sub(r"\.$", " with 987654 others.", first)
    elif fault == 1:
        second = re.sub(r"\.$", ", which delighted the mayor of Zorbania.", second)
    elif fault == 2:
        second = "Many eager visitors praise its quixotic marmalade and other sweet delicacies."
    form = {
        "qa": f"Q: What is told of {topic}?\nA: {first} {second}",
        "mcq": f"Q: Which is said of {topic}?\nA) {first}\nB) It never was.\nC) Nobody knows it.\nD) It is a song.\n"
        f"Answer: A) {first}\n{second}",
        "tfq": f"{first}\nAnswer: True\n{second}",
        "cs": f"C: {topic}\nS: {first} {second}",
        "para": " ".join([first, second, *sentences(passage)[2:4]]),
    }[kind]
    if fault == 3:
        form = form.replace("\n", " ") if kind != "para" else "<answer>"
    return form if fault == 4 else f"<think>It uses two facts.</think>\n<answer>\n{form}\n</answer>"


def spoiled(sample: str, fault: int) -> str:
    """Four versions of a sample; of ``fault`` 0–2 one of them is an invention, out of form, or the sample itself."""
    *head, last = sample.split("\n")
    kept = sentences(last)
    versions = ["\n".join([*head, " ".join(kept[:n] or kept)]) for n in (1, 2)]
    versions.append("\n".join([*head, " ".join(kept[1:] or kept).lower()]))
    versions.append("\n".join([*head, f"{kept[0]} I think so."]))
    if fault == 0:
        versions[1] = sample + " Zorbania agrees."
    elif fault == 1:
        versions[1] = "no form at all" if head else "It has 987654 parts."
    elif fault == 2:
        versions[1] = sample
    return "\n".join(f"<variant>\n{version}\n</variant>" for version in versions)


def answer(body: dict, digest: str) -> str:
    """What the server says: decided by the prompt alone, so that a resumed build is told the same."""
    whole = "\n".join(str(m.get("content", "")) for m in body["messages"])
    data = _DATA.search(whole)
    kind = _TYPE.findall(whole)
    if not data or data[2] not in ("passage", "sample") or not kind or "Rate the sample" in whole:
        return _other(body, digest)
    fault = int(hashlib.blake2b(whole.encode(), digest_size=4).hexdigest(), 16) % 20
    if data[2] == "sample":
        return spoiled(data[3], fault)
    topic = _TOPIC.search(whole)
    said = topic[1] if topic and topic[1] != "not given" else " ".join(data[3].split()[:2])
    return written(kind[-1], said, data[3], fault)


if __name__ == "__main__":
    openai_server.answer_text = answer
    openai_server.main()
