"""The prompt of models that were trained to distil: short, because a small model pays for every token.

MIXTURE's instruction of the task type as the system turn, the cluster's texts as ``Sample 1: …`` in the user turn.
Training, rewards, evaluation and distilling all build their prompts here, so that a model meets what it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lm_mixup.prompts import Messages, load
from lm_mixup.records import TaskType, digest

_SEPARATOR = re.compile(r"(?m)^(?=Sample \d+:)")


def labelled(number: int, text: str) -> str:
    """One text with its label. No text can write a label of its own: a line that looks like one gets a space."""
    return f"Sample {number}:\n{_SEPARATOR.sub(' ', text)}"


def compact(task_type: TaskType, texts: Sequence[str]) -> Messages:
    """The messages that ask for one sample of ``task_type`` made of ``texts``."""
    user = "\n\n".join(labelled(number, text) for number, text in enumerate(texts, start=1))
    instruction = load(f"mixture_instruction_{task_type}").render()[0]["content"]
    return ({"role": "system", "content": instruction}, {"role": "user", "content": user})


def completion(output: str, think: str = "") -> str:
    """What a trained model answers: ``output`` in the form that LM-Mixup asks for."""
    thought = f"{think}\n" if think else ""
    return f"<think>\n{thought}</think>\n<answer>\n{output}\n</answer>"


def compact_digest() -> str:
    """A hash of everything that shapes these prompts; it belongs into the key of what is asked with them."""
    shown = [[dict(message) for message in compact(task_type, ["a", "b"])] for task_type in TaskType]
    return digest([*shown, completion("a"), completion("a", "b")])
