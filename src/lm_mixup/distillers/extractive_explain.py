"""What a fusion did, in words: the ``think`` of a distillate."""

from __future__ import annotations

from collections.abc import Sequence

from lm_mixup.distillers.extractive_members import Member
from lm_mixup.distillers.extractive_units import Fused


def explain(
    base: Member, fused: Fused, members: Sequence[Member], same: Sequence[Member], parts: Sequence[Member]
) -> str:
    """What was done, in one or two sentences. Members are counted from 1, in the cluster's order."""
    if len(members) == 1 and not fused.unfit:
        return f"Member {base.number + 1} is the only one that can be used, and stands as it is."
    first = f"Member {base.number + 1} is the base"
    added = [(number, count) for number, count in sorted(fused.taken.items()) if number != base.number and count > 0]
    part_numbers = {m.number for m in parts}
    woven = [
        f"{count} {'sentence' if count == 1 else 'sentences'} of member {n + 1}"
        for n, count in added
        if n not in part_numbers
    ]
    if woven:
        first += "; it takes in " + ", ".join(woven)
    if parts:
        first += "; joined to it: the questions and answers of member " + ", ".join(str(m.number + 1) for m in parts)
    dropped = []
    if fused.repeats:
        dropped.append(f"{fused.repeats} repeated piece{'s' * (fused.repeats > 1)}")
    if fused.unfit:
        dropped.append(f"{fused.unfit} piece{'s' * (fused.unfit > 1)} unfit or off the topic")
    if fused.corrected:
        first += f"; {fused.corrected} of its claims went to the majority"
    taken_part = {m.number for m in same} | part_numbers | {base.number}
    asked = base.question.text
    for member in sorted(members, key=lambda m: m.number):
        if member.number not in taken_part:
            why = "another answer" if member.question.text == asked else "another question"
            dropped.append(f"member {member.number + 1} ({why})")
    return first + "." + (f" Left out: {'; '.join(dropped)}." if dropped else "")
